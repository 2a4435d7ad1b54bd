//! An answer that too little speaks for: a stated one stands in, and a person looks at it.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key};

const QUESTION: &str = "How do I limit requests per user?";
const DOUBTFUL: &str = "Elephants can fly to the moon.";
const STATED: &str = "Ask a person, please.";

async fn gateway(upstream: &Upstream) -> Gateway {
    let mut admin = key("admin", "sk-admin");
    admin["roles"] = json!(["admin"]);
    let settings = json!({
        "auth": {"keys": [admin]},
        "confidence": {"min": 0.4, "answer": STATED},
        "cache": {"enabled": true},
        "session": {"timeout": "10s"},
    });
    Setup::one(Wire::OpenAi, upstream).set(&settings).start().await
}

fn question(mode: &str) -> Value {
    json!({"question": QUESTION, "user_id": "u", "mode": mode, "session_id": "s"})
}

async fn ask(gateway: &Gateway, body: &Value) -> Value {
    gateway.ask("POST", "/query").bearer("sk-admin").json(body).send().await.expect(200)
}

/// What the last event says of a stream, and its text.
async fn stream(gateway: &Gateway, body: &Value) -> (Value, String) {
    let mut stream = gateway.ask("POST", "/stream").bearer("sk-admin").json(body).stream().await;
    let frames = stream.rest().await;
    let usage = frames.iter().find(|frame| frame.event == "usage").and_then(|frame| frame.data.clone());
    let words =
        frames.iter().filter(|frame| frame.event.is_empty()).filter_map(|frame| frame.data.as_deref());
    let text = words.filter(|word| *word != "[DONE]").collect();
    (serde_json::from_str(&usage.unwrap()).unwrap(), text)
}

#[tokio::test]
async fn a_doubtful_answer_is_not_given_whole_or_streamed_and_waits_for_a_person() {
    let upstream = Upstream::start(Act::say(DOUBTFUL).chunks_of(4)).await;
    let gateway = gateway(&upstream).await;
    // The second one comes from the cache, and is judged all the same.
    for cache in ["miss", "exact"] {
        let told = ask(&gateway, &question("rag")).await;
        assert_eq!(
            (&told["answer"], &told["fallback"], &told["source"], &told["confidence"], &told["sources"]),
            (&json!(STATED), &json!(true), &json!("fallback"), &json!(0.0), &json!([])),
            "{told}"
        );
        assert_eq!(told["cache"], cache);
        let path = format!("/audit/{}", told["request_id"].as_str().unwrap());
        let record = gateway.get_as("sk-admin", &path).await.expect(200)["record"].clone();
        assert_eq!((&record["answer"], &record["withheld"]), (&json!(STATED), &json!(DOUBTFUL)), "{record}");
        assert_eq!((&record["stood_in"], &record["review"]), (&json!(true), &json!(true)));
        assert!(record["confidence"].as_f64().unwrap() < 0.4, "{record}");
    }
    let (usage, text) = stream(&gateway, &question("rag")).await;
    assert_eq!(text, STATED);
    assert_eq!((&usage["fallback"], &usage["confidence"]), (&json!(true), &json!(0.0)), "{usage}");
    assert_eq!(upstream.asked(), 1);
    let listed = gateway.get_as("sk-admin", "/review?reason=low_confidence").await.expect(200);
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "{listed}");
    assert_eq!((&items[0]["question"], &items[0]["answer"]), (&json!(QUESTION), &json!(DOUBTFUL)));
    // What the caller did not get is not part of the conversation.
    gateway.get_as("sk-admin", "/sessions/s?user_id=u").await.expect(404);
    assert!(gateway.metric("sluice_guard_findings_total", &[("guard", "confidence")]).await > 2.0);
}

#[tokio::test]
async fn what_is_supported_or_not_from_documents_passes() {
    let supported = "Set limits.requests_per_minute.user to the number of requests per user [1].";
    let upstream = Upstream::start(Act::say(supported)).await;
    let gateway = gateway(&upstream).await;
    let told = ask(&gateway, &question("rag")).await;
    assert_eq!((&told["answer"], &told["fallback"]), (&json!(supported), &json!(false)), "{told}");
    upstream.script([Act::say(DOUBTFUL), Act::say(DOUBTFUL)]);
    let told = ask(&gateway, &question("chat")).await;
    assert_eq!((&told["answer"], &told["confidence"]), (&json!(DOUBTFUL), &json!(0.5)), "{told}");
    let beyond = json!({"question": "What is the capital of France?", "user_id": "u"});
    assert_eq!(ask(&gateway, &beyond).await["answer"], DOUBTFUL);
}
