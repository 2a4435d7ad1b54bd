//! A streamed answer of Chat Completions:
//! <https://platform.openai.com/docs/api-reference/chat-streaming>.
use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::{
    chat_reply::{answer_id, model},
    error::error_object,
};
use crate::{
    chat::{self, Event, Finish, Request},
    error::Error,
    http::{json, sse::Encoder},
    reply::Head,
    wire::openai::{Usage, finish_name},
};

/// Writes an answer as chunks, and `[DONE]` after the last of them.
pub struct ChatStream {
    /// What every chunk begins with, up to its choices.
    start: Vec<u8>,
    include_usage: bool,
    usage: Option<chat::Usage>,
    spoken: Answers,
    calling: Answers,
    finished: Answers,
    /// Why they ended. Held back to the end: clients read no further, and some servers say more after it.
    ends: Vec<(u32, Finish)>,
}

/// A set of answers, by their index. Those past the most that can be asked for count as one.
#[derive(Clone, Copy, Default)]
struct Answers(u128);

impl Answers {
    /// Adds an answer; tells whether it is new.
    fn add(&mut self, choice: u32) -> bool {
        let before = self.0;
        self.0 |= 1 << choice.min(127);
        self.0 != before
    }

    fn has(self, choice: u32) -> bool {
        self.0 >> choice.min(127) & 1 == 1
    }
}

impl ChatStream {
    /// A stream. `id` is the request's, `created` in seconds since 1970.
    pub fn new(head: &Head, chat: &Request, include_usage: bool, id: &str, created: u64) -> Self {
        let mut start = BytesMut::with_capacity(160);
        start.put_slice(b"data: {\"id\":");
        json::put(&mut start, &answer_id(head, id));
        // Formatting into memory does not fail.
        let _ = write!(start, ",\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":");
        json::put(&mut start, model(head, chat));
        start.put_slice(b",\"system_fingerprint\":null,\"choices\":[");
        let (spoken, calling, finished) = (Answers::default(), Answers::default(), Answers::default());
        Self {
            start: start.to_vec(),
            include_usage,
            usage: None,
            spoken,
            calling,
            finished,
            ends: Vec::new(),
        }
    }

    /// Begins a chunk: everything up to what its delta holds.
    fn open(&mut self, choice: u32, out: &mut BytesMut) {
        out.reserve(self.start.len() + 128);
        out.put_slice(&self.start);
        if choice == 0 {
            // As a rule there is one: its number is not spelled for every piece.
            out.put_slice(b"{\"index\":0,\"delta\":{");
        } else {
            let _ = write!(out, "{{\"index\":{choice},\"delta\":{{");
        }
    }

    /// Says who speaks, with an answer's first delta.
    fn role(&mut self, choice: u32, rest: &[u8], out: &mut BytesMut) {
        if self.spoken.add(choice) {
            out.put_slice(b"\"role\":\"assistant\",");
            out.put_slice(rest);
        }
    }

    /// Ends a chunk whose delta is written.
    fn close(&self, finish: Option<&Finish>, out: &mut BytesMut) {
        out.put_slice(b"},\"logprobs\":null,\"finish_reason\":");
        match finish {
            None => out.put_slice(b"null"),
            Some(finish) => json::put(out, finish_name(finish)),
        }
        out.put_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
    }

    fn text(&mut self, choice: u32, field: &[u8], text: &str, out: &mut BytesMut) {
        if text.is_empty() {
            return;
        }
        self.open(choice, out);
        self.role(choice, if field == b"\"content\":" { b"" } else { b"\"content\":null," }, out);
        out.put_slice(field);
        json::put(out, text);
        self.close(None, out);
    }

    fn call(
        &mut self,
        (choice, index): (u32, u32),
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
        out: &mut BytesMut,
    ) {
        self.calling.add(choice);
        self.open(choice, out);
        self.role(choice, b"\"content\":null,", out);
        let _ = write!(out, "\"tool_calls\":[{{\"index\":{index},");
        if let Some(id) = id {
            out.put_slice(b"\"id\":");
            json::put(out, id);
            out.put_slice(b",\"type\":\"function\",");
        }
        out.put_slice(b"\"function\":{");
        if let Some(name) = name {
            out.put_slice(b"\"name\":");
            json::put(out, name);
            out.put_slice(b",");
        }
        out.put_slice(b"\"arguments\":");
        json::put(out, arguments);
        out.put_slice(b"}}]");
        self.close(None, out);
    }

    fn finish(&mut self, choice: u32, finish: &Finish, out: &mut BytesMut) {
        if !self.spoken.has(choice) {
            self.open(choice, out);
            self.role(choice, b"\"content\":\"\"", out);
            self.close(None, out);
        }
        self.open(choice, out);
        self.close(Some(finish), out);
    }
}

impl Encoder for ChatStream {
    fn begin(&mut self, _: &mut BytesMut) {}

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            Event::Text { choice, text } => self.text(choice, b"\"content\":", &text, out),
            Event::Refusal { choice, text } => self.text(choice, b"\"refusal\":", &text, out),
            // The API has no place for a thought's signature.
            Event::Reasoning { choice, text, .. } => self.text(choice, b"\"reasoning_content\":", &text, out),
            Event::ToolCall { choice, index, id, name, arguments } => {
                self.call((choice, index), id.as_deref(), name.as_deref(), &arguments, out);
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish { choice, reason } => {
                if self.finished.add(choice) {
                    self.ends.push((choice, reason));
                }
            }
            Event::Embedding { .. } | Event::Grounded { .. } | Event::Continued { .. } => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        for (choice, finish) in std::mem::take(&mut self.ends) {
            self.finish(choice, &finish, out);
        }
        // Every answer ends, also one whose provider did not say so.
        for choice in 0..128 {
            let spoken = self.spoken.has(choice) || choice == 0 && self.spoken.0 == 0;
            if spoken && self.finished.add(choice) {
                let called = self.calling.has(choice);
                self.finish(choice, if called { &Finish::ToolCalls } else { &Finish::Stop }, out);
            }
        }
        if self.include_usage {
            out.put_slice(&self.start);
            out.put_slice(b"],\"usage\":");
            json::put(out, &Usage::from(&self.usage.unwrap_or_default()));
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        out.put_slice(b"data: {\"error\":");
        json::put(out, &error_object(error));
        out.put_slice(b"}\n\n");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::sse::written;

    fn stream(include_usage: bool) -> ChatStream {
        let chat = Request { model: "m".into(), ..Request::default() };
        ChatStream::new(&Head::default(), &chat, include_usage, "r", 7)
    }

    fn chunks(text: &str) -> Vec<Value> {
        let data = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn a_text_goes_out_chunk_by_chunk() {
        let events =
            vec![Event::text("a\n\"b"), Event::text(""), Event::text("ç"), Event::finish(Finish::Stop)];
        let start = r#"data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":null,"choices":["#;
        let expected = [
            r#"{"index":0,"delta":{"role":"assistant","content":"a\n\"b"},"logprobs":null,"finish_reason":null}]}"#,
            r#"{"index":0,"delta":{"content":"ç"},"logprobs":null,"finish_reason":null}]}"#,
            r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#,
        ];
        let expected = expected.map(|chunk| format!("{start}{chunk}\n\n")).concat();
        assert_eq!(written(stream(false), events, None), expected + "data: [DONE]\n\n");
    }

    #[test]
    fn usage_is_told_once_at_the_end_and_the_last_word_counts() {
        let usage = |output| Event::Usage(chat::Usage { input: 3, output, ..chat::Usage::default() });
        let events = vec![usage(1), Event::text("a"), Event::finish(Finish::Length), usage(5)];
        let chunks = chunks(&written(stream(true), events, None));
        assert_eq!(chunks.len(), 3);
        assert!(
            chunks[..2].iter().all(|chunk| chunk["usage"] == Value::Null && chunk.get("usage").is_some())
        );
        assert_eq!(chunks[1]["choices"][0]["finish_reason"], "length");
        assert_eq!(chunks[2]["choices"], json!([]));
        assert_eq!(chunks[2]["usage"]["completion_tokens"], 5);
    }

    #[test]
    fn calls_come_in_pieces_and_several_answers_side_by_side() {
        let call = |id: Option<&str>, arguments: &str| Event::ToolCall {
            choice: 1,
            index: 2,
            id: id.map(Into::into),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
        };
        let thought = Event::Reasoning { choice: 0, text: "hm".into(), signature: None, redacted: None };
        let events = vec![thought, call(Some("c"), ""), call(None, "{}"), Event::text("x")];
        let chunks = chunks(&written(stream(false), events, None));
        let deltas: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
        assert_eq!(
            deltas[..4],
            [
                json!({"role": "assistant", "content": null, "reasoning_content": "hm"}),
                json!({"role": "assistant", "content": null, "tool_calls":
                    [{"index": 2, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
                json!({"tool_calls": [{"index": 2, "function": {"arguments": "{}"}}]}),
                json!({"content": "x"}),
            ]
        );
        let ends: Vec<_> =
            chunks[4..].iter().map(|chunk| chunk["choices"][0]["finish_reason"].clone()).collect();
        assert_eq!(ends, ["stop", "tool_calls"], "answers end even if the provider does not say so");
    }

    #[test]
    fn nothing_is_said_after_the_finish_reason() {
        let events = vec![Event::text("a"), Event::finish(Finish::Length), Event::text("b")];
        let chunks = chunks(&written(stream(false), events, None));
        let told: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
        assert_eq!((&told[0]["delta"]["content"], &told[1]["delta"]["content"]), (&json!("a"), &json!("b")));
        assert_eq!((&told[1]["finish_reason"], &told[2]["finish_reason"]), (&Value::Null, &json!("length")));
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn an_empty_answer_is_still_one() {
        let chunks = chunks(&written(stream(false), vec![], None));
        assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!(chunks[1]["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn a_broken_stream_says_so_and_is_not_done() {
        let text = written(stream(true), vec![Event::text("a")], Some(&Error::Timeout { phase: "idle" }));
        assert!(!text.contains("[DONE]"));
        let error = json!({"message": "the model did not answer in time", "type": "server_error", "param": null,
            "code": "upstream_timeout"});
        assert_eq!(chunks(&text)[1], json!({ "error": error }));
    }
}
