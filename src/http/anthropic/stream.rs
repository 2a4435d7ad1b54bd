//! A streamed answer of Anthropic's Messages:
//! <https://docs.anthropic.com/en/docs/build-with-claude/streaming>.
use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::{
    error::error_object,
    reply::{Block, Input, Whole, message_id, model, stop_sequence},
};
use crate::{
    chat::{self, Event, Finish, Request},
    error::Error,
    http::{json, sse::Encoder},
    reply::Head,
    wire::anthropic::{Usage, stop_name},
};

/// Writes an answer as content blocks, one open at a time.
pub struct MessageStream {
    id: String,
    model: String,
    /// The beginning waits for the first content, so that it can tell what was read.
    begun: bool,
    open: Option<Open>,
    /// How many blocks there are.
    blocks: usize,
    /// The tools' blocks, by the index of the call.
    calls: Vec<(u32, usize)>,
    usage: chat::Usage,
    /// Why it ended. Held back, because usage may come after it and belongs into the same event.
    finish: Option<Finish>,
}

/// The block that is being written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    /// A call, by its index.
    Call(u32),
}

#[derive(Serialize)]
struct Start<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: Whole<'a>,
}

#[derive(Serialize)]
struct BlockStart<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: usize,
    content_block: Block<'a>,
}

#[derive(Serialize)]
struct End<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    delta: Stop<'a>,
    usage: Usage,
}

#[derive(Serialize)]
struct Stop<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

impl MessageStream {
    /// A stream. `id` is the request's.
    pub fn new(head: &Head, chat: &Request, id: &str) -> Self {
        Self {
            id: message_id(head, id),
            model: model(head, chat).to_owned(),
            begun: false,
            open: None,
            blocks: 0,
            calls: Vec::new(),
            usage: chat::Usage::default(),
            finish: None,
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = Whole {
            id: &self.id,
            kind: "message",
            role: "assistant",
            model: &self.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: Usage::from(&self.usage),
        };
        json::event(out, "message_start", &Start { kind: "message_start", message });
    }

    /// Begins a block after the one before it; tells its index.
    fn begin_block(&mut self, open: Option<Open>, content_block: Block<'_>, out: &mut BytesMut) -> usize {
        self.start(out);
        self.end_block(out);
        let index = self.blocks;
        let start = BlockStart { kind: "content_block_start", index, content_block };
        json::event(out, "content_block_start", &start);
        self.blocks += 1;
        self.open = open;
        if open.is_none() {
            stop(index, out);
        }
        index
    }

    fn end_block(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            stop(self.blocks - 1, out);
        }
    }

    fn text(&mut self, text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        if self.open != Some(Open::Text) {
            self.begin_block(Some(Open::Text), Block::Text { text: "" }, out);
        }
        delta(self.blocks - 1, "text_delta", "text", text, out);
    }

    fn think(&mut self, thought: &str, signature: Option<&str>, out: &mut BytesMut) {
        if thought.is_empty() && signature.is_none() {
            return;
        }
        if self.open != Some(Open::Thinking) {
            self.begin_block(Some(Open::Thinking), Block::Thinking { thinking: "", signature: "" }, out);
        }
        if !thought.is_empty() {
            delta(self.blocks - 1, "thinking_delta", "thinking", thought, out);
        }
        if let Some(signature) = signature {
            delta(self.blocks - 1, "signature_delta", "signature", signature, out);
            // A signed thought is complete; what is thought after it is another one.
            self.end_block(out);
        }
    }

    fn call(&mut self, call: u32, id: Option<&str>, name: Option<&str>, arguments: &str, out: &mut BytesMut) {
        let known = self.calls.iter().find(|(index, _)| *index == call).map(|(_, block)| *block);
        let block = known.unwrap_or_else(|| {
            let made;
            let id = if let Some(id) = id {
                id
            } else {
                made = format!("toolu_{call}{}", self.id);
                &made
            };
            let name = name.unwrap_or_default();
            let start = Block::ToolUse { id, name, input: Input("") };
            let block = self.begin_block(Some(Open::Call(call)), start, out);
            self.calls.push((call, block));
            block
        });
        // A piece may come after the next block has begun: it still names its own.
        if !arguments.is_empty() {
            delta(block, "input_json_delta", "partial_json", arguments, out);
        }
    }
}

fn stop(index: usize, out: &mut BytesMut) {
    out.put_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
    // Formatting into memory does not fail.
    let _ = write!(out, "{index}}}\n\n");
}

/// The one event of which there are many: written by hand.
fn delta(index: usize, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
    out.reserve(128 + text.len());
    out.put_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    let _ = write!(out, "{index},\"delta\":{{\"type\":\"{kind}\",\"{field}\":");
    json::put(out, text);
    out.put_slice(b"}}\n\n");
}

impl Encoder for MessageStream {
    fn begin(&mut self, _: &mut BytesMut) {}

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            // The API gives one answer at a time.
            Event::Text { choice: 1.., .. }
            | Event::Refusal { choice: 1.., .. }
            | Event::Reasoning { choice: 1.., .. }
            | Event::ToolCall { choice: 1.., .. }
            | Event::Finish { choice: 1.., .. }
            | Event::Embedding { .. }
            | Event::Grounded { .. }
            | Event::Continued { .. } => {}
            Event::Text { text, .. } | Event::Refusal { text, .. } => self.text(&text, out),
            Event::Reasoning { text, signature, redacted, .. } => {
                self.think(&text, signature.as_deref(), out);
                if let Some(data) = redacted {
                    self.begin_block(None, Block::RedactedThinking { data: &data }, out);
                }
            }
            Event::ToolCall { index, id, name, arguments, .. } => {
                self.call(index, id.as_deref(), name.as_deref(), &arguments, out);
            }
            Event::Usage(usage) => self.usage = usage,
            Event::Finish { reason, .. } => self.finish = Some(reason),
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.start(out);
        self.end_block(out);
        let ended = if self.calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
        let finish = self.finish.take().unwrap_or(ended);
        let delta = Stop { stop_reason: stop_name(&finish), stop_sequence: stop_sequence(&finish) };
        let end = End { kind: "message_delta", delta, usage: Usage::from(&self.usage) };
        json::event(out, "message_delta", &end);
        out.put_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        out.put_slice(b"event: error\ndata: {\"type\":\"error\",\"error\":");
        json::put(out, &error_object(error));
        out.put_slice(b"}\n\n");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::sse::written;

    fn stream() -> MessageStream {
        MessageStream::new(&Head::default(), &Request { model: "m".into(), ..Request::default() }, "r-1")
    }

    fn usage(input: u64, output: u64) -> Event {
        Event::Usage(chat::Usage { input, output, cached: 2, ..chat::Usage::default() })
    }

    /// The events in short: their data, which repeats their names.
    fn told(events: Vec<Event>, failed: Option<&Error>) -> Vec<Value> {
        let text = written(stream(), events, failed);
        let read = |event: &str| {
            let (name, data) =
                event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")).unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name);
            data
        };
        text.split_terminator("\n\n").map(read).collect()
    }

    #[test]
    fn a_text_goes_out_event_by_event() {
        let events = vec![usage(5, 0), Event::text("a\n"), Event::finish(Finish::Length), usage(5, 7)];
        let expected = concat!(
            "event: message_start\n",
            r#"data: {"type":"message_start","message":{"id":"msg_r1","type":"message","role":"assistant","model":"m","#,
            r#""content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"#,
            r#""cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":0}}}"#,
            "\n\nevent: content_block_start\n",
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            "\n\nevent: content_block_delta\n",
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\n"}}"#,
            "\n\nevent: content_block_stop\n",
            r#"data: {"type":"content_block_stop","index":0}"#,
            "\n\nevent: message_delta\n",
            r#"data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":3,"#,
            r#""cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":7}}"#,
            "\n\nevent: message_stop\n",
            r#"data: {"type":"message_stop"}"#,
            "\n\n"
        );
        assert_eq!(written(stream(), events, None), expected);
    }

    #[test]
    fn blocks_follow_one_another_in_order() {
        let thought = |text: &str, signature: Option<&str>, redacted: Option<&str>| Event::Reasoning {
            choice: 0,
            text: text.into(),
            signature: signature.map(Into::into),
            redacted: redacted.map(Into::into),
        };
        let call = |index, id: Option<&str>, arguments: &str| Event::ToolCall {
            choice: 0,
            index,
            id: id.map(Into::into),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
        };
        let events = vec![
            thought("hm", None, None),
            thought("", Some("sig"), None),
            thought("", None, Some("opaque")),
            Event::text("a"),
            call(0, Some("x"), ""),
            call(0, None, "{}"),
            call(1, Some("y"), "{"),
            call(0, None, " "),
            call(1, None, "}"),
            Event::text("b"),
        ];
        let short: Vec<String> = told(events, None)
            .iter()
            .map(|event| {
                let what = &event["content_block"]["type"];
                let what = if what.is_null() { &event["delta"]["type"] } else { what };
                let what = what.as_str().unwrap_or_default();
                let kind = event["type"].as_str().unwrap().trim_start_matches("content_block_");
                format!("{kind} {} {what}", event["index"]).replace("null ", "").trim().to_owned()
            })
            .collect();
        assert_eq!(
            short,
            [
                "message_start",
                "start 0 thinking",
                "delta 0 thinking_delta",
                "delta 0 signature_delta",
                "stop 0",
                "start 1 redacted_thinking",
                "stop 1",
                "start 2 text",
                "delta 2 text_delta",
                "stop 2",
                "start 3 tool_use",
                "delta 3 input_json_delta",
                "stop 3",
                "start 4 tool_use",
                "delta 4 input_json_delta",
                "delta 3 input_json_delta",
                "delta 4 input_json_delta",
                "stop 4",
                "start 5 text",
                "delta 5 text_delta",
                "stop 5",
                "message_delta",
                "message_stop",
            ]
        );
    }

    #[test]
    fn an_empty_answer_is_still_one() {
        let told = told(vec![], None);
        let kinds: Vec<_> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
        assert_eq!(told[1]["delta"]["stop_reason"], "end_turn");
    }

    #[test]
    fn a_broken_stream_says_so_and_does_not_stop() {
        let told = told(vec![Event::text("a")], Some(&Error::Timeout { phase: "idle" }));
        let error = json!({"type": "timeout_error", "message": "the model did not answer in time"});
        assert_eq!(told.last().unwrap(), &json!({"type": "error", "error": error}));
    }
}
