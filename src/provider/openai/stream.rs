//! A streamed answer in OpenAI's JSON.
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    chat::{Event, Finish},
    error::{Error, Result},
    provider::{
        Decoder,
        bounds::{self, MOST_CALLS, MOST_CHOICES, at_most},
        failure,
        text::{Text, said},
    },
    reply::Head,
    wire::{
        self,
        openai::{Usage, finish_of, nullable},
    },
};

/// Reads one streamed answer.
#[derive(Debug, Default)]
pub(super) struct Stream {
    head: Head,
    /// What is known of each answer, by its index.
    choices: Vec<Progress>,
    /// How many tool calls have begun, in all answers together.
    calls: usize,
    done: bool,
}

/// How far one of the answers is.
#[derive(Debug, Default)]
struct Progress {
    /// How many tool calls have begun.
    calls: u32,
    finished: bool,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow, default = "Vec::new", deserialize_with = "at_most::<MOST_CHOICES, _, _>")]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default, deserialize_with = "nullable")]
    delta: Delta<'a>,
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow, deserialize_with = "said")]
    content: Text<'a>,
    #[serde(borrow)]
    reasoning_content: Text<'a>,
    #[serde(borrow)]
    reasoning: Text<'a>,
    #[serde(borrow)]
    refusal: Text<'a>,
    /// A list of [`Call`].
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    function: Function<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    arguments: Text<'a>,
}

impl Decoder for Stream {
    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        if self.done {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return self.close(out);
        }
        if data.is_empty() {
            return Ok(());
        }
        let chunk: Chunk<'_> = wire::read(data).map_err(failure::unreadable)?;
        if let Some(error) = chunk.error {
            return Err(failure::of_stream(error));
        }
        if self.head.model.is_empty() {
            self.head.model = bounds::name(chunk.model).unwrap_or_default();
        }
        if self.head.id.is_none() {
            self.head.id = bounds::name(chunk.id);
        }
        let mut room = MOST_CALLS;
        for choice in chunk.choices {
            self.choice(choice, &mut room, out)?;
        }
        out.extend(chunk.usage.map(|usage| Event::Usage(usage.into())));
        Ok(())
    }

    fn head(&self) -> Head {
        self.head.clone()
    }

    fn done(&self) -> bool {
        self.done
    }

    fn close(&mut self, out: &mut Vec<Event>) -> Result<()> {
        if self.choices.is_empty() {
            return Err(Error::broken("the stream ended before it began"));
        }
        for (choice, progress) in (0..).zip(&mut self.choices) {
            if progress.finished {
                continue;
            }
            if !self.done {
                return Err(Error::broken("the stream ended without a finish reason"));
            }
            // The server says that this is all, only not why.
            progress.finished = true;
            let reason = if progress.calls > 0 { Finish::ToolCalls } else { Finish::Stop };
            out.push(Event::Finish { choice, reason });
        }
        Ok(())
    }
}

impl Stream {
    /// Reads a piece of one answer. Its tool calls take from the room that this event has.
    fn choice(&mut self, read: Choice<'_>, room: &mut usize, out: &mut Vec<Event>) -> Result<()> {
        if let Some(error) = read.error {
            return Err(failure::of_stream(error));
        }
        let choice = read.index;
        let at = choice as usize;
        if at >= MOST_CHOICES {
            return Err(bounds::too_many());
        }
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, Progress::default);
        }
        let progress = &mut self.choices[at];
        let delta = read.delta;
        // vLLM sends both names with the same thought while it changes from one to the other.
        let thought = delta.reasoning_content.filled().or_else(|| delta.reasoning.filled());
        if let Some(text) = thought {
            out.push(Event::Reasoning { choice, text, signature: None, redacted: None });
        }
        out.extend(delta.content.filled().map(|text| Event::Text { choice, text }));
        out.extend(delta.refusal.filled().map(|text| Event::Refusal { choice, text }));
        for call in bounds::within(delta.tool_calls, room)? {
            let before = progress.calls;
            let event = progress.call(choice, call);
            self.calls += (progress.calls - before) as usize;
            if self.calls > MOST_CALLS {
                return Err(bounds::too_many());
            }
            out.push(event);
        }
        if !read.finish_reason.0.is_empty() && !progress.finished {
            if read.finish_reason.0 == "error" {
                return Err(Error::broken("the provider ended the answer with an error"));
            }
            progress.finished = true;
            out.push(Event::Finish { choice, reason: finish_of(&read.finish_reason.0) });
        }
        Ok(())
    }
}

impl Progress {
    fn call(&mut self, choice: u32, call: Call<'_>) -> Event {
        let id = call.id.filled();
        // Without an index, as Gemini's compatible API has it, every id begins a call.
        let index = call.index.unwrap_or_else(|| self.calls.saturating_sub(u32::from(id.is_none())));
        // Some servers repeat id and name with every piece.
        let begins = index >= self.calls;
        self.calls = self.calls.max(index.saturating_add(1));
        let name = call.function.name.filled();
        let (id, name) = if begins { (id, name) } else { (None, None) };
        Event::ToolCall { choice, index, id, name, arguments: call.function.arguments.0.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{chat::Completion, provider::frames::Frames};

    /// Reads a stream in chunks of `size` bytes.
    fn read(bytes: &[u8], size: usize) -> Result<(Head, Completion)> {
        let (mut frames, mut decoder, mut out) = (Frames::new(1 << 20), Stream::default(), Vec::new());
        for chunk in bytes.chunks(size) {
            frames.push(chunk, |name, data| decoder.frame(name, data, &mut out))?;
        }
        if !decoder.done() {
            decoder.close(&mut out)?;
        }
        let mut completion = Completion::default();
        for event in &out {
            completion.push(event);
        }
        Ok((decoder.head(), completion))
    }

    fn events(chunks: &[Value]) -> Result<Vec<Event>> {
        let (mut decoder, mut out) = (Stream::default(), Vec::new());
        for chunk in chunks {
            decoder.frame("", chunk.to_string().as_bytes(), &mut out)?;
        }
        Ok(out)
    }

    const TEXT: &[u8] = include_bytes!("../../../tests/fixtures/openai/text.sse");
    const TOOLS: &[u8] = include_bytes!("../../../tests/fixtures/openai/tools.sse");

    #[test]
    fn a_stream_is_read_the_same_however_it_is_cut() {
        for bytes in [TEXT, TOOLS] {
            let whole = read(bytes, bytes.len()).unwrap();
            for size in 1..80 {
                assert_eq!(read(bytes, size).unwrap(), whole, "in chunks of {size}");
            }
        }
    }

    #[test]
    fn text_usage_and_head_are_read() {
        let (head, completion) = read(TEXT, 64).unwrap();
        assert_eq!((&*head.model, head.id.as_deref()), ("gpt-4o-2024-08-06", Some("chatcmpl-a1")));
        assert_eq!(completion.text(), "Grüße aus \"Köln\" 🌦");
        assert_eq!(completion.choices[0].finish, Some(Finish::Stop));
        let usage = completion.usage.unwrap();
        assert_eq!((usage.input, usage.cached, usage.output, usage.reasoning), (1200, 1024, 14, 6));
    }

    #[test]
    fn tool_calls_are_put_together() {
        let (_, completion) = read(TOOLS, 64).unwrap();
        let calls = &completion.choices[0].tool_calls;
        assert_eq!((calls[0].id.as_str(), calls[0].name.as_str()), ("call_1", "weather"));
        assert_eq!(calls[0].arguments, r#"{"city":"Oslo"}"#);
        assert_eq!((calls[1].id.as_str(), calls[1].arguments.as_str()), ("call_2", "{}"));
        assert_eq!(completion.choices[0].finish, Some(Finish::ToolCalls));
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        let whole = std::str::from_utf8(TEXT).unwrap();
        let finish = whole.find("\"finish_reason\":\"stop\"").unwrap();
        for at in 0..finish {
            assert!(matches!(read(&TEXT[..at], 64), Err(Error::Broken(_))), "cut at {at}");
        }
        let done = whole.find("data: [DONE]").unwrap();
        assert!(read(&TEXT[..done], 64).is_ok(), "a finish reason is an end, too");
    }

    #[test]
    fn a_thought_sent_under_both_names_is_heard_once() {
        let thought = |delta: Value| events(&[json!({"choices": [{"index": 0, "delta": delta}]})]).unwrap();
        let expected = [Event::Reasoning { choice: 0, text: "hm".into(), signature: None, redacted: None }];
        assert_eq!(thought(json!({"reasoning": "hm", "reasoning_content": "hm", "content": ""})), expected);
        assert_eq!(thought(json!({"reasoning": "hm", "content": null})), expected);
        assert_eq!(thought(json!({"reasoning_content": "hm", "tool_calls": null})), expected);
    }

    #[test]
    fn tool_calls_without_index_or_with_repeated_names_stay_apart() {
        let call = |call: Value| json!({"choices": [{"delta": {"tool_calls": [call]}}]});
        let read = events(&[
            call(json!({"id": "a", "function": {"name": "f", "arguments": "{"}})),
            call(json!({"id": null, "function": {"arguments": "}"}})),
            call(json!({"id": "b", "function": {"name": "g", "arguments": "{}"}})),
            call(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": " "}})),
        ])
        .unwrap();
        let mut completion = Completion::default();
        for event in &read {
            completion.push(event);
        }
        let calls: Vec<_> =
            completion.choices[0].tool_calls.iter().map(|c| (&*c.name, &*c.arguments)).collect();
        assert_eq!(calls, [("f", "{}"), ("g", "{} ")]);
    }

    #[test]
    fn an_error_within_the_stream_is_an_error_of_the_reply() {
        for (chunk, code) in [
            (json!({"error": {"message": "busy", "code": 429}}), "upstream_rate_limited"),
            (json!({"error": {"message": "x", "type": "server_error"}}), "upstream_failed"),
            (json!({"error": {"message": "x", "code": "context_length_exceeded"}}), "invalid_value"),
            (json!({"choices": [{"delta": {}, "error": {"code": 502, "message": "x"}}]}), "upstream_failed"),
            (json!({"choices": [{"delta": {}, "finish_reason": "error"}]}), "upstream_broken"),
        ] {
            assert_eq!(events(std::slice::from_ref(&chunk)).unwrap_err().facts().code, code, "{chunk}");
        }
    }

    #[test]
    fn all_answers_together_have_so_many_tool_calls() {
        let calls = |index: u32, many: usize| json!({"choices": [{"index": index, "delta": {"tool_calls": vec![json!({"id": "c"}); many]}}]});
        let told = |chunks: &[Value]| events(chunks).unwrap_err().to_string();
        let fits: Vec<_> = (0..128).map(|index| calls(index, MOST_CALLS / 128)).collect();
        assert_eq!(events(&fits).unwrap().len(), MOST_CALLS);
        let more = [&fits[..], &[calls(5, 1)]].concat();
        assert!(events(&more).is_err(), "one more, in any of them");
        let many = |calls: Value| json!({"choices": vec![json!({"delta": {"tool_calls": calls}}); 128]});
        for chunks in [
            vec![calls(0, MOST_CALLS + 1)],
            vec![many(json!(vec![json!({"index": 0}); 9]))],
            vec![many(json!([{"index": 4000}]))],
            vec![json!({"choices": [{"delta": {"tool_calls": [{"index": u32::MAX}]}}]})],
            vec![json!({"choices": vec![json!({}); 129]})],
            vec![json!({"choices": [{"index": 128, "delta": {"content": "a"}}]})],
            vec![json!({"choices": [{"index": u32::MAX}]})],
        ] {
            assert_eq!(told(&chunks), told(&more));
        }
        // Pieces of one call are not calls.
        let piece = json!({"index": 0, "function": {"arguments": "x"}});
        let pieces = json!({"choices": [{"delta": {"tool_calls": vec![piece; 8]}}]});
        assert_eq!(events(&vec![pieces; MOST_CALLS]).unwrap().len(), 8 * MOST_CALLS);
    }

    #[test]
    fn a_name_that_is_too_long_is_none() {
        let long = json!({"id": "i".repeat(300), "model": "m".repeat(300), "choices": [{"delta": {"content": "a"}}]});
        let mut decoder = Stream::default();
        decoder.frame("", long.to_string().as_bytes(), &mut Vec::new()).unwrap();
        assert_eq!(decoder.head(), Head::default());
    }

    #[test]
    fn an_end_without_a_reason_gets_one() {
        let mut decoder = Stream::default();
        let mut out = Vec::new();
        decoder.frame("", br#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#, &mut out).unwrap();
        decoder.frame("", b"[DONE]", &mut out).unwrap();
        assert_eq!(out, [Event::text("a"), Event::finish(Finish::Stop)]);
        assert!(Stream::default().frame("", b"[DONE]", &mut Vec::new()).is_err(), "nothing is no answer");
    }
}
