//! Providers and stores behind TLS, and providers that speak HTTP/2.
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpSocket};

use crate::support::{
    Act, Gateway, Setup, Upstream, Wire,
    gateway::key,
    ms,
    servers::Postgres,
    servers::Redis,
    soon,
    tls::{Authority, Front},
};

const CHAT: &str = "/v1/chat/completions";
const SAID: &str = "Hello from upstream.";

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

/// A gateway that trusts this authority, whose provider is behind `front`.
async fn gateway(authority: &Authority, front: &Front, change: &Value) -> Gateway {
    let nobody = Upstream::answering().await;
    let provider = json!({"providers": {"primary": {"base_url": front.url(), "connect_timeout": "5s"}}});
    let patient = json!({"timeouts": {"first_token": "10s", "idle": "10s", "total": "30s"}});
    let trusted = authority.file("ca.pem").display().to_string();
    let setup = Setup::one(Wire::OpenAi, &nobody).set(&provider).set(&patient).set(change);
    setup.env("SSL_CERT_FILE", &trusted).start().await
}

async fn said(gateway: &Gateway) {
    let answer = gateway.post(CHAT, &chat(false)).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], SAID);
    let (chunks, done) = gateway.stream(CHAT, &chat(true)).await.chunks().await;
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), done), (SAID, true));
}

#[tokio::test]
async fn providers_are_asked_over_tls() {
    let (upstream, authority) = (Upstream::answering().await, Authority::new());
    let front = authority.before(upstream.address).await;
    let gateway = gateway(&authority, &front, &json!({})).await;
    for _ in 0..3 {
        said(&gateway).await;
    }
    assert_eq!(
        (upstream.asked(), front.accepted()),
        (6, 1),
        "one connection is enough for one after the other"
    );
    assert_eq!(upstream.last().header("authorization"), Some("Bearer sk-provider"));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_another_target_answers() {
    let (upstream, spare, authority) =
        (Upstream::answering().await, Upstream::answering().await, Authority::new());
    let front = authority.before(upstream.address).await;
    let setup = Setup::two(&upstream, Wire::OpenAi, &spare);
    let other = Authority::new().file("ca.pem").display().to_string();
    let provider = json!({"providers": {"primary": {"base_url": front.url()}}});
    let gateway = setup.set(&provider).env("SSL_CERT_FILE", &other).start().await;
    let answer = gateway.post(CHAT, &chat(false)).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], SAID);
    assert_eq!((upstream.asked(), front.accepted(), spare.asked()), (0, 0, 1));
    let alone = json!({"model": "solo", "messages": [{"role": "user", "content": "Hi"}]});
    let refused = gateway.post(CHAT, &alone).await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    let told = soon(ms(5000), || gateway.log().contains("certificate")).await;
    assert!(told, "the log says why:\n{}", gateway.log());
}

#[tokio::test]
async fn calls_to_a_provider_that_speaks_http2_share_a_connection() {
    let (upstream, authority) = (Upstream::answering().await, Authority::new());
    let front = authority.before_in_http2(upstream.address, 100).await;
    let gateway = gateway(&authority, &front, &json!({})).await;
    said(&gateway).await;
    join_all((0..20).map(|_| said(&gateway))).await;
    assert_eq!((upstream.asked(), front.accepted()), (42, 1));
    assert_eq!(upstream.last().header("authorization"), Some("Bearer sk-provider"));
}

#[tokio::test]
async fn calls_share_a_new_connection_while_the_first_waits_for_its_answer() {
    let upstream = Upstream::start(Act::default().after(ms(1500))).await;
    let authority = Authority::new();
    let front = authority.before_in_http2(upstream.address, 100).await;
    let gateway = gateway(&authority, &front, &json!({})).await;
    let ask = async |place: usize| {
        soon(ms(5000), || upstream.busy() >= place && (place == 0 || front.settled() > 0)).await;
        gateway.post(CHAT, &chat(false)).await.expect(200)
    };
    join_all((0..5).map(ask)).await;
    assert_eq!((upstream.asked(), front.accepted()), (5, 1));
}

#[tokio::test]
async fn no_call_waits_for_a_place_on_an_http2_connection() {
    let upstream = Upstream::start(Act::default().hang_after(3)).await;
    let authority = Authority::new();
    let front = authority.before_in_http2(upstream.address, 2).await;
    let gateway = gateway(&authority, &front, &json!({})).await;
    let mut streams = join_all((0..7).map(async |_| gateway.stream(CHAT, &chat(true)).await)).await;
    for stream in &mut streams {
        assert!(stream.next().await.is_some());
    }
    assert_eq!(upstream.busy(), 7);
    assert!((4..=7).contains(&front.accepted()), "{}", front.accepted());
    drop(streams);
    assert!(soon(ms(5000), || upstream.busy() == 0).await, "who leaves ends his request");
    upstream.set_default(Act::default());
    let before = front.accepted();
    for _ in 0..4 {
        said(&gateway).await;
    }
    assert_eq!(front.accepted(), before, "places that are free again are taken");
}

#[tokio::test]
async fn who_does_not_read_his_stream_holds_up_no_other_on_the_connection() {
    let upstream = Upstream::answering().await;
    let authority = Authority::new();
    let front = authority.before_in_http2(upstream.address, 100).await;
    let gateway = gateway(&authority, &front, &json!({})).await;
    said(&gateway).await;
    // Each has more to read than all buffers between take.
    upstream.set_default(Act::say(&"so many words ".repeat(2_400_000)).chunks_of(64_000));
    let mut idle = Vec::new();
    for _ in 0..3 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(gateway.address).await.unwrap();
        let body = chat(true).to_string();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        idle.push(client);
    }
    assert!(soon(ms(10_000), || upstream.busy() == 3).await);
    // Until they have taken all that they take.
    tokio::time::sleep(ms(1500)).await;
    assert_eq!(upstream.busy(), 3, "the buffers took all of it: the test says nothing");
    upstream.set_default(Act::default());
    for _ in 0..5 {
        tokio::time::timeout(Duration::from_secs(5), said(&gateway)).await.unwrap();
    }
    assert_eq!(front.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_over_there_is_made_anew() {
    for http2 in [false, true] {
        let (upstream, authority) = (Upstream::answering().await, Authority::new());
        let front = match http2 {
            true => authority.before_in_http2(upstream.address, 100).await,
            false => authority.before(upstream.address).await,
        };
        let once = json!({"retry": {"attempts": 1}});
        let gateway = gateway(&authority, &front, &once).await;
        for round in 1..=10 {
            said(&gateway).await;
            front.hang_up();
            assert_eq!((upstream.asked(), front.accepted()), (2 * round, round), "http2: {http2}");
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_ends_what_is_under_way_and_gets_no_more() {
    let upstream = Upstream::start(Act::default().every(ms(150))).await;
    let authority = Authority::new();
    let front = authority.before_in_http2(upstream.address, 100).await;
    let once = json!({"retry": {"attempts": 1}});
    let gateway = gateway(&authority, &front, &once).await;
    for round in 1..=5 {
        let mut stream = gateway.stream(CHAT, &chat(true)).await;
        stream.next().await.unwrap();
        upstream.script([Act::default(), Act::default()]);
        front.go_away();
        said(&gateway).await;
        let (_, done) = stream.chunks().await;
        assert!(done, "what was under way is whole");
        assert_eq!((upstream.asked(), front.accepted()), (3 * round, round + 1));
    }
}

#[tokio::test]
async fn what_a_server_refused_before_it_began_is_asked_again() {
    let (upstream, authority) = (Upstream::answering().await, Authority::new());
    let front = authority.before_in_http2(upstream.address, 100).await;
    let once = json!({"retry": {"attempts": 1}});
    let gateway = gateway(&authority, &front, &once).await;
    said(&gateway).await;
    for round in 2..12 {
        front.refuse(3);
        said(&gateway).await;
        assert_eq!(upstream.asked(), 2 * round, "each is answered once");
    }
    // It is not asked forever.
    front.refuse(1000);
    assert_eq!(gateway.post(CHAT, &chat(false)).await.status, 502);
    front.refuse(0);
    said(&gateway).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_under_many_answers_is_one_failure() {
    let upstream = Upstream::start(Act::default().hang_after(3)).await;
    let authority = Authority::new();
    let front = authority.before_in_http2(upstream.address, 100).await;
    let once = json!({"retry": {"attempts": 1}, "breaker": {"failures": 3, "open_for": "60s"}});
    let gateway = gateway(&authority, &front, &once).await;
    for round in 0..2 {
        let mut streams = Vec::new();
        for _ in 0..10 {
            let mut stream = gateway.stream(CHAT, &chat(true)).await;
            assert!(stream.next().await.is_some());
            streams.push(stream);
        }
        assert_eq!((upstream.busy(), front.accepted()), (10, round + 1), "they share one");
        front.hang_up();
        for mut stream in streams {
            let (_, done) = stream.chunks().await;
            assert!(!done, "it broke off");
        }
        assert!(soon(ms(5000), || upstream.busy() == 0).await);
    }
    upstream.set_default(Act::default());
    said(&gateway).await;
    assert!(!gateway.log().contains("Circuit breaker opened"), "{}", gateway.log());
}

#[tokio::test]
async fn stores_are_reached_over_tls() {
    let (upstream, authority) = (Upstream::answering().await, Authority::new());
    let redis = Redis::start().await;
    let front = authority.before(redis.address()).await;
    let postgres = Postgres::start_with_tls(&authority).await;
    let trusted = authority.file("ca.pem").display().to_string();
    let shared = json!({
        "auth": {"keys": [key("a", "sk-a")]},
        "store": {"redis": {"env": "TEST_REDIS"}, "postgres": {"env": "TEST_POSTGRES"}},
    });
    let start = async |database: &str| {
        let setup = Setup::one(Wire::OpenAi, &upstream).set(&shared).env("SSL_CERT_FILE", &trusted);
        let redis = format!("rediss://localhost:{}", front.address.port());
        setup.env("TEST_REDIS", &redis).env("TEST_POSTGRES", database).start().await
    };
    for (mode, root) in [
        ("require", String::new()),
        ("verify-full", format!("&sslrootcert={trusted}")),
        ("verify-full", String::new()),
    ] {
        let gateway =
            start(&format!("{}?sslmode={mode}{root}", postgres.url().replace("127.0.0.1", "localhost")))
                .await;
        gateway.ask("POST", CHAT).bearer("sk-a").json(&chat(false)).send().await.expect(200);
        let health = gateway.get("/health").await.expect(200);
        let components = |name: &str| health["components"][name]["status"] == "ok";
        assert!(components("redis") && components("database"), "{mode}{root}: {health}\n{}", gateway.log());
        assert_eq!(gateway.get("/readyz").await.status, 200);
    }
    assert!(front.accepted() >= 3);
}
