//! A whole answer of Anthropic's Messages: <https://docs.anthropic.com/en/api/messages>.
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use crate::{
    chat::{Choice, Completion, Finish, Request},
    http::json,
    reply::Head,
    wire::anthropic::{Usage, stop_name},
};

/// The `message` object; a stream begins with an empty one.
#[derive(Serialize)]
pub(super) struct Whole<'a> {
    pub(super) id: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) role: &'static str,
    pub(super) model: &'a str,
    pub(super) content: Vec<Block<'a>>,
    pub(super) stop_reason: Option<&'static str>,
    pub(super) stop_sequence: Option<&'a str>,
    pub(super) usage: Usage,
}

/// A content block.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    /// What is said.
    Text { text: &'a str },
    /// What is thought.
    Thinking { thinking: &'a str, signature: &'a str },
    /// What is thought, encrypted.
    RedactedThinking { data: &'a str },
    /// A tool that is called.
    ToolUse { id: &'a str, name: &'a str, input: Input<'a> },
}

/// What a tool is called with: an object, whatever the model wrote.
pub(super) struct Input<'a>(pub(super) &'a str);

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.trim();
        if text.is_empty() {
            return serializer.serialize_map(Some(0))?.end();
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(object) if text.starts_with('{') => object.serialize(serializer),
            _ => serializer.collect_map([("arguments", text)]),
        }
    }
}

/// The body of a whole answer. `id` is the request's.
pub fn whole(head: &Head, done: &Completion, chat: &Request, id: &str) -> Vec<u8> {
    let nothing = Choice::default();
    let choice = done.choices.first().unwrap_or(&nothing);
    let ended = if choice.tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    let finish = choice.finish.as_ref().unwrap_or(&ended);
    json::bytes(&Whole {
        id: &message_id(head, id),
        kind: "message",
        role: "assistant",
        model: model(head, chat),
        content: blocks(choice),
        stop_reason: Some(stop_name(finish)),
        stop_sequence: stop_sequence(finish),
        usage: Usage::from(&done.usage.unwrap_or_default()),
    })
}

/// The answer's id: its provider's where it is one of this API's, else one made of the request's.
pub(super) fn message_id(head: &Head, id: &str) -> String {
    let own = head.id.as_deref().filter(|id| id.starts_with("msg_"));
    own.map_or_else(|| format!("msg_{}", id.replace('-', "")), str::to_owned)
}

/// The model that an answer names: the one that answered, where it is known.
pub(super) fn model<'a>(head: &'a Head, chat: &'a Request) -> &'a str {
    if head.model.is_empty() { &chat.model } else { &head.model }
}

/// The stop text that ended an answer.
pub(super) fn stop_sequence(finish: &Finish) -> Option<&str> {
    match finish {
        Finish::StopSequence(text) => text.as_deref(),
        _ => None,
    }
}

fn blocks(choice: &Choice) -> Vec<Block<'_>> {
    let mut blocks: Vec<_> = choice.redacted.iter().map(|data| Block::RedactedThinking { data }).collect();
    if !choice.reasoning.is_empty() || choice.signature.is_some() {
        let signature = choice.signature.as_deref().unwrap_or_default();
        blocks.push(Block::Thinking { thinking: &choice.reasoning, signature });
    }
    // The API has no words of refusal of its own: they are what is said.
    for text in [&choice.text, &choice.refusal] {
        if !text.is_empty() {
            blocks.push(Block::Text { text });
        }
    }
    blocks.extend(choice.tool_calls.iter().map(|call| Block::ToolUse {
        id: &call.id,
        name: &call.name,
        input: Input(&call.arguments),
    }));
    blocks
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::{self, ToolCall};

    #[test]
    fn a_text_is_written_as_it_always_is() {
        let usage =
            chat::Usage { input: 100, output: 7, cached: 60, cache_write: 30, ..chat::Usage::default() };
        let head = Head { model: "claude".into(), id: Some("msg_9".into()), ..Head::default() };
        let mut done = Completion::of_text("hé\"", Some(usage));
        done.choices[0].finish = Some(Finish::StopSequence(Some("END".into())));
        let body = whole(&head, &done, &Request::default(), "r-1");
        let expected = concat!(
            r#"{"id":"msg_9","type":"message","role":"assistant","model":"claude","#,
            r#""content":[{"type":"text","text":"hé\""}],"stop_reason":"stop_sequence","stop_sequence":"END","#,
            r#""usage":{"input_tokens":10,"cache_creation_input_tokens":30,"cache_read_input_tokens":60,"output_tokens":7}}"#
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn thoughts_and_calls_are_blocks() {
        let call = |id: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        };
        let choice = Choice {
            reasoning: "hm".into(),
            signature: Some("sig".into()),
            redacted: vec!["opaque".into()],
            tool_calls: vec![call("a", r#"{"x":1}"#), call("b", ""), call("c", r#"{"x":"#)],
            ..Choice::default()
        };
        let done = Completion { choices: vec![choice], ..Completion::default() };
        let chat = Request { model: "route".into(), ..Request::default() };
        let body: Value = serde_json::from_slice(&whole(&Head::default(), &done, &chat, "r-1")).unwrap();
        assert_eq!(
            (&body["id"], &body["model"], &body["stop_reason"]),
            (&json!("msg_r1"), &json!("route"), &json!("tool_use"))
        );
        assert_eq!(
            body["content"],
            json!([
                {"type": "redacted_thinking", "data": "opaque"},
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"arguments": "{\"x\":"}},
            ])
        );
    }
}
