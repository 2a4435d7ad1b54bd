//! `POST /query`: a question and a whole answer.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire};

fn question(text: &str) -> Value {
    json!({"question": text, "user_id": "u1", "mode": "chat"})
}

#[tokio::test]
async fn a_question_is_answered_by_the_default_model() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::say("Four.")).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let answer = gateway.post("/query", &question("What is two plus two?")).await;
        let body = answer.expect(200);
        assert_eq!(body["answer"], "Four.");
        assert_eq!(body["source"], "model");
        assert_eq!(body["cache"], "bypass");
        assert_eq!(body["fallback"], false);
        assert_eq!(body["usage"]["input_tokens"], 11);
        assert_eq!(body["usage"]["output_tokens"], 7);
        assert!(body["usage"]["cost_usd"].as_f64().unwrap() >= 0.0);
        assert!(body["sources"].is_array() && body["latency_ms"].is_u64());
        assert!((0.0..=1.0).contains(&body["confidence"].as_f64().unwrap()));
        assert_eq!(answer.header("x-request-id"), body["request_id"].as_str());
        assert_eq!(answer.header("x-cache"), Some("BYPASS"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("x-cost-usd").is_some() && answer.header("x-model-version").is_some());
        assert_eq!(upstream.last().body["model"], "model-a");
    }
}

#[tokio::test]
async fn without_configuration_the_handbook_answers() {
    let gateway = Setup::bare().start().await;
    let ask =
        |text: &str| gateway.ask("POST", "/query").json(&json!({"question": text, "user_id": "u1"})).send();
    let body = ask("How do I limit requests per user?").await.expect(200);
    assert!(body["confidence"].as_f64().unwrap() > 0.5, "{body}");
    assert!(!body["sources"].as_array().unwrap().is_empty(), "{body}");
    assert_eq!(body["source"], "rag");
    assert!(body["answer"].as_str().unwrap().to_lowercase().contains("user"), "{body}");
    let body = ask("Who won the football world cup in 1974?").await.expect(200);
    assert!(body["confidence"].as_f64().unwrap() < 0.2, "{body}");
}

#[tokio::test]
async fn a_client_keeps_its_own_request_id_if_it_is_sane() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let ask =
        |id: &str| gateway.ask("POST", "/query").header("x-request-id", id).json(&question("Hi")).send();
    let answer = ask("my-own-id.1").await;
    assert_eq!(answer.expect(200)["request_id"], "my-own-id.1");
    assert_eq!(answer.header("x-request-id"), Some("my-own-id.1"));
    for mad in ["a b", &"x".repeat(129)] {
        let answer = ask(mad).await;
        let id = answer.expect(200)["request_id"].as_str().unwrap().to_owned();
        assert_ne!(id, mad);
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    }
}

#[tokio::test]
async fn model_temperature_and_length_reach_the_provider() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    gateway.post("/query", &question("Hi")).await.expect(200);
    let sent = upstream.last().body;
    assert_eq!(sent["temperature"].as_f64(), Some(0.0), "the default");
    let length = |sent: &Value| sent["max_tokens"].as_u64().or(sent["max_completion_tokens"].as_u64());
    assert_eq!(length(&sent), Some(512), "the default");

    let mut asked = question("Hi");
    for (name, value) in [("model", json!("solo")), ("temperature", json!(0.5)), ("max_tokens", json!(9))] {
        asked[name] = value;
    }
    gateway.post("/query", &asked).await.expect(200);
    let sent = upstream.last().body;
    assert_eq!(sent["temperature"], 0.5);
    assert_eq!(length(&sent), Some(9));
}

#[tokio::test]
async fn each_wrong_field_is_named_in_a_problem_document() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for (body, field) in [
        (json!({"user_id": "u1"}), "question"),
        (json!({"question": "", "user_id": "u1"}), "question"),
        (json!({"question": "ü".repeat(2001), "user_id": "u1"}), "question"),
        (json!({"question": 7, "user_id": "u1"}), "question"),
        (json!({"question": "Hi"}), "user_id"),
        (json!({"question": "Hi", "user_id": "u1", "mode": "dance"}), "mode"),
        (json!({"question": "Hi", "user_id": "u1", "temperature": "hot"}), "temperature"),
        (json!({"question": "Hi", "user_id": "u1", "max_tokens": -1}), "max_tokens"),
    ] {
        let answer = gateway.post("/query", &body).await;
        let problem = answer.expect(422);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        for member in ["type", "title", "status", "detail", "instance"] {
            assert!(!problem[member].is_null(), "`{member}` of {problem}");
        }
        let named = problem["errors"].to_string();
        assert!(named.contains(field), "{named} does not name `{field}`");
    }
    assert_eq!(upstream.asked(), 0);
    gateway.post("/query", &question(&"ü".repeat(2000))).await.expect(200);
}

#[tokio::test]
async fn every_call_leaves_one_audit_record_refused_ones_too() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let answered = gateway.post("/query", &question("Hi")).await;
    let refused =
        gateway.post("/query", &json!({"question": "Hi", "user_id": "u1", "model": "nobody"})).await;
    refused.expect(404);
    let records = gateway.audit(2).await;
    assert_eq!(records.len(), 2);
    for (record, answer) in records.iter().zip([answered, refused]) {
        assert_eq!(record["request_id"].as_str(), answer.header("x-request-id"), "{record}");
    }
}

#[tokio::test]
async fn the_trace_goes_on_to_the_provider() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let ask = gateway.ask("POST", "/query").header("traceparent", &parent);
    ask.json(&question("Hi")).send().await.expect(200);
    let seen = upstream.last();
    let sent = seen.header("traceparent").unwrap();
    assert!(sent.starts_with(&format!("00-{trace}-")) && sent != parent, "{sent}");
}

#[tokio::test]
async fn a_prediction_has_a_label_and_a_confidence() {
    let gateway = Setup::bare().start().await;
    for (text, label) in [("I love this, it is wonderful!", "POSITIVE"), ("Terrible. I hate it.", "NEGATIVE")]
    {
        let body = gateway.post("/predict", &json!({"text": text})).await.expect(200);
        assert_eq!(body["label"], label);
        assert!(body["confidence"].as_f64().unwrap() > 0.5);
        assert!(!body["prediction"].is_null() && body["model_version"].is_string(), "{body}");
    }
    let long = "good ".repeat(20_000);
    assert_eq!(gateway.post("/predict", &json!({"text": long})).await.expect(200)["label"], "POSITIVE");
}

#[tokio::test]
async fn what_no_model_can_do_is_said_and_not_called_an_outage() {
    let gateway = Setup::bare().start().await;
    let asked =
        json!({"question": "How do I make a key?", "user_id": "u", "response_schema": {"type": "object"}});
    for path in ["/query", "/stream"] {
        let body = gateway.post(path, &asked).await.expect(400);
        assert_eq!(body["type"], "urn:sluice:problem:unsupported");
    }
}
