//! A target that fails too often is left alone for a while.
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, ms};

fn chat() -> Value {
    json!({"model": "solo", "messages": [{"role": "user", "content": "Hi"}]})
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let settings = json!({"retry": {"attempts": 1}, "breaker": {"failures": 3, "open_for": "400ms"}});
    Setup::one(Wire::OpenAi, upstream).set(&settings).start().await
}

#[tokio::test]
async fn it_opens_after_failures_in_a_row_and_closes_after_a_good_probe() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = gateway(&upstream).await;
    for _ in 0..3 {
        assert_eq!(gateway.post("/v1/chat/completions", &chat()).await.status, 502);
    }
    let refused = gateway.post("/v1/chat/completions", &chat()).await;
    assert_eq!(refused.expect(503)["error"]["code"], "circuit_open");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(upstream.asked(), 3, "an open breaker spares the target");
    let log = gateway.log();
    let told = log.lines().find(|line| line.contains("Circuit breaker opened after 3 failures")).unwrap();
    assert!(
        told.contains(r#""target":"primary/model-a""#) && told.matches("\"target\"").count() == 1,
        "{told}"
    );

    upstream.set_default(Act::default());
    tokio::time::sleep(ms(450)).await;
    assert_eq!(gateway.post("/v1/chat/completions", &chat()).await.status, 200);
    assert_eq!(gateway.post("/v1/chat/completions", &chat()).await.status, 200);
}

#[tokio::test]
async fn one_probe_at_a_time_tries_a_target_again() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = gateway(&upstream).await;
    for _ in 0..3 {
        gateway.post("/v1/chat/completions", &chat()).await;
    }
    upstream.set_default(Act::default().after(ms(300)));
    tokio::time::sleep(ms(450)).await;
    let body = chat();
    let (a, b, c) = tokio::join!(
        gateway.post("/v1/chat/completions", &body),
        gateway.post("/v1/chat/completions", &body),
        gateway.post("/v1/chat/completions", &body),
    );
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503]);
    assert_eq!(upstream.asked(), 4);
}

#[tokio::test]
async fn a_callers_mistakes_do_not_open_it() {
    let upstream = Upstream::start(Act::status(400, &json!({"error": {"message": "no"}}))).await;
    let gateway = gateway(&upstream).await;
    for _ in 0..6 {
        assert_eq!(gateway.post("/v1/chat/completions", &chat()).await.status, 400);
    }
    assert_eq!(upstream.asked(), 6);
}

#[tokio::test]
async fn an_attempt_that_it_will_not_let_through_is_not_waited_for() {
    let upstream = Upstream::start(Act::busy(None)).await;
    let settings = json!({
        "retry": {"attempts": 3, "base": "20s", "cap": "20s"},
        "breaker": {"failures": 1, "open_for": "30s"},
    });
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let began = Instant::now();
    let told = gateway.post("/v1/chat/completions", &chat()).await.expect(429);
    assert_eq!(told["error"]["type"], "rate_limit_error", "what the provider said: {told}");
    assert!(began.elapsed() < ms(2000), "{:?}", began.elapsed());
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn what_a_target_said_is_told_and_not_that_it_is_left_alone_since() {
    let upstream = Upstream::start(Act::busy(None)).await;
    let settings = json!({
        "retry": {"attempts": 3, "base": "1s", "cap": "1s"},
        "breaker": {"failures": 2, "open_for": "30s"},
    });
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let body = chat();
    // Whoever fails first would try again, and the other has it opened meanwhile.
    let (a, b) = tokio::join!(
        gateway.post("/v1/chat/completions", &body),
        gateway.post("/v1/chat/completions", &body),
    );
    assert_eq!((a.status, b.status), (429, 429), "{} {}", a.text(), b.text());
    assert_eq!(upstream.asked(), 2);
    assert_eq!(
        gateway.post("/v1/chat/completions", &body).await.expect(503)["error"]["code"],
        "circuit_open"
    );
}

#[tokio::test]
async fn streams_that_break_count_when_they_end() {
    let upstream = Upstream::start(Act::default().cut_after(4)).await;
    let gateway = gateway(&upstream).await;
    let mut asked = chat();
    asked["stream"] = true.into();
    for _ in 0..3 {
        gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
    }
    assert_eq!(gateway.post("/v1/chat/completions", &chat()).await.status, 503);
}

#[tokio::test]
async fn one_targets_breaker_leaves_the_fallback_alone() {
    let primary = Upstream::start(Act::failed()).await;
    let spare = Upstream::answering().await;
    let settings = json!({"retry": {"attempts": 1}, "breaker": {"failures": 3, "open_for": "10s"}});
    let gateway = Setup::two(&primary, Wire::OpenAi, &spare).set(&settings).start().await;
    let mut asked = chat();
    asked["model"] = "main".into();
    for _ in 0..10 {
        assert_eq!(gateway.post("/v1/chat/completions", &asked).await.status, 200);
    }
    assert_eq!((primary.asked(), spare.asked()), (3, 10));
}

#[tokio::test]
async fn models_that_a_provider_lends_by_name_have_one_each() {
    let upstream = Upstream::start(Act::default()).await;
    upstream.choose(|seen| if seen.body["model"] == "m-bad" { Act::failed() } else { Act::default() });
    let settings = json!({"retry": {"attempts": 1}, "breaker": {"failures": 3}, "providers": {"primary": {"models": ["*"]}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let ask = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
        gateway.post("/v1/chat/completions", &body).await.status
    };
    for _ in 0..3 {
        assert_eq!(ask("m-bad").await, 502);
    }
    assert_eq!((ask("m-bad").await, ask("m-good").await, ask("gpt-4o").await), (503, 200, 200));
    assert_eq!(
        gateway.get("/health").await.expect(200)["components"]["breakers"]["open"],
        json!(["primary/other"])
    );
    // What the price list has is shown by its name; what callers make up is not.
    let shown = gateway.get("/metrics").await.text();
    for (model, state) in [("gpt-4o", 0), ("other", 2)] {
        let line = format!("sluice_breaker_state{{model=\"{model}\",provider=\"primary\"}} {state}");
        assert!(shown.contains(&line), "{line}\n{shown}");
    }
    let taken = [("provider", "primary"), ("model", "gpt-4o"), ("outcome", "success")];
    assert!(gateway.metric("sluice_attempts_total", &taken).await > 0.5);
    assert!(!shown.contains("m-bad") && !shown.contains("m-good"));
}
