//! `POST /v1/messages`, as Anthropic documents it.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire};

fn ask(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    json!({"model": "main", "max_tokens": 64, "system": "Be brief.", "messages": messages, "stream": stream})
}

fn tools() -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"name": "weather", "description": "The weather.", "input_schema": schema}])
}

#[tokio::test]
async fn a_whole_answer_has_anthropics_shape() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let answer = gateway.post("/v1/messages", &ask(false)).await;
        let body = answer.expect(200);
        assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")));
        assert_eq!(body["content"][0]["type"], "text");
        assert_eq!(body["content"][0]["text"], "Hello from upstream.");
        assert_eq!(body["stop_reason"], "end_turn");
        assert_eq!(body["usage"]["input_tokens"], 11);
        assert_eq!(body["usage"]["output_tokens"], 7);
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    }
}

#[tokio::test]
async fn a_stream_has_anthropics_events_in_order() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let frames = gateway.stream("/v1/messages", &ask(true)).await.rest().await;
        assert!(
            frames.iter().all(|frame| frame.json()["type"] == frame.event),
            "the name and the type agree"
        );
        let mut order: Vec<_> =
            frames.iter().map(|frame| frame.event.as_str()).filter(|name| *name != "ping").collect();
        order.dedup();
        assert_eq!(
            order,
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop"
            ]
        );
        let text: String =
            frames.iter().filter_map(|f| f.json()["delta"]["text"].as_str().map(String::from)).collect();
        assert_eq!(text, "Hello from upstream.");
        let end = frames.iter().find(|frame| frame.event == "message_delta").unwrap().json();
        assert_eq!(
            (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
            (&json!("end_turn"), &json!(7))
        );
    }
}

#[tokio::test]
async fn a_tool_use_comes_whole_and_in_pieces() {
    for wire in Wire::BOTH {
        let upstream =
            Upstream::start(Act::call_tool("weather", &json!({"city": "Köln"})).chunks_of(3)).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let mut asked = ask(false);
        asked["tools"] = tools();
        let body = gateway.post("/v1/messages", &asked).await.expect(200);
        assert_eq!(body["stop_reason"], "tool_use");
        let block = &body["content"][0];
        assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("weather")));
        assert_eq!(block["input"], json!({"city": "Köln"}));

        asked["stream"] = true.into();
        let frames = gateway.stream("/v1/messages", &asked).await.rest().await;
        let start = frames.iter().find(|frame| frame.event == "content_block_start").unwrap().json();
        assert_eq!(start["content_block"]["type"], "tool_use");
        let pieces =
            frames.iter().filter_map(|f| f.json()["delta"]["partial_json"].as_str().map(String::from));
        assert_eq!(
            serde_json::from_str::<Value>(&pieces.collect::<String>()).unwrap(),
            json!({"city": "Köln"})
        );
    }
}

#[tokio::test]
async fn a_tools_result_goes_back_to_the_model() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let mut asked = ask(false);
        asked["tools"] = tools();
        asked["messages"] = json!([
            {"role": "user", "content": "Weather in Köln?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_9", "name": "weather", "input": {"city": "Köln"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "rain and 9 degrees"}]},
        ]);
        gateway.post("/v1/messages", &asked).await.expect(200);
        let sent = upstream.last().body["messages"].to_string();
        assert!(sent.contains("toolu_9") && sent.contains("rain and 9 degrees"), "{sent}");
        assert_eq!(sent.contains(r#""role":"tool""#), wire == Wire::OpenAi, "{sent}");
    }
}

#[tokio::test]
async fn an_image_reaches_either_wire() {
    let image = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let mut asked = ask(false);
        let content = json!([{"type": "image", "source": image}, {"type": "text", "text": "What is this?"}]);
        asked["messages"] = json!([{"role": "user", "content": content}]);
        gateway.post("/v1/messages", &asked).await.expect(200);
        let sent = upstream.last().body["messages"].to_string();
        assert!(sent.contains("iVBORw0KGgo=") && sent.contains("image/png"), "{sent}");
    }
}

#[tokio::test]
async fn a_thought_keeps_its_signature() {
    let upstream = Upstream::start(Act::say("42").thinking("six times seven")).await;
    let gateway = Setup::one(Wire::Anthropic, &upstream).start().await;
    let body = gateway.post("/v1/messages", &ask(false)).await.expect(200);
    assert_eq!(body["content"][0]["thinking"], "six times seven");
    assert_eq!(body["content"][0]["signature"], "c2lnbmVk");
    assert_eq!(body["content"][1]["text"], "42");
}

#[tokio::test]
async fn the_provider_gets_the_key_and_version_that_anthropic_wants() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::Anthropic, &upstream).start().await;
    gateway.post("/v1/messages", &ask(false)).await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-api-key"), Some("sk-provider"));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    assert!(seen.body["system"].to_string().contains("Be brief."), "{}", seen.body);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_event() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::default().cut_after(5)).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let frames = gateway.stream("/v1/messages", &ask(true)).await.rest().await;
        let last = frames.last().unwrap();
        assert_eq!(last.event, "error");
        assert!(last.json()["error"]["message"].is_string(), "{last:?}");
        assert!(frames.iter().all(|frame| frame.event != "message_stop"));
    }
}
