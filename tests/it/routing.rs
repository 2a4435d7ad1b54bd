//! Which target is asked: endpoints of one model, ranks, slow streams, late first tokens.
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, ms, soon};

const TEXT: &str = "A text that is long enough to be told apart from silence, and from another one.";

fn chat(stream: bool, user: &str) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream, "user": user})
}

/// `main` is served by two providers, with these models.
fn two(first: (&Upstream, &str), second: (&Upstream, &str)) -> Setup {
    let target = |provider: &str, model: &str| json!({"provider": provider, "model": model});
    Setup::two(first.0, Wire::OpenAi, second.0).set(&json!({
        "models": {"main": {"targets": [target("primary", first.1), target("spare", second.1)], "fallback": []}},
        "retry": {"attempts": 1},
        "breaker": {"failures": 10_000, "error_rate": 1.0, "min_requests": 1_000_000},
    }))
}

async fn streamed(gateway: &Gateway, user: &str) -> String {
    let (chunks, done) = gateway.stream("/v1/chat/completions", &chat(true, user)).await.chunks().await;
    assert!(done, "{chunks:?}");
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

async fn whole(gateway: &Gateway, user: &str) {
    gateway.post("/v1/chat/completions", &chat(false, user)).await.expect(200);
}

#[tokio::test]
async fn a_stream_that_is_too_slow_is_gone_on_with_elsewhere() {
    let slow = Upstream::start(Act::say(TEXT).chunks_of(1).every(ms(50))).await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let pace = json!({"timeouts": {"min_rate": 100, "rate_window": "300ms"}});
    let gateway = Setup::two(&slow, Wire::OpenAi, &spare).set(&pace).start().await;
    assert_eq!(streamed(&gateway, "u").await, TEXT);
    assert_eq!((slow.asked(), spare.asked()), (1, 1));
    slow.gone(ms(5000)).await;
    let record = &gateway.audit(1).await[0];
    assert_eq!(record["attempts"][0]["error"], "upstream_timeout");
}

#[tokio::test]
async fn endpoints_of_one_model_stand_in_for_each_other() {
    let broken = Upstream::start(Act::failed()).await;
    let well = Upstream::answering().await;
    let gateway = two((&broken, "m"), (&well, "m")).start().await;
    for n in 0..8 {
        whole(&gateway, &format!("user-{n}")).await;
    }
    assert!(broken.asked() > 0 && well.asked() == 8);
}

#[tokio::test]
async fn an_endpoint_that_fails_more_often_is_left_out() {
    let broken = Upstream::start(Act::failed()).await;
    let well = Upstream::answering().await;
    let outlier = json!({"interval": "200ms", "min_requests": 2, "eject_for": "60s"});
    let setup = two((&broken, "m"), (&well, "m")).set(&json!({"routing": {"outlier": outlier}}));
    let gateway = setup.start().await;
    let labels = [("provider", "primary"), ("reason", "errors")];
    let mut asked = 0;
    while gateway.metric("sluice_ejections_total", &labels).await < 1.0 {
        whole(&gateway, &format!("user-{asked}")).await;
        asked += 1;
        assert!(asked < 2000, "nobody was left out");
    }
    assert!(gateway.metric("sluice_endpoint_ejected", &[("provider", "primary")]).await > 0.0);
    let before = broken.asked();
    for n in 0..20 {
        whole(&gateway, &format!("user-{n}")).await;
    }
    assert_eq!(broken.asked(), before, "it is left out");
    let ejections = gateway.metric("sluice_ejections_total", &[]).await as usize;
    assert_eq!(ejections, 1, "one of two, at most");
}

#[tokio::test]
async fn targets_are_ranked_by_latency() {
    let slow = Upstream::start(Act::default().after(ms(400))).await;
    let fast = Upstream::answering().await;
    let latency = json!({"models": {"main": {"strategy": "latency"}}});
    let gateway = two((&slow, "m"), (&fast, "n")).set(&latency).start().await;
    for _ in 0..10 {
        streamed(&gateway, "u").await;
    }
    assert!(fast.asked() > slow.asked() && slow.asked() > 0, "{} {}", fast.asked(), slow.asked());
}

#[tokio::test]
async fn targets_are_ranked_by_cost_and_region() {
    let dear = Upstream::answering().await;
    let cheap = Upstream::answering().await;
    let cost = json!({"models": {"main": {"strategy": "cost"}}});
    let gateway = two((&dear, "gpt-4o"), (&cheap, "gpt-4o-mini")).set(&cost).start().await;
    whole(&gateway, "u").await;
    assert_eq!((dear.asked(), cheap.asked()), (0, 1));
    cheap.set_default(Act::failed());
    whole(&gateway, "u").await;
    assert_eq!((dear.asked(), cheap.asked()), (1, 2), "the next in rank");
    let targets = json!([
        {"provider": "primary", "model": "gpt-4o", "region": "eu"},
        {"provider": "spare", "model": "gpt-4o-mini", "region": "us"},
    ]);
    let here = json!({"models": {"main": {"targets": targets, "strategy": "cost"}}, "routing": {"prefer_region": "eu"}});
    let gateway = two((&dear, "gpt-4o"), (&cheap, "gpt-4o-mini")).set(&here).start().await;
    whole(&gateway, "u").await;
    assert_eq!((dear.asked(), cheap.asked()), (2, 2), "its own region first");
}

/// A gateway that asks the spare as well when `main`'s primary, which is known to be quick, is late.
async fn hedging(primary: &Upstream, spare: &Upstream, percent: u32) -> Gateway {
    let hedge = json!({"enabled": true, "min_delay": "150ms", "max_percent": percent});
    let setup = Setup::two(primary, Wire::OpenAi, spare);
    let gateway = setup.set(&json!({"routing": {"hedge": hedge}, "retry": {"attempts": 1}})).start().await;
    for _ in 0..30 {
        streamed(&gateway, "u").await;
    }
    gateway
}

#[tokio::test]
async fn a_late_first_token_is_hedged_and_the_loser_is_paid_for() {
    let primary = Upstream::answering().await;
    let spare = Upstream::start(Act::say(TEXT)).await;
    let gateway = hedging(&primary, &spare, 100).await;
    let hedged = spare.asked();
    primary.set_default(Act::default().after(ms(600)));
    assert_eq!(streamed(&gateway, "u").await, TEXT);
    assert_eq!(spare.asked(), hedged + 1);
    primary.gone(ms(5000)).await;
    assert!(gateway.metric("sluice_hedges_total", &[("route", "main"), ("result", "won")]).await >= 1.0);
    let record = gateway.audit(31).await.pop().unwrap();
    let attempts = record["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{record}");
    assert!(attempts.iter().any(|attempt| attempt["error"] == "cancelled"), "{record}");
    // What the loser has read is booked beside what the winner said that it took.
    assert!(record["cost_usd"].as_f64().unwrap() > (11.0 + 7.0) * 10.0 / 1e6, "{record}");
}

#[tokio::test]
async fn hedging_has_a_bound() {
    let primary = Upstream::answering().await;
    let spare = Upstream::start(Act::say(TEXT)).await;
    let gateway = hedging(&primary, &spare, 5).await;
    primary.set_default(Act::default().after(ms(400)));
    for _ in 0..5 {
        streamed(&gateway, "u").await;
    }
    // 35 calls make less than two.
    assert!(spare.asked() <= 1, "{}", spare.asked());
    assert!(gateway.metric("sluice_hedges_total", &[("result", "denied")]).await >= 4.0);
    assert!(!soon(Duration::ZERO, || spare.busy() > 0).await);
}
