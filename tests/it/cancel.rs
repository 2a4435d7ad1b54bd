//! A client that leaves.
use serde_json::{Value, json};

use std::time::{Duration, Instant};

use crate::support::{Act, Setup, Upstream, Wire, ms, soon};

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

fn patient() -> Value {
    json!({"timeouts": {"first_token": "20s", "idle": "20s", "total": "30s"}})
}

/// The shortest of several times: on a busy machine one alone says nothing.
async fn best(mut once: impl AsyncFnMut() -> Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..8 {
        best = best.min(once().await);
        if best < ms(50) {
            break;
        }
    }
    best
}

#[tokio::test]
async fn leaving_a_stream_closes_the_upstream_within_50_ms() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::default().hang_after(6)).await;
        let gateway = Setup::one(wire, &upstream).set(&patient()).start().await;
        for path in ["/stream", "/v1/chat/completions", "/v1/messages"] {
            let mut asked = chat(true);
            asked["max_tokens"] = 64.into();
            asked["prompt"] = "Hi".into();
            if path == "/stream" {
                asked = json!({"prompt": "Hi", "user_id": "u", "mode": "chat"});
            }
            let once = async || {
                let mut stream = gateway.stream(path, &asked).await;
                assert_eq!(stream.head.status, 200);
                stream.next().await.unwrap();
                tokio::time::sleep(ms(50)).await;
                let left = Instant::now();
                drop(stream);
                upstream.gone(ms(2000)).await - left
            };
            let took = best(once).await;
            assert!(took < ms(50), "{path}: closed after {took:?}");
        }
    }
}

#[tokio::test]
async fn leaving_before_the_first_token_closes_the_upstream_too() {
    for stream in [false, true] {
        let upstream = Upstream::start(Act::hang()).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient()).start().await;
        let body = chat(stream);
        let mut calls = 0;
        let took = best(async || {
            calls += 1;
            let waiting = gateway.post("/v1/chat/completions", &body);
            // Not before the provider has it: without a call there is nothing to close.
            tokio::select! {
                _ = waiting => panic!("it is never answered"),
                () = async { assert!(soon(ms(10_000), || upstream.asked() == calls).await) } => {}
            }
            let left = Instant::now();
            upstream.gone(ms(2000)).await - left
        });
        let took = took.await;
        assert!(took < ms(50), "closed after {took:?}");
        assert_eq!(upstream.asked(), calls, "a call that nobody waits for is not retried");
    }
}

#[tokio::test]
async fn the_tokens_of_an_abandoned_call_are_counted() {
    let upstream = Upstream::start(Act::say(&"word ".repeat(50)).hang_after(40)).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient()).start().await;
    let mut stream = gateway.stream("/v1/chat/completions", &chat(true)).await;
    for _ in 0..30 {
        stream.next().await.unwrap();
    }
    drop(stream);
    let record = gateway.audit(1).await.remove(0);
    assert!(record.to_string().contains("cancelled"), "{record}");
    let mut tokens = 0.0;
    for _ in 0..100 {
        tokens = gateway.metric("ai_tokens_total", &[]).await;
        if tokens > 0.0 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert!(tokens >= 20.0, "{tokens} tokens counted");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_in_the_queue_frees_its_turn() {
    let upstream = Upstream::start(Act::default().after(ms(500))).await;
    let narrow = json!({"admit": {"max_in_flight": 1, "queue": 4, "queue_wait": "10s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&narrow).start().await;
    let body = chat(false);
    let first = gateway.post("/v1/chat/completions", &body);
    let quitter = async {
        tokio::time::sleep(ms(50)).await;
        let _ = tokio::time::timeout(ms(100), gateway.post("/v1/chat/completions", &body)).await;
    };
    let (answer, ()) = tokio::join!(first, quitter);
    answer.expect(200);
    gateway.post("/v1/chat/completions", &body).await.expect(200);
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test]
async fn a_hundred_departures_leave_nothing_behind() {
    let upstream = Upstream::start(Act::default().hang_after(4)).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient()).start().await;
    gateway.get("/health").await;
    let before = gateway.sockets();
    for _ in 0..10 {
        let mut streams = Vec::new();
        for _ in 0..10 {
            let mut stream = gateway.stream("/v1/chat/completions", &chat(true)).await;
            stream.next().await.unwrap();
            streams.push(stream);
        }
    }
    assert!(
        soon(ms(2000), || upstream.busy() == 0 && upstream.open() == 0).await,
        "{} open",
        upstream.open()
    );
    assert!(
        soon(ms(2000), || gateway.sockets() <= before).await,
        "{} sockets, {before} before",
        gateway.sockets()
    );
}
