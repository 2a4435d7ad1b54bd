//! A provider that answers with more than anybody asked for: lists of empty things, which take little on the wire and
//! much in memory.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire};

/// What is asked, whole or as a stream.
fn chat(stream: bool) -> Value {
    json!({"model": "solo", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
}

/// That each of these answers is refused as broken, and that the next one, which is good, is given.
async fn refused(wire: Wire, stream: bool, answers: Vec<String>) {
    let upstream = Upstream::answering().await;
    let patient = json!({"first_token": "30s", "idle": "30s", "total": "60s"});
    let once = json!({"retry": {"attempts": 1}, "breaker": {"failures": 100, "min_requests": 100}, "timeouts": patient});
    let gateway: Gateway = Setup::one(wire, &upstream).set(&once).start().await;
    let kind = if stream { "text/event-stream" } else { "application/json" };
    for answer in answers {
        upstream.script([Act::page(kind, &answer)]);
        let told = gateway.post("/v1/chat/completions", &chat(stream)).await;
        let start = &answer[..answer.len().min(160)];
        assert!(
            told.status == 502 || stream && told.status == 200,
            "{start}: {} {}",
            told.status,
            told.text()
        );
        assert!(told.text().contains("upstream_broken"), "{start}: {}", told.text());
        assert!(told.text().len() < 1 << 20, "{start}");
    }
    gateway.post("/v1/chat/completions", &chat(false)).await.expect(200);
}

fn stop_of_0() -> Value {
    json!({"type": "content_block_stop", "index": 0})
}

/// As a stream of events.
fn events(events: impl IntoIterator<Item = Value>) -> String {
    events.into_iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[tokio::test]
async fn an_answer_of_endlessly_many_parts_is_none() {
    let delta =
        |choice: usize, calls: Value| json!({"choices": [{"index": choice, "delta": {"tool_calls": calls}}]});
    // One small piece for each answer, which says that 4,096 calls came before it.
    let far = events((0..128).map(|choice| delta(choice, json!([{"index": 4096}]))));
    let many = events((0..128).map(|choice| delta(choice, json!(vec![json!({"id": "c"}); 20]))));
    let crowded = format!("data: {{\"choices\":[{}{{}}]}}\n\n", "{},".repeat(200_000));
    let error = format!(
        "data: {{\"choices\":[],\"usage\":{{}}}}\n\ndata: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{}0]}}}}]}}\n\n",
        "{},".repeat(200_000)
    );
    refused(Wire::OpenAi, true, vec![far, many, crowded, error]).await;

    let choices = format!("{{\"choices\":[{}{{}}]}}", "{\"message\":{}},".repeat(200_000));
    let calls = vec![json!({"message": {"tool_calls": vec![json!({}); 300]}}); 128];
    refused(Wire::OpenAi, false, vec![choices, json!({ "choices": calls }).to_string()]).await;
}

#[tokio::test]
async fn nor_is_one_of_endlessly_many_blocks() {
    let empty = |content: &str| format!("{{\"stop_reason\":\"end_turn\",\"content\":[{content}{{}}]}}");
    let blocks = empty(&"{},".repeat(200_000));
    let calls = empty(&"{\"type\":\"tool_use\",\"name\":\"f\"},".repeat(1100));
    refused(Wire::Anthropic, false, vec![blocks, calls]).await;

    let start = |content: Value| json!({"type": "message_start", "message": {"content": content}});
    let call = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f"}});
    let calls = [call, stop_of_0()].into_iter().cycle().take(2200);
    let calls = events([start(json!([]))].into_iter().chain(calls));
    // Texts, and texts and thoughts in turns: what callers get of them is kept until the end.
    let text =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}});
    let texts =
        events([start(json!([]))].into_iter().chain([text, stop_of_0()].into_iter().cycle().take(8200)));
    let whole = events([start(json!(vec![json!({}); 300_000]))]);
    refused(Wire::Anthropic, true, vec![whole, calls, texts]).await;
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
    let turns = [delta(json!({"content": "a"})), delta(json!({"reasoning_content": "b"}))];
    refused(Wire::OpenAi, true, vec![events(turns.into_iter().cycle().take(4100))]).await;
}

#[tokio::test]
async fn vectors_have_an_end() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"retry": {"attempts": 1}})).start().await;
    let long = format!("{{\"data\":[{{\"embedding\":[{}0]}}]}}", "0,".repeat(1 << 20));
    let many = format!("{{\"data\":[{}{{\"embedding\":[]}}]}}", "{\"embedding\":[]},".repeat(100_000));
    for answer in [long, many] {
        upstream.script([Act::page("application/json", &answer)]);
        let told = gateway.post("/v1/embeddings", &json!({"model": "embed", "input": "Hi"})).await;
        assert_eq!(told.expect(502)["error"]["code"], "upstream_broken");
    }
}
