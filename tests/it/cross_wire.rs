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

#[tokio::test]
async fn a_block_goes_on_as_it_is_to_its_own_api_and_is_refused_by_name_before_another() {
    let blocks = [
        json!({"type": "search_result", "source": "https://a.example", "title": "t", "content": [{"type": "text", "text": "x"}]}),
        json!({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}}),
        json!({"type": "container_upload", "file_id": "file_1"}),
        json!({"type": "of_tomorrow", "x": {"y": 1}}),
    ];
    let used = json!([
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "text", "text": "It rains."},
    ]);
    let asked = |block: &Value| {
        json!({"model": "main", "max_tokens": 33, "messages": [
            {"role": "user", "content": "Look"},
            {"role": "assistant", "content": used},
            {"role": "user", "content": [block, {"type": "text", "text": "And?"}]},
        ]})
    };
    let own = Upstream::answering().await;
    let gateway = Setup::one(Wire::Anthropic, &own).start().await;
    for block in &blocks {
        gateway.post("/v1/messages", &asked(block)).await.expect(200);
        let sent = own.last().body;
        assert_eq!(sent["messages"][1]["content"], used, "{sent}");
        assert_eq!(&sent["messages"][2]["content"][0], block, "{sent}");
    }
    let other = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &other).start().await;
    for block in &blocks {
        let error = gateway.post("/v1/messages", &asked(block)).await.expect(400);
        let (told, kind) = (error["error"]["message"].as_str().unwrap(), block["type"].as_str().unwrap());
        assert!(told.contains(&format!("`{kind}`")) && told.contains("no form"), "{error}");
    }
    assert_eq!(other.asked(), 0);
    // What a provider's own tools left behind, and thoughts, stay behind.
    gateway.post("/v1/messages", &asked(&json!({"type": "text", "text": "Well."}))).await.expect(200);
    let sent = other.last().body["messages"].to_string();
    assert!(sent.contains("It rains.") && !sent.contains("srvtoolu") && !sent.contains("hm"), "{sent}");
    // The other way round.
    let asked = json!({"model": "main", "messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]});
    gateway.post("/v1/chat/completions", &asked).await.expect(200);
    assert_eq!(other.last().body["messages"][0]["content"][0]["type"], "video_url");
    let gateway = Setup::one(Wire::Anthropic, &own).start().await;
    let error = gateway.post("/v1/chat/completions", &asked).await.expect(400);
    assert!(error["error"]["message"].as_str().unwrap().contains("`video_url`"), "{error}");
}
