//! The scripted provider and the client are tested against each other, so
//! that a red test elsewhere speaks of the gateway.
use serde_json::{Value, json};

use crate::support::{Act, Sse, Upstream, client::Ask, ms, upstream::Chances};

async fn chat(upstream: &Upstream, stream: bool) -> Sse {
    let body = json!({"model": "m", "stream": stream, "stream_options": {"include_usage": true}});
    Ask::new(upstream.address, "POST", "/v1/chat/completions").json(&body).stream().await
}

fn text(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn it_answers_whole_and_streamed_on_both_wires() {
    let upstream = Upstream::start(Act::say("Grüße, 世界!").chunks_of(2)).await;
    let (chunks, done) = chat(&upstream, true).await.chunks().await;
    assert!(done);
    assert_eq!(text(&chunks), "Grüße, 世界!");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 18);

    let ask = || Ask::new(upstream.address, "POST", "/v1/messages");
    let whole = ask().json(&json!({"model": "m"})).send().await.expect(200);
    assert_eq!(whole["content"][0]["text"], "Grüße, 世界!");
    let frames = ask().json(&json!({"model": "m", "stream": true})).stream().await.rest().await;
    assert_eq!(frames.last().unwrap().event, "message_stop");
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test]
async fn it_calls_tools_thinks_and_embeds() {
    let upstream = Upstream::start(Act::call_tool("clock", &json!({"zone": "UTC"})).thinking("hm")).await;
    let (chunks, _) = chat(&upstream, true).await.chunks().await;
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"zone":"UTC"}"#);
    let ask = Ask::new(upstream.address, "POST", "/v1/embeddings");
    let whole = ask.json(&json!({"model": "m", "input": ["a", "b"]})).send().await.expect(200);
    assert_eq!(whole["data"][1]["embedding"], json!([1.0, 1.25, 1.5]));
}

#[tokio::test]
async fn it_follows_the_queue_and_then_the_default() {
    let upstream = Upstream::answering().await;
    upstream.script([Act::busy(Some(3)), Act::failed()]);
    let ask =
        || Ask::new(upstream.address, "POST", "/v1/chat/completions").json(&json!({"model": "m"})).send();
    let busy = ask().await;
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("3")));
    assert_eq!(ask().await.status, 500);
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
#[should_panic(expected = "broke off")]
async fn a_cut_stream_is_seen_as_cut() {
    let upstream = Upstream::start(Act::default().cut_after(2)).await;
    chat(&upstream, true).await.rest().await;
}

#[tokio::test]
async fn it_notices_a_client_that_leaves() {
    let upstream = Upstream::start(Act::default().hang_after(2)).await;
    let mut stream = chat(&upstream, true).await;
    stream.next().await.unwrap();
    assert_eq!((upstream.busy(), upstream.open()), (1, 1));
    drop(stream);
    upstream.gone(ms(50)).await;
}

#[tokio::test]
async fn it_misbehaves_as_often_as_it_is_told() {
    let upstream = Upstream::answering().await;
    upstream.misbehave(Chances { cut: 0, failed: 30, busy: 0 }, 7);
    let mut failures = 0;
    for _ in 0..200 {
        let ask = Ask::new(upstream.address, "POST", "/v1/chat/completions");
        failures += usize::from(ask.json(&json!({})).send().await.status == 500);
    }
    assert!((40..80).contains(&failures), "{failures} of 200 failed");
}
