//! Requests per minute, requests at once.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire, key, ms, soon};

fn question(user: &str) -> Value {
    json!({"question": "Hi", "user_id": user, "mode": "chat"})
}

fn limits(scope: &str, count: u32) -> Value {
    json!({"limits": {"requests_per_minute": {scope: count}}})
}

#[tokio::test]
async fn a_user_past_the_limit_is_told_when_to_come_back() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&limits("user", 2)).start().await;
    let first = gateway.post("/query", &question("u1")).await;
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert!(first.header("x-ratelimit-reset-requests").is_some());
    assert!(first.header("ratelimit").is_some() && first.header("ratelimit-policy").is_some());
    gateway.post("/query", &question("u1")).await.expect(200);
    let refused = gateway.post("/query", &question("u1")).await;
    assert_eq!(refused.expect(429)["detail"], "Rate limit exceeded");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    gateway.post("/query", &question("u2")).await.expect(200);
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test]
async fn address_global_and_key_have_limits_of_their_own() {
    for scope in ["address", "global", "key"] {
        let upstream = Upstream::answering().await;
        let setup = Setup::one(Wire::OpenAi, &upstream).set(&limits(scope, 1));
        let gateway = setup.set(&json!({"auth": {"keys": [key("app", "sk-app")]}})).start().await;
        let ask = |user: &str| gateway.ask("POST", "/query").bearer("sk-app").json(&question(user)).send();
        ask("u1").await.expect(200);
        ask("u2").await.expect(429);
    }
}

#[tokio::test]
async fn a_forwarded_address_does_not_evade_the_limit() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&limits("address", 1)).start().await;
    gateway.post("/query", &question("u1")).await.expect(200);
    let ask = gateway.ask("POST", "/query").header("x-forwarded-for", "9.9.9.9");
    ask.json(&question("u2")).send().await.expect(429);
}

#[tokio::test]
async fn a_keys_own_limit_wins() {
    let upstream = Upstream::answering().await;
    let mut entry = key("app", "sk-app");
    entry["limits"] = json!({"requests_per_minute": 1});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"auth": {"keys": [entry]}})).start().await;
    let body = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    let ask = || gateway.ask("POST", "/v1/chat/completions").bearer("sk-app").json(&body).send();
    ask().await.expect(200);
    let refused = ask().await;
    assert_eq!(refused.expect(429)["error"]["code"], "rate_limit_exceeded");
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn past_the_places_a_request_waits_and_past_the_queue_it_is_refused() {
    let upstream = Upstream::start(Act::default().after(ms(400))).await;
    let full = json!({"admit": {"max_in_flight": 1, "queue": 1, "queue_wait": "5s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&full).start().await;
    let body = question("u1");
    let (a, b, c) = tokio::join!(
        gateway.post("/query", &body),
        gateway.post("/query", &body),
        gateway.post("/query", &body),
    );
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    let refused = [a, b, c].into_iter().find(|answer| answer.status == 503).unwrap();
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_place_is_held_until_the_stream_ends_and_freed_when_the_client_leaves() {
    let upstream = Upstream::start(Act::default().hang_after(4)).await;
    let full = json!({"admit": {"max_in_flight": 1, "queue": 0}, "timeouts": {"idle": "20s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&full).start().await;
    let mut stream = gateway.stream("/stream", &question("u1")).await;
    stream.next().await.unwrap();
    gateway.post("/query", &question("u2")).await.expect(503);
    upstream.set_default(Act::default());
    drop(stream);
    assert!(soon(ms(500), || upstream.busy() == 0).await);
    tokio::time::sleep(ms(50)).await;
    gateway.post("/query", &question("u2")).await.expect(200);
}
