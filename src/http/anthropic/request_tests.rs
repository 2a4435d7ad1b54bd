use serde_json::json;

use super::*;
use crate::{
    chat::{Media, Part, Source, ToolCall},
    http::read::tests::complaint,
};

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn read(json: &Value) -> Request {
    parse(json.to_string().as_bytes()).unwrap()
}

/// A small request with one more field.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    body[field] = value;
    body
}

#[test]
fn every_parameter_finds_its_place_and_unknown_ones_survive() {
    let chat = read(&json!({
        "model": "m", "max_tokens": 9, "stream": true, "temperature": 1, "top_p": 0.5, "top_k": 3,
        "system": [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "x"}], "stop_sequences": ["END"], "metadata": {"user_id": "u"},
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": 1},
            {"type": "custom", "name": "g"}, {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"a": 1}}, "x": 1}
    }));
    let rest = map(&json!({"cache_control": {"type": "ephemeral"}}));
    let system =
        Message { role: Role::System, parts: vec![Part::Text { text: "be".into(), rest }], name: None };
    let function = |name: &str, description: Option<&str>, parameters, rest: &Value| Tool::Function {
        name: name.into(),
        description: description.map(Into::into),
        parameters,
        strict: None,
        rest: map(rest),
    };
    assert_eq!(
        chat,
        Request {
            model: "m".into(),
            messages: vec![system, Message::new(Role::User, "x")],
            stream: true,
            max_tokens: Some(9),
            temperature: Some(1.0),
            top_p: Some(0.5),
            stop: vec!["END".into()],
            tools: vec![
                function("f", Some("d"), json!({"type": "object"}), &json!({"cache_control": 1})),
                function("g", None, no_arguments(), &json!({})),
                Tool::Other(json!({"type": "web_search_20250305", "name": "web_search"})),
            ],
            tool_choice: Some(ToolChoice::Named("f".into())),
            parallel_tool_calls: Some(false),
            format: Some(Format::Schema {
                name: "answer".into(),
                schema: json!({"a": 1}),
                description: None,
                strict: None,
            }),
            reasoning: Some(Reasoning { effort: Some("low".into()), budget: Some(2000), rest: Map::new() }),
            user: Some("u".into()),
            family: Family::Anthropic,
            rest: map(&json!({"top_k": 3, "output_config": {"x": 1}})),
            ..Request::default()
        }
    );
}

#[test]
fn thinking_may_be_off_or_left_to_the_model() {
    let reasoning = |value| read(&with("thinking", value)).reasoning.unwrap();
    assert_eq!(reasoning(json!({"type": "disabled"})).budget, Some(0));
    let adaptive = json!({"type": "adaptive", "display": "omitted"});
    assert_eq!(reasoning(adaptive.clone()), Reasoning { rest: map(&adaptive), ..Reasoning::default() });
}

#[test]
fn blocks_of_every_kind_are_read() {
    let chat = read(&with(
        "messages",
        json!([
            {"role": "user", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}},
                {"type": "document", "title": "t", "source": {"type": "file", "file_id": "f1"}, "citations": {"enabled": true}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
                {"type": "document", "source": {"type": "content", "content": "x"}},
                {"type": "search_result", "x": 1}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "opaque"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"a": "é"}, "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c", "is_error": true, "content": [{"type": "text", "text": "42"}]},
                {"type": "tool_result", "tool_use_id": "d", "content": "43"},
                {"type": "tool_result", "tool_use_id": "e", "cache_control": {"type": "ephemeral"}}]}
        ]),
    ));
    let media = |source, mime: Option<&str>| Media { source, mime: mime.map(Into::into), ..Media::default() };
    let result = |id: &str, text: Option<&str>, failed| Part::ToolResult {
        id: id.into(),
        parts: text.map(|text| Message::new(Role::Tool, text).parts).unwrap_or_default(),
        failed,
        rest: if text.is_none() { map(&json!({"cache_control": {"type": "ephemeral"}})) } else { Map::new() },
    };
    let document = Media {
        name: Some("t".into()),
        rest: map(&json!({"citations": {"enabled": true}})),
        ..media(Source::Id("f1".into()), None)
    };
    let parts: Vec<_> = chat.messages.into_iter().map(|message| message.parts).collect();
    assert_eq!(
        parts,
        [
            vec![
                Part::Image(media(Source::Base64("AAAA".into()), Some("image/png"))),
                Part::Image(media(Source::Url("https://a.test/b.png".into()), None)),
                Part::File(document),
                Part::File(media(Source::Text("words".into()), Some("text/plain"))),
                Part::Other(json!({"type": "document", "source": {"type": "content", "content": "x"}})),
                Part::Other(json!({"type": "search_result", "x": 1})),
            ],
            vec![
                Part::Reasoning { text: "hm".into(), signature: Some("sig".into()), redacted: None },
                Part::Reasoning { text: String::new(), signature: None, redacted: Some("opaque".into()) },
                Part::ToolCall(ToolCall {
                    id: "c".into(),
                    name: "f".into(),
                    arguments: r#"{"a":"é"}"#.into(),
                    rest: map(&json!({"cache_control": {"type": "ephemeral"}})),
                }),
            ],
            vec![result("c", Some("42"), true), result("d", Some("43"), false), result("e", None, false)],
        ]
    );
}

#[test]
fn mistakes_are_named_by_their_path() {
    for (json, words) in [
        (json!({}), "model: is required; max_tokens: is required; messages: is required"),
        (with("max_tokens", json!(0)), "max_tokens: must be at least 1"),
        (with("temperature", json!(1.5)), "temperature: must be from 0 to 1"),
        (with("system", json!(5)), "system: must be a string or a list, not this number"),
        (with("system", json!([{"type": "text"}])), "system[0].text: is required"),
        (with("stop_sequences", json!("x")), "stop_sequences: must be a list, not this string"),
        (
            with("messages", json!([{"role": "system", "content": "x"}])),
            "messages[0].role: must be `user` or `assistant` (instructions go into `system`), not this string",
        ),
        (with("messages", json!([{"role": "user"}])), "messages[0].content: is required"),
        (
            with("messages", json!([{"role": "user", "content": [{"type": "image", "source": {}}]}])),
            "messages[0].content[0].source.type: is required",
        ),
        (
            with(
                "messages",
                json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c",
            "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]}]),
            ),
            "messages[0].content[0].content[0].type: must not be a tool's use or result",
        ),
        (with("tools", json!([{}])), "tools[0].name: is required"),
        (
            with("tool_choice", json!({"type": "some"})),
            "tool_choice.type: must be `auto`, `any`, `tool` or `none`",
        ),
        (with("thinking", json!({"type": "enabled"})), "thinking.budget_tokens: is required"),
        (
            with("output_config", json!({"format": {"type": "xml"}})),
            "output_config.format.type: must be `json_schema`",
        ),
        (with("output_format", json!({"type": "xml"})), "output_format.type: must be `json_schema`"),
        (with("output_format", json!({"type": "json_schema"})), "output_format.schema: is required"),
        (with("output_format", json!([])), "output_format: must be an object, not a list"),
    ] {
        assert_eq!(complaint(parse(json.to_string().as_bytes())), words, "{json}");
    }
}

#[test]
fn the_older_name_of_an_answers_form_is_known() {
    let form = |schema: Value| json!({"type": "json_schema", "schema": schema});
    let newer = read(&with("output_config", json!({"format": form(json!({"a": 1}))})));
    let older = with("output_format", form(json!({"a": 1})));
    assert!(newer.format.is_some());
    assert_eq!(read(&older), newer);
    let both = |config: Value| {
        let mut both = older.clone();
        both["output_config"] = config;
        both
    };
    assert_eq!(read(&both(json!({"format": form(json!({"a": 1}))}))), newer);
    assert_eq!(read(&both(json!({"format": null}))), newer);
    let effort = read(&both(json!({"effort": "low"})));
    assert_eq!((effort.format, effort.reasoning.unwrap().effort.as_deref()), (newer.format, Some("low")));
    let differ = both(json!({"format": form(json!({"a": 2}))}));
    assert_eq!(
        complaint(parse(differ.to_string().as_bytes())),
        "output_format: is the older name of `output_config.format`, and says something else; leave it out"
    );
}
