//! `/metrics` and the log, as dashboards read them.
use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire};

fn question(model: &str) -> Value {
    json!({"question": "Hi", "user_id": "user-with-a-name", "model": model, "mode": "chat"})
}

async fn busy_gateway(upstream: &Upstream) -> Gateway {
    let gateway = Setup::one(Wire::OpenAi, upstream).set(&json!({"cache": {"enabled": true}})).start().await;
    gateway.post("/query", &question("main")).await.expect(200);
    gateway.post("/query", &question("main")).await.expect(200);
    gateway.post("/query", &question("no-such-model-17")).await.expect(404);
    upstream.script([Act::failed(), Act::failed()]);
    gateway.post("/query", &question("solo")).await;
    gateway.stream("/stream", &json!({"prompt": "Ho", "user_id": "u", "mode": "chat"})).await.rest().await;
    gateway.post("/predict", &json!({"text": "good"})).await.expect(200);
    gateway
}

#[tokio::test]
async fn promtool_finds_nothing_to_say() {
    let upstream = Upstream::answering().await;
    let metrics = busy_gateway(&upstream).await.get("/metrics").await.text();
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is here; run ./test as root once, it installs Debian's `prometheus`");
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // The contract keeps this name, whatever promtool thinks of `ms`.
    let kept = "ai_request_duration_ms metric names should not contain abbreviated units";
    let complaints: Vec<_> = said.lines().filter(|line| *line != kept && !line.is_empty()).collect();
    assert!(complaints.is_empty() && metrics.contains("ai_requests_total"), "{said}");
}

#[tokio::test]
async fn the_names_that_dashboards_know_are_there() {
    let upstream = Upstream::answering().await;
    let gateway = busy_gateway(&upstream).await;
    assert!(gateway.metric("ai_requests_total", &[("status", "error")]).await >= 1.0);
    assert!(gateway.metric("ai_requests_total", &[("status", "success")]).await >= 3.0);
    assert!(gateway.metric("ai_tokens_total", &[]).await > 0.0);
    let text = gateway.get("/metrics").await.text();
    for bucket in ["100", "250", "500", "1000", "2000", "5000"] {
        assert!(text.contains(&format!("le=\"{bucket}\"")), "bucket {bucket}");
    }
    for name in [
        "ai_request_duration_ms_bucket",
        "ai_request_duration_seconds_bucket",
        "prediction_requests_total",
        "prediction_latency_seconds",
        "model_errors_total",
        "gen_ai_client_token_usage",
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
    ] {
        assert!(text.contains(name), "`{name}` is missing");
    }
}

#[tokio::test]
async fn no_caller_can_put_a_word_into_a_label() {
    let upstream = Upstream::answering().await;
    let text = busy_gateway(&upstream).await.get("/metrics").await.text();
    for word in ["no-such-model-17", "user-with-a-name", "sk-provider"] {
        assert!(!text.contains(word), "`{word}` is in the metrics");
    }
}

#[tokio::test]
async fn a_request_leaves_one_log_line_and_each_model_call_one() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let answer = gateway.post("/query", &question("main")).await;
    let id = answer.header("x-request-id").unwrap();
    gateway.audit(1).await;
    tokio::time::sleep(crate::support::ms(100)).await;
    let log = gateway.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(id)).collect();
    let request =
        lines.iter().find(|line| line.contains("question_length")).unwrap_or_else(|| panic!("{log}"));
    for field in [
        "user_id",
        "latency_ms",
        "confidence",
        "prompt_version",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "model",
        "cache",
        "status",
    ] {
        assert!(request.contains(field), "`{field}` is missing in {request}");
    }
    assert!(serde_json::from_str::<Value>(request).is_ok(), "{request}");
    assert!(log.lines().any(|line| line.contains("llm_call") && line.contains("latency_ms")), "{log}");
}

#[tokio::test]
async fn a_quiet_log_still_says_where_it_listens() {
    let upstream = Upstream::answering().await;
    for level in ["error", "off"] {
        let gateway =
            Setup::one(Wire::OpenAi, &upstream).set(&json!({"log": {"level": level}})).start().await;
        gateway.post("/query", &question("main")).await.expect(200);
        gateway.audit(1).await;
        assert_eq!(gateway.log().lines().count(), 1, "{}", gateway.log());
    }
}
