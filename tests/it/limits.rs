//! Requests and tokens per minute, requests at once.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Ask, key, ms, soon};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_admitted_of_too_much_is_the_limit_and_the_burst() {
    let upstream = Upstream::answering().await;
    let limits = json!({"limits": {"requests_per_minute": {"user": 6000}, "burst": {"user": 20}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&limits).start().await;
    let admitted = Arc::new(AtomicUsize::new(0));
    let mut asks = tokio::task::JoinSet::new();
    let began = Instant::now();
    for number in 0..1500 {
        tokio::time::sleep_until((began + ms(2) * number).into()).await;
        let (address, admitted) = (gateway.address, admitted.clone());
        asks.spawn(async move {
            let answer = Ask::new(address, "POST", "/query").json(&question("u1")).send().await;
            assert!(answer.status == 200 || answer.status == 429, "{}", answer.text());
            admitted.fetch_add(usize::from(answer.status == 200), Relaxed);
        });
    }
    while let Some(asked) = asks.join_next().await {
        asked.unwrap();
    }
    assert_eq!(upstream.asked(), admitted.load(Relaxed));
    let (admitted, took) = (admitted.load(Relaxed) as f64, began.elapsed().as_secs_f64());
    assert!(admitted <= 21.0 + 101.0 * took, "{admitted} in {took} s");
    // The machine may be too busy to offer it all in time.
    assert!(admitted >= 20.0 + 90.0 * 3.0, "{admitted} in {took} s");
}

#[tokio::test]
async fn after_the_time_that_is_told_a_request_is_admitted() {
    let upstream = Upstream::answering().await;
    let limits = json!({"limits": {"requests_per_minute": {"user": 120}, "burst": {"user": 1}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&limits).start().await;
    for _ in 0..3 {
        gateway.post("/query", &question("u1")).await.expect(200);
        let refused = gateway.post("/query", &question("u1")).await;
        refused.expect(429);
        let wait: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
        assert!(wait <= 500, "{wait}");
        tokio::time::sleep(ms(wait)).await;
    }
}

/// The tokens that a key has left, as a refused or an admitted call tells.
async fn left(gateway: &Gateway) -> i64 {
    // Costs a request that takes no tokens: the model is asked for a vector of nothing much.
    let answer = gateway.post("/v1/embeddings", &json!({"model": "embed", "input": "x"})).await;
    answer.expect(200);
    answer.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
}

#[tokio::test]
async fn tokens_are_set_aside_and_settled_to_what_was_taken() {
    let upstream = Upstream::start(Act::default().usage(Some((200, 300)))).await;
    let settings = json!({
        "limits": {"tokens_per_minute": {"global": 6000}, "answer_tokens": 2000},
        "cache": {"enabled": true},
    });
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut body = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    let first = gateway.post("/v1/chat/completions", &body).await;
    first.expect(200);
    let remaining: i64 = first.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((3990..4000).contains(&remaining), "{remaining}: the answer might have been long");
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("6000"));
    assert!(first.header("ratelimit-policy").unwrap().ends_with("\"tokens\";q=6000;w=60;qu=\"tokens\""));
    let after = left(&gateway).await;
    assert!((5400..5900).contains(&after), "{after}: 500 were taken");
    // From the cache.
    body["temperature"] = 0.into();
    gateway.post("/v1/chat/completions", &body).await.expect(200);
    let before = left(&gateway).await;
    for _ in 0..5 {
        let cached = gateway.post("/v1/chat/completions", &body).await;
        assert_eq!(cached.header("x-cache"), Some("HIT"));
    }
    let after = left(&gateway).await;
    assert!(after + 20 >= before, "{before} before, {after} after");
}

#[tokio::test]
async fn failed_calls_take_no_tokens_and_abandoned_ones_what_they_took() {
    let upstream = Upstream::start(Act::status(400, &json!({"error": {"message": "no"}}))).await;
    let settings = json!({
        "limits": {"tokens_per_minute": {"global": 3000}, "answer_tokens": 2000},
        "timeouts": {"first_token": "20s", "idle": "20s", "total": "30s"},
    });
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut body = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    gateway.post("/v1/chat/completions", &body).await.expect(400);
    upstream.set_default(Act::default());
    let before = left(&gateway).await;
    assert!(before > 2900, "{before}");
    upstream.set_default(Act::say(&"word ".repeat(800)).hang_after(700));
    body["stream"] = true.into();
    let mut stream = gateway.stream("/v1/chat/completions", &body).await;
    for _ in 0..600 {
        stream.next().await.unwrap();
    }
    drop(stream);
    // Counted when its record is written, by our own count.
    gateway.audit(1).await;
    upstream.set_default(Act::default());
    let mut after = 0;
    for _ in 0..100 {
        after = left(&gateway).await;
        if after > 1500 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert!((1500..before - 300).contains(&after), "{before} before, {after} after");
}

#[tokio::test]
async fn calls_in_flight_are_counted_until_their_streams_end() {
    let upstream = Upstream::start(Act::default().hang_after(4)).await;
    let settings = json!({"limits": {"in_flight": {"user": 1}}, "timeouts": {"idle": "20s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut stream = gateway.stream("/stream", &question("u1")).await;
    stream.next().await.unwrap();
    let refused = gateway.post("/query", &question("u1")).await;
    refused.expect(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let of = [("scope", "user"), ("limit", "in_flight")];
    assert!((gateway.metric("sluice_rate_limited_total", &of).await - 1.0).abs() < 0.1);
    upstream.set_default(Act::default());
    gateway.post("/query", &question("u2")).await.expect(200);
    drop(stream);
    let mut status = 0;
    for _ in 0..100 {
        status = gateway.post("/query", &question("u1")).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(status, 200);
}

#[tokio::test]
async fn an_alias_is_no_second_allowance_of_a_model() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&limits("model", 1)).start().await;
    let ask = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
        gateway.post("/v1/chat/completions", &body).await.status
    };
    assert_eq!(ask("main").await, 200);
    assert_eq!(ask("alias-of-main").await, 429);
    assert_eq!(ask("solo").await, 200);
}

#[tokio::test]
async fn a_change_of_the_limits_gives_nobody_a_fresh_start() {
    let upstream = Upstream::answering().await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&limits("user", 3)).start().await;
    for _ in 0..3 {
        gateway.post("/query", &question("u1")).await.expect(200);
    }
    gateway.rewrite(&limits("user", 4));
    let raised = async || {
        let answer = gateway.post("/query", &question("u2")).await;
        answer.header("x-ratelimit-limit-requests") == Some("4")
    };
    let began = Instant::now();
    while !raised().await {
        assert!(began.elapsed() < Duration::from_secs(10), "the change was not taken up");
        tokio::time::sleep(ms(50)).await;
    }
    gateway.post("/query", &question("u1")).await.expect(200);
    gateway.post("/query", &question("u1")).await.expect(429);
}
