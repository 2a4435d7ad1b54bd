//! SIGTERM: what runs is finished, then the process ends well.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{Act, Setup, Upstream, Wire, client::Ask, ms, soon};

#[tokio::test]
async fn what_runs_is_finished_and_the_exit_code_is_0() {
    let upstream = Upstream::start(Act::say("Hello, drained world").every(ms(100))).await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    let mut messages = stream.messages().await;
    assert_eq!(messages.pop().as_deref(), Some("[DONE]"));
    assert!("Hello, drained world".ends_with(&messages.concat()), "{messages:?}");
    let status = gateway.exit(ms(3000)).await.expect("the process ends");
    assert_eq!(status.code(), Some(0));
    gateway.audit(1).await;
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready() {
    let upstream = Upstream::start(Act::say("Hello").every(ms(300))).await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    tokio::time::sleep(ms(100)).await;
    // Either the port is closed by now, or /readyz says no.
    if tokio::net::TcpStream::connect(gateway.address).await.is_ok() {
        assert_eq!(gateway.get("/readyz").await.status, 503);
    }
    stream.rest().await;
    assert!(gateway.exit(ms(3000)).await.is_some());
}

#[tokio::test]
async fn idle_connections_are_closed_and_the_metrics_port_says_that_it_drains() {
    let upstream = Upstream::start(Act::say("Hello").every(ms(300))).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let metrics = json!({"server": {"metrics_listen": free}});
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&metrics).start().await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut piece = [0; 4096];
    let size = idle.read(&mut piece).await.unwrap();
    assert!(String::from_utf8_lossy(&piece[..size]).starts_with("HTTP/1.1 200"));
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    let closed = tokio::time::timeout(ms(5000), async {
        // Whatever is left of the first answer, and then the end.
        while idle.read(&mut piece).await.is_ok_and(|size| size > 0) {}
    });
    closed.await.expect("the idle connection is closed");
    let ready = Ask::new(free, "GET", "/readyz").send().await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    stream.rest().await;
    assert!(gateway.exit(ms(5000)).await.is_some());
}

#[tokio::test]
async fn who_has_asked_nothing_yet_is_not_waited_for() {
    let upstream = Upstream::answering().await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut open = Vec::new();
    for said in
        ["", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /query HTTP/1.1\r\nhost: a\r\ncon"]
    {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        open.push(stream);
    }
    // All that they said has been read.
    assert_eq!(gateway.get("/livez").await.status, 200);
    gateway.signal("TERM");
    let status = gateway.exit(ms(4000)).await.expect("the process ends, though heads are not whole");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn draining_has_an_end() {
    let upstream = Upstream::start(Act::default().hang_after(4)).await;
    let settings = json!({"server": {"drain": "500ms"}, "timeouts": {"idle": "30s", "total": "30s"}});
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    assert!(gateway.exit(ms(3000)).await.is_some(), "a call that hangs holds up the exit");
}

/// Streams of a second each, 200 more every second. `SLUICE_DRAIN_SECONDS` makes them longer.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_answer_that_has_begun_is_cut_and_every_call_is_recorded() {
    let seconds: u64 = std::env::var("SLUICE_DRAIN_SECONDS").map_or(1, |text| text.parse().unwrap());
    let act = Act::say("0123456789").chunks_of(1).every(ms(seconds * 1000 / 10));
    let upstream = Upstream::start(act).await;
    let long = json!({
        // The beginning, the end and the bill are pieces of their own.
        "server": {"drain": format!("{}s", 2 * seconds + 5)},
        "timeouts": {"first_token": "60s", "idle": "60s", "total": "120s"},
    });
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&long).start().await;
    let (begun, whole) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (address, asking) = (gateway.address, Arc::new(AtomicBool::new(true)));
    let load = {
        let (begun, whole, asking) = (begun.clone(), whole.clone(), asking.clone());
        tokio::spawn(async move {
            let (start, mut streams) = (Instant::now(), JoinSet::new());
            for number in 0.. {
                tokio::time::sleep_until((start + ms(number * 5)).into()).await;
                if !asking.load(SeqCst) {
                    break;
                }
                let (begun, whole) = (begun.clone(), whole.clone());
                streams.spawn(async move {
                    let body = json!({"prompt": "Hi", "user_id": "u", "mode": "chat"});
                    let Ok(mut stream) = Ask::new(address, "POST", "/stream").json(&body).try_stream().await
                    else {
                        return;
                    };
                    if stream.head.status == 200 {
                        begun.fetch_add(1, SeqCst);
                        let messages = stream.messages().await;
                        let good = messages.concat() == "0123456789[DONE]";
                        whole.fetch_add(usize::from(good), SeqCst);
                    }
                });
            }
            streams.join_all().await;
        })
    };
    assert!(soon(ms(20_000), || begun.load(SeqCst) >= 150).await);
    let ready = async |address| match Ask::new(address, "GET", "/readyz").try_stream().await {
        Ok(answer) => answer.head.status == 200,
        Err(_) => false,
    };
    assert!(ready(address).await);
    gateway.signal("TERM");
    let told = Instant::now();
    while ready(address).await {
        assert!(told.elapsed() < ms(2000), "it still says that it is ready");
        tokio::time::sleep(ms(2)).await;
    }
    println!("not ready after {:?}", told.elapsed());
    asking.store(false, SeqCst);
    load.await.unwrap();
    let status = gateway.exit(ms(5000)).await.expect("the process ends");
    assert_eq!(status.code(), Some(0));
    let (begun, whole) = (begun.load(SeqCst), whole.load(SeqCst));
    println!("{whole} of {begun} answers are whole");
    assert_eq!(whole, begun, "answers that had begun were cut");
    let complete =
        gateway.audit(begun).await.into_iter().filter(|record| record["outcome"] == "complete").count();
    assert_eq!(complete, begun, "every call is recorded, once");
}

#[tokio::test]
async fn who_asks_twice_does_not_wait() {
    let upstream = Upstream::start(Act::default().hang_after(4)).await;
    let settings = json!({"server": {"drain": "60s"}, "timeouts": {"idle": "60s", "total": "60s"}});
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    assert!(gateway.exit(ms(300)).await.is_none(), "a stream is under way");
    gateway.signal("TERM");
    let status = gateway.exit(ms(3000)).await.expect("the second signal ends it");
    assert_eq!(status.code(), Some(0));
    assert!(gateway.audit(1).await[0].to_string().contains("cancelled"));
}
