//! Streams as real servers send them, which are not quite as their API says: what callers get is.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire};

const CHAT: &str = "/v1/chat/completions";
const PATHS: [&str; 3] = [CHAT, "/v1/messages", "/v1/responses"];

fn ask(path: &str, stream: bool) -> Value {
    let tool = json!({"name": "f", "parameters": {"type": "object"}, "type": "function"});
    let mut body = json!({"model": "main", "stream": stream});
    match path {
        CHAT => body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]),
        "/v1/messages" => {
            body["tools"] = json!([{"name": "f", "input_schema": {"type": "object"}}]);
            body["max_tokens"] = 9.into();
        }
        _ => body["tools"] = json!([tool]),
    }
    let field = if path == "/v1/responses" { "input" } else { "messages" };
    body[field] = json!([{"role": "user", "content": "Hi"}]);
    body
}

/// A page of chunks, each of one delta and a reason to end, and `[DONE]`.
fn page(chunks: &[(Value, Value)]) -> Act {
    let chunk = |(delta, reason): &(Value, Value)| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        format!("data: {}\n\n", json!({"id": "x", "model": "m", "choices": [choice]}))
    };
    let chunks: String = chunks.iter().map(chunk).collect();
    Act::page("text/event-stream", &format!("{chunks}data: [DONE]\n\n"))
}

fn calls(pieces: &[Value]) -> Act {
    let deltas = pieces.iter().map(|piece| (json!({"tool_calls": [piece]}), Value::Null));
    page(&deltas.chain([(json!({}), json!("tool_calls"))]).collect::<Vec<_>>())
}

/// The id, name and arguments of each call, as a client of this API puts them together, and why the answer ended.
async fn heard(gateway: &Gateway, path: &str) -> (Vec<(String, String, String)>, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut calls, mut end) = (BTreeMap::<u64, (String, String, String)>::new(), String::new());
    for frame in gateway.stream(path, &ask(path, true)).await.rest().await {
        if frame.data.as_deref().is_none_or(|data| data == "[DONE]") {
            continue;
        }
        let said = frame.json();
        let mut add = |index: &Value, id: &Value, name: &Value, arguments: &Value| {
            let call = calls.entry(index.as_u64().unwrap()).or_default();
            call.0.push_str(&text(id));
            call.1.push_str(&text(name));
            call.2.push_str(&text(arguments));
        };
        match path {
            CHAT => {
                let choice = &said["choices"][0];
                end.push_str(&text(&choice["finish_reason"]));
                for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                    let function = &call["function"];
                    add(&call["index"], &call["id"], &function["name"], &function["arguments"]);
                }
            }
            "/v1/messages" => {
                let (block, delta) = (&said["content_block"], &said["delta"]);
                end.push_str(&text(&delta["stop_reason"]));
                if block["type"] == "tool_use" || delta["type"] == "input_json_delta" {
                    add(&said["index"], &block["id"], &block["name"], &delta["partial_json"]);
                }
            }
            _ => {
                let (index, item) = (&said["output_index"], &said["item"]);
                if said["type"] == "response.output_item.added" {
                    add(index, &item["call_id"], &item["name"], &Value::Null);
                } else if said["type"] == "response.function_call_arguments.delta" {
                    add(index, &Value::Null, &Value::Null, &said["delta"]);
                } else if said["type"] == "response.completed" {
                    end = text(&said["response"]["status"]);
                }
            }
        }
    }
    (calls.into_values().collect(), end)
}

#[tokio::test]
async fn calls_keep_their_ids_and_names_however_they_are_numbered() {
    let piece = |index: u32, id: &str, arguments: &str| {
        let mut piece = json!({"index": index, "function": {"arguments": arguments}});
        if !id.is_empty() {
            piece["id"] = id.into();
            piece["function"]["name"] = format!("f{id}").into();
        }
        piece
    };
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for path in PATHS {
        for pieces in [
            // The second before the first, in turns.
            vec![
                piece(1, "b", ""),
                piece(0, "a", ""),
                piece(1, "", "{\"x\":"),
                piece(0, "", "{}"),
                piece(1, "", "1}"),
            ],
            // All of the same number, as Ollama's, and far from 0.
            vec![piece(0, "b", "{\"x\":1}"), piece(0, "a", "{}")],
            vec![piece(3, "b", "{\"x\":1}"), piece(9, "a", "{}")],
        ] {
            upstream.script([calls(&pieces)]);
            let (calls, end) = heard(&gateway, path).await;
            let calls: Vec<_> = calls.iter().map(|(id, name, said)| (&**id, &**name, &**said)).collect();
            assert_eq!(calls, [("b", "fb", "{\"x\":1}"), ("a", "fa", "{}")], "{path}: {pieces:?}");
            assert!(["tool_calls", "tool_use", "completed"].contains(&&*end), "{path}: {end}");
        }
    }
}

#[tokio::test]
async fn a_call_without_an_id_gets_one_and_one_without_a_name_is_no_answer() {
    let upstream = Upstream::answering().await;
    let once = json!({"retry": {"attempts": 1}, "breaker": {"failures": 100, "min_requests": 100}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&once).start().await;
    let call = |call: Value| json!({"index": 0, "type": "function", "function": call});
    let (nameless, idless) = (json!({"arguments": "{}"}), json!({"name": "f", "arguments": "{}"}));
    let whole = |function: &Value| {
        let message = json!({"role": "assistant", "content": null, "tool_calls": vec![json!({"function": function}); 2]});
        let body = json!({"id": "x", "model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}]});
        Act::page("application/json", &body.to_string())
    };
    let mut ids = Vec::new();
    for path in PATHS {
        upstream.script([calls(&[call(idless.clone())])]);
        let (calls_, _) = heard(&gateway, path).await;
        assert_eq!((calls_.len(), &*calls_[0].1, &*calls_[0].2), (1, "f", "{}"), "{path}");
        ids.push(calls_[0].0.clone());
        upstream.script([whole(&idless)]);
        let body = gateway.post(path, &ask(path, false)).await.expect(200);
        let told = match path {
            CHAT => body["choices"][0]["message"]["tool_calls"].as_array(),
            "/v1/messages" => body["content"].as_array(),
            _ => body["output"].as_array(),
        };
        let field = if path == "/v1/responses" { "call_id" } else { "id" };
        let told = told.unwrap();
        assert_eq!(told.len(), 2, "{body}");
        ids.extend(told.iter().map(|call| call[field].as_str().unwrap().to_owned()));

        upstream.script([calls(&[call(nameless.clone())]), whole(&nameless)]);
        for stream in [true, false] {
            let answer = gateway.post(path, &ask(path, stream)).await;
            assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        }
    }
    assert!(ids.iter().all(|id| id.starts_with("call_") && id.len() <= 40), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "each has its own");
}

#[tokio::test]
async fn a_stream_that_ends_with_nothing_is_asked_for_again() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"retry": {"attempts": 2}})).start().await;
    let text = |chunks: &[Value]| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    };
    let role = (json!({"role": "assistant", "content": ""}), Value::Null);
    for (asked, act, said) in [
        (2, page(std::slice::from_ref(&role)), "Hello from upstream."),
        (2, page(&[]), "Hello from upstream."),
        // Some never say why they end.
        (1, page(&[role.clone(), (json!({"content": "a"}), Value::Null)]), "a"),
        // One that says so may be empty.
        (1, page(&[(json!({}), json!("stop"))]), ""),
    ] {
        let before = upstream.asked();
        upstream.script([act]);
        let (chunks, done) = gateway.stream(CHAT, &ask(CHAT, true)).await.chunks().await;
        assert!(done, "{chunks:?}");
        assert_eq!((text(&chunks).as_str(), upstream.asked() - before), (said, asked), "{chunks:?}");
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }
    // What comes after the reason is said before it.
    upstream.script([page(&[
        (json!({"content": "a"}), json!("length")),
        (json!({"content": "b"}), Value::Null),
    ])]);
    let (chunks, _) = gateway.stream(CHAT, &ask(CHAT, true)).await.chunks().await;
    assert_eq!(text(&chunks), "ab");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}
