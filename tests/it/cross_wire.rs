//! Any inbound API in front of any provider: the same conversation arrives.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire};

#[tokio::test]
async fn a_whole_conversation_is_carried_from_openai_to_anthropic() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::Anthropic, &upstream).start().await;
    let call = json!({"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Köln\"}"}});
    let asked = json!({
        "model": "main", "temperature": 0.5, "stop": ["END"], "max_completion_tokens": 33,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_7", "content": "rain"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "required",
    });
    gateway.post("/v1/chat/completions", &asked).await.expect(200);
    let sent = upstream.last().body;
    assert!(sent["system"].to_string().contains("Be brief."), "{sent}");
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(33), &json!(0.5)));
    assert_eq!(sent["stop_sequences"], json!(["END"]));
    assert_eq!(sent["tool_choice"]["type"], "any");
    assert_eq!(sent["tools"][0]["name"], "weather");
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages[0]["content"][1]["source"]["data"], "iVBORw0KGgo=");
    let tool_use =
        messages[1]["content"].as_array().unwrap().iter().find(|part| part["type"] == "tool_use").unwrap();
    assert_eq!((&tool_use["id"], &tool_use["input"]), (&json!("call_7"), &json!({"city": "Köln"})));
    assert_eq!(messages[2]["content"][0]["type"], "tool_result");
    assert_eq!(messages[2]["content"][0]["tool_use_id"], "call_7");
    assert_eq!(upstream.last().path, "/v1/messages");
}

#[tokio::test]
async fn a_whole_conversation_is_carried_from_anthropic_to_openai() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let asked = json!({
        "model": "main", "max_tokens": 33, "system": [{"type": "text", "text": "Be brief."}], "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": "Look"},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "toolu_7", "name": "weather", "input": {"city": "Köln"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_7", "content": "rain"}, {"type": "text", "text": "And?"}]},
        ],
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any"},
    });
    gateway.post("/v1/messages", &asked).await.expect(200);
    let sent = upstream.last().body;
    let messages = sent["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "user"], "{sent}");
    let call = &messages[2]["tool_calls"][0];
    assert_eq!(call["id"], "toolu_7");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "Köln"}));
    assert_eq!(messages[3]["tool_call_id"], "toolu_7");
    assert_eq!(sent["tools"][0]["function"]["name"], "weather");
    assert_eq!(sent["tool_choice"], "required");
    assert!(sent["stop"].to_string().contains("END"));
}

#[tokio::test]
async fn a_schema_is_asked_of_either_wire() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::say("{\"n\": 1}")).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let format = json!({"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": true}});
        let asked = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "response_format": format});
        let body = gateway.post("/v1/chat/completions", &asked).await.expect(200);
        assert_eq!(body["choices"][0]["message"]["content"], "{\"n\": 1}");
        let sent = upstream.last().body.to_string();
        assert!(sent.contains("\"integer\""), "{wire:?}: {sent}");
    }
}
