use serde_json::json;

use super::*;
use crate::{
    chat::{Format, Media, Source, Tool, ToolChoice},
    error::Error,
    http::read::tests::complaint,
};

fn read(json: &Value) -> Request {
    parse(json.to_string().as_bytes()).unwrap().chat
}

fn told(json: &str) -> String {
    complaint(parse(json.as_bytes()))
}

#[test]
fn a_small_chat_is_read() {
    let chat = read(&json!({"model": "m", "messages": [{"role": "user", "content": "hé\n"}]}));
    let messages = vec![Message::new(Role::User, "hé\n")];
    assert_eq!(chat, Request { model: "m".into(), messages, family: Family::OpenAi, ..Request::default() });
}

#[test]
fn every_parameter_finds_its_place_and_unknown_ones_survive() {
    let parsed = parse(
        json!({
            "logit_bias": {"1": 2}, "model": "m", "messages": [{"role": "developer", "content": "x", "name": "bob"}],
            "stream": true, "stream_options": {"include_usage": true, "x": 1}, "max_tokens": 5, "temperature": 1,
            "top_p": 0.5, "stop": "END", "seed": -3, "n": 2, "parallel_tool_calls": false, "user": "u",
            "reasoning_effort": "low", "tool_choice": {"type": "function", "function": {"name": "f"}},
            "tools": [{"type": "function", "cache_control": 1, "function": {"name": "f", "description": "d",
                "parameters": {"type": "object"}, "strict": true}}, {"type": "web_search", "a": 1}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"a": 1}}},
            "min_p": 0.25
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    assert!(parsed.include_usage);
    let rest =
        json!({"logit_bias": {"1": 2}, "min_p": 0.25, "stream_options": {"include_usage": true, "x": 1}});
    let message = Message { name: Some("bob".into()), ..Message::new(Role::Developer, "x") };
    let tool = Tool::Function {
        name: "f".into(),
        description: Some("d".into()),
        parameters: json!({"type": "object"}),
        strict: Some(true),
        rest: json!({"cache_control": 1}).as_object().cloned().unwrap(),
    };
    let format =
        Format::Schema { name: "s".into(), schema: json!({"a": 1}), description: None, strict: None };
    assert_eq!(
        parsed.chat,
        Request {
            model: "m".into(),
            messages: vec![message],
            stream: true,
            max_tokens: Some(5),
            temperature: Some(1.0),
            top_p: Some(0.5),
            stop: vec!["END".into()],
            seed: Some(-3),
            choices: Some(2),
            tools: vec![tool, Tool::Other(json!({"type": "web_search", "a": 1}))],
            tool_choice: Some(ToolChoice::Named("f".into())),
            parallel_tool_calls: Some(false),
            format: Some(format),
            reasoning: Some(Reasoning { effort: Some("low".into()), ..Reasoning::default() }),
            user: Some("u".into()),
            family: Family::OpenAi,
            rest: rest.as_object().cloned().unwrap(),
            ..Request::default()
        }
    );
}

#[test]
fn the_newer_limit_wins_and_keeps_its_name() {
    let chat = read(&json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 5, "max_completion_tokens": 7}));
    assert_eq!((chat.max_tokens, chat.rest.get("max_completion_tokens")), (Some(7), Some(&json!(7))));
}

#[test]
fn a_conversation_with_tools_is_read() {
    let chat = read(&json!({"model": "m", "messages": [
        {"role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm", "tool_calls":
            [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "refusal": "no"}]}));
    let thought = Part::Reasoning { text: "hm".into(), signature: None, redacted: None };
    let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), ..ToolCall::default() };
    let parts = Message::new(Role::Tool, "42").parts;
    let result = Part::ToolResult { id: "c".into(), parts, failed: false, rest: Map::new() };
    let parts: Vec<_> = chat.messages.into_iter().map(|message| message.parts).collect();
    assert_eq!(parts, [vec![thought, Part::ToolCall(call)], vec![result], vec![Part::Refusal("no".into())]]);
}

#[test]
fn parts_of_every_kind_are_read() {
    let chat = read(&json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a.test/b.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "x"}}]}]}));
    let map = |value: Value| value.as_object().cloned().unwrap();
    let media = |source, mime: Option<&str>| Media { source, mime: mime.map(Into::into), ..Media::default() };
    let bytes = || Source::Base64("AAAA".into());
    assert_eq!(
        chat.messages[0].parts,
        [
            Part::Text { text: "a".into(), rest: map(json!({"cache_control": {"type": "ephemeral"}})) },
            Part::Image(Media { rest: map(json!({"detail": "low"})), ..media(bytes(), Some("image/png")) }),
            Part::Image(media(Source::Url("https://a.test/b.png".into()), None)),
            Part::Audio(media(bytes(), Some("audio/mpeg"))),
            Part::File(Media { name: Some("a.pdf".into()), ..media(bytes(), Some("application/pdf")) }),
            Part::File(media(Source::Id("file-1".into()), None)),
            Part::Other(json!({"type": "video_url", "video_url": {"url": "x"}})),
        ]
    );
}

#[test]
fn mistakes_are_named_by_their_path() {
    let user = r#""messages":[{"role":"user","content":"x"}]"#;
    for (json, words) in [
        ("{}".to_owned(), "model: is required; messages: is required"),
        (r#"{"model":"","messages":[]}"#.into(), "model: must not be empty; messages: must have at least one message"),
        (r#"{"model":"m","messages":[{"role":"king","content":"x"}]}"#.into(),
            "messages[0].role: must be one of `system`, `developer`, `user`, `assistant` and `tool`, not this string"),
        (r#"{"model":"m","messages":[{"content":"x"}]}"#.into(), "messages[0].role: is required"),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#.into(), "messages[0].content: is required"),
        (r#"{"model":"m","messages":[{"role":"user","content":{}}]}"#.into(),
            "messages[0].content: must be a string or a list, not an object"),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#.into(),
            "messages[0].content[0].text: is required"),
        (r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":1}}]}]}"#.into(),
            "messages[0].content[0].image_url.url: must be a string"),
        (r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#.into(), "messages[0].tool_call_id: is required"),
        (r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"c"}]}]}"#.into(),
            "messages[0].tool_calls[0].function: is required"),
        (format!(r#"{{"model":"m",{user},"temperature":"hot"}}"#), "temperature: must be a number, not this string"),
        (format!(r#"{{"model":"m",{user},"temperature":3,"max_tokens":0,"n":999}}"#),
            "max_tokens: must be at least 1; temperature: must be from 0 to 2; n: must be at most 128"),
        (format!(r#"{{"model":"m",{user},"temperature":1e400}}"#), "temperature: must be a number that is not too large"),
        (format!(r#"{{"model":"m",{user},"top_k":-1e400}}"#), "top_k: must be a number that is not too large"),
        (format!(r#"{{"model":"m",{user},"stream_options":{{"include_usage":true}}}}"#),
            "stream_options: is only allowed when `stream` is true"),
        (format!(r#"{{"model":"m",{user},"stream":false,"stream_options":{{}}}}"#),
            "stream_options: is only allowed when `stream` is true"),
        (format!(r#"{{"model":"m",{user},"stop":[1]}}"#), "stop[0]: must be a string, not this number"),
        (format!(r#"{{"model":"m",{user},"model":"m"}}"#), "model: is given twice"),
        (format!(r#"{{"model":"m",{user},"tool_choice":"some"}}"#),
            "tool_choice: must be `auto`, `none`, `required` or an object"),
        (format!(r#"{{"model":"m",{user},"tools":[{{"type":"function"}}]}}"#), "tools[0].function: is required"),
        (format!(r#"{{"model":"m",{user},"response_format":{{"type":"xml"}}}}"#),
            "response_format.type: must be `text`, `json_object` or `json_schema`"),
    ] {
        assert_eq!(told(&json), words, "{json}");
    }
    assert!(matches!(parse(b"{\"model\":"), Err(Error::NotJson(_))));
    let none = format!(r#"{{"model":"m",{user},"stream_options":null}}"#);
    assert_eq!(told(&none), "it was accepted");
}
