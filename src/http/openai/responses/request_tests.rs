use serde_json::json;

use super::*;
use crate::{
    chat::{Media, Part, Source, Tool, ToolCall, ToolChoice},
    http::read::tests::complaint,
};

fn read(json: &Value) -> Request {
    parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn every_parameter_finds_its_place_and_unknown_ones_survive() {
    let chat = read(&json!({
        "model": "m", "input": "x", "instructions": "be", "max_output_tokens": 9, "temperature": 1, "top_p": 0.5,
        "stream": true, "parallel_tool_calls": false, "user": "u", "store": true, "previous_response_id": null,
        "background": false, "tools": [{"type": "function", "name": "f", "parameters": null, "strict": false},
            {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"}, "metadata": {"a": "b"},
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {"a": 1}, "strict": true}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"}
    }));
    let map = |value: Value| value.as_object().cloned().unwrap();
    let tool = Tool::Function {
        name: "f".into(),
        description: None,
        parameters: json!({"type": "object", "properties": {}}),
        strict: Some(false),
        rest: Map::new(),
    };
    assert_eq!(
        chat,
        Request {
            model: "m".into(),
            messages: vec![Message::new(Role::System, "be"), Message::new(Role::User, "x")],
            stream: true,
            max_tokens: Some(9),
            temperature: Some(1.0),
            top_p: Some(0.5),
            tools: vec![tool, Tool::Other(json!({"type": "web_search"}))],
            tool_choice: Some(ToolChoice::Named("f".into())),
            parallel_tool_calls: Some(false),
            format: Some(Format::Schema {
                name: "s".into(),
                schema: json!({"a": 1}),
                description: None,
                strict: Some(true),
            }),
            reasoning: Some(Reasoning {
                effort: Some("low".into()),
                budget: None,
                rest: map(json!({"summary": "auto"})),
            }),
            user: Some("u".into()),
            family: Family::Responses,
            rest: map(json!({"store": true, "metadata": {"a": "b"}, "text": {"verbosity": "low"}})),
            ..Request::default()
        }
    );
}

#[test]
fn items_become_turns() {
    let chat = read(&json!({"model": "m", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            {"type": "input_image", "file_id": "f1"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "sig"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "let me see", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "d", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
        {"type": "function_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "43"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "opaque"}]}));
    let text = |text: &str| Part::Text { text: text.into(), rest: Map::new() };
    let media = |source, mime: Option<&str>| Media { source, mime: mime.map(Into::into), ..Media::default() };
    let bytes = || Source::Base64("AAAA".into());
    let call = |id: &str, name: &str| {
        let (id, name, arguments) = (id.into(), name.into(), "{}".into());
        Part::ToolCall(ToolCall { id, name, arguments, ..ToolCall::default() })
    };
    let result = |id: &str, said: &str| Part::ToolResult {
        id: id.into(),
        parts: vec![text(said)],
        failed: false,
        rest: Map::new(),
    };
    let detail = json!({"detail": "low"}).as_object().cloned().unwrap();
    let turns: Vec<_> = chat.messages.into_iter().map(|message| (message.role, message.parts)).collect();
    assert_eq!(
        turns,
        [
            (
                Role::User,
                vec![
                    text("see"),
                    Part::Image(Media { rest: detail, ..media(bytes(), Some("image/png")) }),
                    Part::Image(media(Source::Id("f1".into()), None)),
                    Part::File(Media {
                        name: Some("a.pdf".into()),
                        ..media(bytes(), Some("application/pdf"))
                    }),
                ]
            ),
            (
                Role::Assistant,
                vec![
                    Part::Reasoning { text: "hm".into(), signature: Some("sig".into()), redacted: None },
                    text("let me see"),
                    call("c", "f"),
                    call("d", "g"),
                ]
            ),
            (Role::Tool, vec![result("c", "42")]),
            (Role::Tool, vec![result("d", "43")]),
            (
                Role::Assistant,
                vec![Part::Reasoning {
                    text: String::new(),
                    signature: None,
                    redacted: Some("opaque".into())
                }]
            ),
        ]
    );
}

/// Eight times as many items take about eight times as long, not 64 times.
#[test]
fn thoughts_are_not_read_again_for_each_turn_that_says_nothing() {
    let least = |count: usize| {
        let thought = json!({"type": "reasoning"});
        let silence = json!({"role": "assistant", "content": []});
        let items = std::iter::repeat_n(thought, count).chain(std::iter::repeat_n(silence, count));
        let body = json!({"model": "m", "input": items.collect::<Vec<_>>()}).to_string();
        let times = (0..6).map(|_| {
            let began = std::time::Instant::now();
            let chat = parse(body.as_bytes()).unwrap();
            let took = began.elapsed();
            assert_eq!((chat.messages.len(), chat.messages[0].parts.len()), (1, count));
            took
        });
        times.min().unwrap().as_secs_f64()
    };
    let growth = least(8000) / least(1000);
    assert!(growth < 32.0, "{growth} times");
}

#[test]
fn mistakes_are_named_by_their_path_and_nothing_stored_is_asked_for() {
    let with = |field: &str, value: Value| {
        let mut body = json!({"model": "m", "input": "x"});
        body[field] = value;
        body
    };
    for (json, words) in [
        (json!({}), "model: is required; input: is required"),
        (with("input", json!([])), "input: must have at least one item"),
        (with("input", json!(1)), "input: must be a string or a list, not this number"),
        (
            with("input", json!([{"role": "tool", "content": "x"}])),
            "input[0].role: must be one of `user`, `assistant`, `system` and `developer`",
        ),
        (
            with("input", json!([{"role": "user", "content": [{"type": "input_text"}]}])),
            "input[0].content[0].text: is required",
        ),
        (
            with("input", json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])),
            "input[0].content[0].type: must be `input_text`, `input_image`, `input_file`, `input_audio`, `output_text` or `refusal`",
        ),
        (
            with("input", json!([{"type": "item_reference", "id": "a"}])),
            "input[0]: refers to an item, but nothing is stored here; send the item itself",
        ),
        (
            with("input", json!([{"type": "odd"}])),
            "input[0].type: must be `message`, `function_call`, `function_call_output` or `reasoning`",
        ),
        (
            with("stream_options", json!({"include_obfuscation": false})),
            "stream_options: is only allowed when `stream` is true",
        ),
        (with("stream_options", Value::Null), "it was accepted"),
        (with("max_output_tokens", json!(0)), "max_output_tokens: must be at least 1"),
        (
            with("previous_response_id", json!("a")),
            "previous_response_id: answers are not stored here; send the conversation as `input`",
        ),
        (
            with("conversation", json!({"id": "a"})),
            "conversation: conversations are not stored here; send the conversation as `input`",
        ),
        (
            with("background", json!(true)),
            "background: answers are not stored here, so none can be fetched later; must be false",
        ),
        (with("text", json!({"format": {"type": "json_schema"}})), "text.format.name: is required"),
        (with("reasoning", json!({"effort": 1})), "reasoning.effort: must be a string"),
    ] {
        assert_eq!(complaint(parse(json.to_string().as_bytes())), words, "{json}");
    }
}
