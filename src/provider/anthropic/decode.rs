//! Whole answers in Anthropic's JSON.
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ANSWER_TOOL;
use crate::{
    chat::{Choice, Completion, Finish, ToolCall},
    error::{Error, Result},
    provider::{
        bounds::{self, MOST_BLOCKS, MOST_CALLS, at_most},
        failure,
        text::Text,
    },
    reply::Head,
    wire::{
        self,
        anthropic::{Usage, finish_of},
    },
};

/// The message object, whole or as a stream's first event has it.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) model: Text<'a>,
    #[serde(borrow, default, deserialize_with = "at_most::<MOST_BLOCKS, _, _>")]
    content: Vec<Block<'a>>,
    #[serde(borrow, default)]
    stop_reason: Text<'a>,
    #[serde(borrow, default)]
    stop_sequence: Text<'a>,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// A piece of an answer. Its `type` says which of the fields it has.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) text: Text<'a>,
    #[serde(borrow)]
    pub(super) thinking: Text<'a>,
    #[serde(borrow)]
    pub(super) signature: Text<'a>,
    #[serde(borrow)]
    pub(super) data: Text<'a>,
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

impl Block<'_> {
    /// What a tool is called with, as JSON text.
    pub(super) fn input(&self) -> &str {
        self.input.map_or("{}", RawValue::get)
    }
}

/// Reads the body of `/v1/messages`.
pub(super) fn message(body: &[u8]) -> Result<(Head, Completion)> {
    let message: Message<'_> = wire::read(body).map_err(failure::unreadable)?;
    if let Some(error) = message.error {
        return Err(failure::of_stream(error));
    }
    if message.stop_reason.0.is_empty() {
        return Err(Error::broken("the answer has no stop reason"));
    }
    let mut choice = Choice::default();
    let mut answered = false;
    for block in message.content {
        match block.kind.0.as_ref() {
            "text" => choice.text.push_str(&block.text.0),
            "thinking" => {
                choice.reasoning.push_str(&block.thinking.0);
                choice.signature = block.signature.filled().or(choice.signature);
            }
            "redacted_thinking" => choice.redacted.extend(block.data.filled()),
            "tool_use" if block.name.0 == ANSWER_TOOL => {
                answered = true;
                choice.text.push_str(block.input());
            }
            "tool_use" if choice.tool_calls.len() >= MOST_CALLS => return Err(bounds::too_many()),
            "tool_use" => choice.tool_calls.push(ToolCall {
                arguments: block.input().to_owned(),
                id: block.id.0.into_owned(),
                name: block.name.filled().ok_or_else(failure::nameless)?,
                ..ToolCall::default()
            }),
            // Tools that the provider runs itself are its own affair.
            _ => {}
        }
    }
    let finish = finish_of(&message.stop_reason.0, message.stop_sequence.filled());
    choice.finish = Some(settled(finish, answered, !choice.tool_calls.is_empty()));
    let model = bounds::name(message.model).unwrap_or_default();
    let head = Head { model, id: bounds::name(message.id), ..Head::default() };
    let usage = message.usage.map(Into::into);
    Ok((head, Completion { choices: vec![choice], usage, ..Completion::default() }))
}

/// The end of an answer that may have been given through the answer's tool:
/// to the caller, that is an ordinary end.
pub(super) fn settled(finish: Finish, answered: bool, called: bool) -> Finish {
    if finish == Finish::ToolCalls && answered && !called { Finish::Stop } else { finish }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_answer_is_read() {
        let (head, completion) =
            message(include_bytes!("../../../tests/fixtures/anthropic/whole.json")).unwrap();
        assert_eq!((&*head.model, head.id.as_deref()), ("claude-sonnet-4-5-20250929", Some("msg_b2")));
        let choice = &completion.choices[0];
        assert_eq!(choice.text, "Let me look.");
        assert_eq!(
            (choice.reasoning.as_str(), choice.signature.as_deref()),
            ("The user asks.", Some("c2ln"))
        );
        assert_eq!(choice.redacted, ["b3BhcXVl"]);
        assert_eq!(choice.tool_calls[0].name, "weather");
        assert_eq!(choice.tool_calls[0].arguments, r#"{"city": "Bergen"}"#);
        assert_eq!(choice.finish, Some(Finish::ToolCalls));
        let usage = completion.usage.unwrap();
        assert_eq!((usage.input, usage.cached, usage.cache_write, usage.output), (130, 100, 20, 42));
    }

    #[test]
    fn an_answer_through_the_answers_tool_is_text() {
        let body = json!({"model": "m", "stop_reason": "tool_use",
            "content": [{"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {"a": 1}}]});
        let (_, completion) = message(body.to_string().as_bytes()).unwrap();
        assert_eq!(completion.text(), r#"{"a":1}"#);
        assert_eq!(completion.choices[0].finish, Some(Finish::Stop));
    }

    #[test]
    fn an_answer_has_so_many_parts() {
        let body = |kind: &str, many: usize| {
            let block = json!({"type": kind, "text": "a", "name": "f", "id": "t"});
            json!({"stop_reason": "end_turn", "content": vec![block; many]}).to_string()
        };
        assert_eq!(message(body("text", MOST_BLOCKS).as_bytes()).unwrap().1.text().len(), MOST_BLOCKS);
        let (_, called) = message(body("tool_use", MOST_CALLS).as_bytes()).unwrap();
        assert_eq!(called.choices[0].tool_calls.len(), MOST_CALLS);
        let nameless = json!({"stop_reason": "tool_use", "content": [{"type": "tool_use", "id": "t"}]});
        assert!(matches!(message(nameless.to_string().as_bytes()), Err(Error::Broken(_))));
        for body in [body("text", MOST_BLOCKS + 1), body("tool_use", MOST_CALLS + 1), body("", 100_000)] {
            assert!(matches!(message(body.as_bytes()), Err(Error::Broken(_))));
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let overloaded =
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}).to_string();
        assert_eq!(message(overloaded.as_bytes()).unwrap_err().facts().code, "upstream_overloaded");
        for body in [&b""[..], b"{}", b"[]", b"<html>"] {
            assert!(matches!(message(body), Err(Error::Broken(_))));
        }
    }
}
