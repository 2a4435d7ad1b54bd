//! An equal question is answered without a second call.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms};

const CHAT: &str = "/v1/chat/completions";

fn chat(text: &str, stream: bool) -> Value {
    let usage = json!({"include_usage": true});
    let mut body = json!({"model": "main", "messages": [{"role": "user", "content": text}], "stream": stream, "temperature": 0});
    if stream {
        body["stream_options"] = usage;
    }
    body
}

async fn gateway(upstream: &Upstream) -> Gateway {
    Setup::one(Wire::OpenAi, upstream).set(&json!({"cache": {"enabled": true}})).start().await
}

#[tokio::test]
async fn an_equal_question_is_a_hit() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let first = gateway.post(CHAT, &chat("Hi", false)).await;
    let again = gateway.post(CHAT, &chat("Hi", false)).await;
    assert_eq!((first.header("x-cache"), again.header("x-cache")), (Some("MISS"), Some("HIT")));
    assert_eq!(first.expect(200)["choices"], again.expect(200)["choices"]);
    assert_ne!(first.header("x-request-id"), again.header("x-request-id"));
    let asked = json!({"question": "Hi", "user_id": "u1", "mode": "chat"});
    gateway.post("/query", &asked).await.expect(200);
    let body = gateway.post("/query", &asked).await.expect(200);
    assert_eq!((&body["cache"], &body["source"]), (&json!("exact"), &json!("cache")));
}

#[tokio::test]
async fn anything_that_changes_the_answer_is_a_miss() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    gateway.post(CHAT, &chat("Hi", false)).await.expect(200);
    for (name, value) in [
        ("temperature", json!(0.7)),
        ("model", json!("solo")),
        ("max_tokens", json!(5)),
        ("seed", json!(1)),
        ("tools", json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])),
        ("response_format", json!({"type": "json_object"})),
        ("field_of_tomorrow", json!(1)),
        ("messages", json!([{"role": "user", "content": "hi"}])),
    ] {
        let mut asked = chat("Hi", false);
        asked[name] = value;
        let answer = gateway.post(CHAT, &asked).await;
        answer.expect(200);
        assert_ne!(answer.header("x-cache"), Some("HIT"), "another `{name}`");
    }
}

#[tokio::test]
async fn a_hit_replays_as_a_stream_with_tools_thoughts_and_usage() {
    let act = Act::call_tool("weather", &json!({"city": "Köln"})).thinking("hm");
    let upstream = Upstream::start(act).await;
    let gateway = gateway(&upstream).await;
    let join = |chunks: &[Value], pointer: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk.pointer(pointer)?.as_str()).collect()
    };
    let (first, _) = gateway.stream(CHAT, &chat("Hi", true)).await.chunks().await;
    let mut again = gateway.stream(CHAT, &chat("Hi", true)).await;
    assert_eq!(again.head.header("x-cache"), Some("HIT"));
    let (again, done) = again.chunks().await;
    assert!(done);
    for pointer in [
        "/choices/0/delta/reasoning_content",
        "/choices/0/delta/tool_calls/0/function/name",
        "/choices/0/delta/tool_calls/0/function/arguments",
        "/choices/0/finish_reason",
    ] {
        assert_eq!(join(&first, pointer), join(&again, pointer), "{pointer}");
        assert!(!join(&first, pointer).is_empty(), "{pointer}");
    }
    assert_eq!(first.last().unwrap()["usage"], again.last().unwrap()["usage"]);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn equal_questions_at_once_make_one_call() {
    let upstream = Upstream::start(Act::default().after(ms(300))).await;
    let gateway = gateway(&upstream).await;
    let body = chat("Hi", false);
    let (a, b, c) =
        tokio::join!(gateway.post(CHAT, &body), gateway.post(CHAT, &body), gateway.post(CHAT, &body));
    for answer in [a, b, c] {
        answer.expect(200);
    }
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn a_leader_that_leaves_does_not_take_the_others_with_it() {
    let upstream = Upstream::start(Act::default().after(ms(300))).await;
    let gateway = gateway(&upstream).await;
    let body = chat("Hi", false);
    let leader = tokio::time::timeout(ms(100), gateway.post(CHAT, &body));
    let follower = async {
        tokio::time::sleep(ms(50)).await;
        gateway.post(CHAT, &body).await
    };
    let (leader, follower) = tokio::join!(leader, follower);
    assert!(leader.is_err(), "the leader left");
    follower.expect(200);
}

#[tokio::test]
async fn failures_and_broken_streams_are_not_kept() {
    let upstream = Upstream::answering().await;
    upstream.script([Act::default().cut_after(4)]);
    let gateway = gateway(&upstream).await;
    let (chunks, done) = gateway.stream(CHAT, &chat("Hi", true)).await.chunks().await;
    assert!(!done, "{chunks:?}");
    let (_, done) = gateway.stream(CHAT, &chat("Hi", true)).await.chunks().await;
    assert!(done);
    assert_eq!(upstream.asked(), 2);

    upstream.set_default(Act::status(400, &json!({"error": {"message": "no"}})));
    for _ in 0..2 {
        gateway.post(CHAT, &chat("Ho", false)).await.expect(400);
    }
    assert_eq!(upstream.asked(), 4);
}

#[tokio::test]
async fn tenants_do_not_share_answers() {
    let upstream = Upstream::answering().await;
    let (mut red, mut blue) = (key("red", "sk-red"), key("blue", "sk-blue"));
    (red["tenant"], blue["tenant"]) = ("red".into(), "blue".into());
    let settings = json!({"cache": {"enabled": true}, "auth": {"keys": [red, blue]}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    for key in ["sk-red", "sk-blue"] {
        let answer = gateway.ask("POST", CHAT).bearer(key).json(&chat("Hi", false)).send().await;
        assert_eq!((answer.status, answer.header("x-cache")), (200, Some("MISS")));
    }
}

#[tokio::test]
async fn a_caller_may_bypass_it_and_it_forgets() {
    let upstream = Upstream::answering().await;
    let short = json!({"cache": {"enabled": true, "ttl": "300ms"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&short).start().await;
    let mut asked = json!({"question": "Hi", "user_id": "u1", "mode": "chat"});
    gateway.post("/query", &asked).await.expect(200);
    tokio::time::sleep(ms(400)).await;
    let late = gateway.post("/query", &asked).await;
    assert_eq!(late.header("x-cache"), Some("MISS"), "past its time");
    asked["use_cache"] = false.into();
    let answer = gateway.post("/query", &asked).await;
    assert_eq!((&answer.expect(200)["cache"], answer.header("x-cache")), (&json!("bypass"), Some("BYPASS")));
}

#[tokio::test]
async fn the_metric_knows_what_the_answers_take() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"cache": {"enabled": true}})).start().await;
    gateway.post("/query", &json!({"question": "Hi", "user_id": "u", "mode": "chat"})).await.expect(200);
    let size = gateway.metric("sluice_cache_size_bytes", &[]).await;
    assert!(size > 500.0, "one answer is kept, and it takes {size} bytes");
}
