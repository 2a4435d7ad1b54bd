use serde_json::Map;

use super::*;
use crate::chat::{Media, Message, Part, Reasoning, Role, Source};

fn encoded(chat: &Request, model: &str) -> Value {
    serde_json::from_slice(&encode(chat, model).unwrap().body).unwrap()
}

fn asking() -> Request {
    Request { messages: vec![Message::new(Role::User, "hi")], ..Request::default() }
}

fn function(name: &str) -> Tool {
    let rest = json!({"cache_control": {}, "eager": true}).as_object().cloned().unwrap();
    Tool::Function { name: name.into(), description: None, parameters: Value::Null, strict: Some(true), rest }
}

fn schema() -> Format {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    Format::Schema { name: "s".into(), schema, description: None, strict: None }
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn a_small_chat_has_nothing_to_spare() {
    let mut chat = asking();
    chat.messages.insert(0, Message::new(Role::System, "be kind"));
    chat.stream = true;
    chat.user = Some("u".into());
    chat.stop = vec!["END".into(), "\n".into()];
    assert_eq!(
        encoded(&chat, "claude-sonnet-4-5"),
        json!({"model": "claude-sonnet-4-5", "max_tokens": 4096, "system": "be kind", "stream": true,
            "messages": [{"role": "user", "content": "hi"}], "stop_sequences": ["END"], "metadata": {"user_id": "u"}})
    );
    let sent = encode(&chat, "claude-sonnet-4-5").unwrap();
    assert_eq!(sent.path, "/v1/messages");
    assert_eq!(sent.headers["anthropic-version"], "2023-06-01");
}

#[test]
fn what_the_api_cannot_do_is_said() {
    let mut chat = Request { choices: Some(2), ..asking() };
    assert!(matches!(encode(&chat, "m"), Err(Error::Unsupported { .. })));
    chat = Request { purpose: Purpose::Embed { dimensions: None }, ..asking() };
    assert!(matches!(encode(&chat, "m"), Err(Error::Unsupported { .. })));
    chat = asking();
    chat.messages[0].parts.push(Part::Audio(Media::default()));
    assert!(matches!(encode(&chat, "m"), Err(Error::Unsupported { .. })));
}

#[test]
fn tools_are_described_in_its_words() {
    let mut chat = asking();
    chat.tools = vec![function("f"), Tool::Other(json!({"type": "web_search_20250305"}))];
    chat.parallel_tool_calls = Some(false);
    let body = encoded(&chat, "claude-sonnet-4-5");
    let empty = json!({"type": "object", "properties": {}});
    assert_eq!(body["tools"], json!([{"name": "f", "input_schema": empty, "cache_control": {}}]));
    assert_eq!(body["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    chat.family = Family::Anthropic;
    let body = encoded(&chat, "claude-sonnet-4-5");
    let own = json!({"name": "f", "input_schema": empty, "strict": true, "cache_control": {}, "eager": true});
    assert_eq!(body["tools"], json!([own, {"type": "web_search_20250305"}]));
    for (choice, expected) in [
        (ToolChoice::Required, json!({"type": "any", "disable_parallel_tool_use": true})),
        (ToolChoice::None, json!({"type": "none"})),
        (
            ToolChoice::Named("f".into()),
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}),
        ),
    ] {
        chat.tool_choice = Some(choice);
        assert_eq!(encoded(&chat, "m")["tool_choice"], expected);
    }
    chat.tools.clear();
    assert_eq!(encoded(&chat, "m").get("tool_choice"), None);
}

#[test]
fn a_schema_is_held_to_by_whatever_the_model_knows() {
    let mut chat = Request { format: Some(schema()), ..asking() };
    let body = encoded(&chat, "claude-sonnet-4-5");
    let closed =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": closed}}));
    assert_eq!(body.get("tools"), None);
    let body = encoded(&chat, "claude-3-7-sonnet-latest");
    assert_eq!(body["tools"][0]["name"], ANSWER_TOOL);
    assert_eq!(body["tool_choice"]["name"], ANSWER_TOOL);
    chat.tools = vec![function("f")];
    assert_eq!(encoded(&chat, "claude-3-7-sonnet-latest")["tool_choice"]["type"], "any");
    chat.format = Some(Format::Json);
    assert_eq!(encoded(&chat, "claude-3-7-sonnet-latest")["system"], JSON_PLEASE);
}

#[test]
fn a_forced_tool_and_a_budget_do_not_meet() {
    let mut chat = asking();
    chat.tools = vec![function("f")];
    chat.tool_choice = Some(ToolChoice::Required);
    chat.reasoning = Some(Reasoning { effort: Some("high".into()), ..Reasoning::default() });
    assert_eq!(encoded(&chat, "claude-sonnet-4-5").get("thinking"), None);
    chat.tool_choice = None;
    assert_eq!(encoded(&chat, "claude-sonnet-4-5")["thinking"]["budget_tokens"], 16_384);
}

#[test]
fn parameters_of_its_own_go_on_and_those_of_others_stay_behind() {
    let rest = object(
        &json!({"top_k": 5, "service_tier": "auto", "metadata": {"user_id": "x"}, "logprobs": true,
        "output_config": {"effort": "low", "format": {"type": "x"}}, "betas": ["b1"], "thinking": {"type": "x"},
        "store": true, "custom": 1, "model": "other"}),
    );
    let mut chat = Request { rest, family: Family::Anthropic, format: Some(schema()), ..asking() };
    let sent = encode(&chat, "claude-sonnet-4-5").unwrap();
    assert_eq!(sent.headers["anthropic-beta"], "b1");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(
        (&body["top_k"], &body["service_tier"], &body["custom"]),
        (&json!(5), &json!("auto"), &json!(1))
    );
    assert_eq!((&body["metadata"]["user_id"], &body["thinking"]["type"]), (&json!("x"), &json!("x")));
    assert_eq!(
        (&body["output_config"]["effort"], &body["model"]),
        (&json!("low"), &json!("claude-sonnet-4-5"))
    );
    assert_eq!(body["output_config"]["format"]["type"], "json_schema");
    assert_eq!(body.get("betas"), None);
    chat.family = Family::OpenAi;
    chat.format = None;
    let body = encoded(&chat, "claude-opus-4-7");
    let names: Vec<_> = object(&body).keys().cloned().collect();
    assert_eq!(names, ["model", "max_tokens", "messages", "custom"]);
}

#[test]
fn files_of_the_provider_bring_their_beta() {
    let mut chat = asking();
    chat.messages[0]
        .parts
        .push(Part::File(Media { source: Source::Id("file_1".into()), ..Media::default() }));
    assert_eq!(encode(&chat, "m").unwrap().headers["anthropic-beta"], FILES_BETA);
}
