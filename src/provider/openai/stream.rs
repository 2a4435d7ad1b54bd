//! A streamed answer in OpenAI's JSON.
use serde::Deserialize;
use serde_json::value::RawValue;

use super::calls::{Calls, Function, Piece};
use crate::{
    chat::{Event, Finish},
    error::{Error, Result},
    provider::{
        Decoder,
        bounds::{self, Blocks, MOST_CALLS, MOST_CHOICES, at_most},
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
    calls: Calls,
    blocks: Blocks,
    /// Whether it has said anything.
    said: bool,
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
    /// Some servers call it by the name that it has in a whole answer.
    #[serde(borrow, default, deserialize_with = "nullable")]
    message: Delta<'a>,
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
    /// A list of [`Piece`].
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    /// What there was before them.
    #[serde(borrow)]
    function_call: Option<Function<'a>>,
}

impl Delta<'_> {
    fn is_silent(&self) -> bool {
        let Self { content, reasoning_content, reasoning, refusal, tool_calls, function_call } = self;
        [content, reasoning_content, reasoning, refusal].into_iter().all(|text| text.0.is_empty())
            && tool_calls.is_none()
            && function_call.is_none()
    }
}

impl Decoder for Stream {
    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        if self.done {
            return Ok(());
        }
        if data.trim_ascii() == b"[DONE]" {
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
        if !self.choices.iter().any(|progress| progress.said || progress.finished) {
            return Err(Error::broken("the stream ended before it said anything, even that it is all"));
        }
        for (choice, progress) in (0..).zip(&mut self.choices) {
            progress.calls.close()?;
            if progress.finished {
                continue;
            }
            if !self.done {
                return Err(Error::broken("the stream ended without a finish reason"));
            }
            // The server says that this is all, only not why: some local ones and proxies never do.
            progress.finished = true;
            let reason = if progress.calls.len() > 0 { Finish::ToolCalls } else { Finish::Stop };
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
        let delta = if read.delta.is_silent() { read.message } else { read.delta };
        let (progress, before) = (&mut self.choices[at], out.len());
        // vLLM sends both names with the same thought while it changes from one to the other.
        let thought = delta.reasoning_content.filled().or_else(|| delta.reasoning.filled());
        if let Some(text) = thought {
            out.push(Event::Reasoning { choice, text, signature: None, redacted: None });
        }
        out.extend(delta.content.filled().map(|text| Event::Text { choice, text }));
        out.extend(delta.refusal.filled().map(|text| Event::Refusal { choice, text }));
        let pieces = bounds::within::<Piece<'_>>(delta.tool_calls, room)?.into_iter();
        for piece in pieces.chain(delta.function_call.map(Piece::from)) {
            let begun = progress.calls.len();
            let event = progress.calls.piece(choice, piece)?;
            self.calls += progress.calls.len() - begun;
            if self.calls > MOST_CALLS {
                return Err(bounds::too_many());
            }
            out.extend(event);
        }
        for event in &out[before..] {
            progress.blocks.count(event)?;
            progress.said = true;
        }
        // What comes after the reason is part of the answer all the same.
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
        let calls = |index: u32, many: usize| json!({"choices": [{"index": index, "delta": {"tool_calls": (0..many).map(|id| json!({"id": format!("{many}-{id}"), "function": {"name": "f"}})).collect::<Vec<_>>()}}]});
        let told = |chunks: &[Value]| events(chunks).unwrap_err().to_string();
        let fits: Vec<_> = (0..128).map(|index| calls(index, MOST_CALLS / 128)).collect();
        assert_eq!(events(&fits).unwrap().len(), MOST_CALLS);
        let more = [&fits[..], &[calls(5, 1)]].concat();
        assert!(events(&more).is_err(), "one more, in any of them");
        let many = |calls: Value| json!({"choices": vec![json!({"delta": {"tool_calls": calls}}); 128]});
        for chunks in [
            vec![calls(0, MOST_CALLS + 1)],
            vec![many(json!(vec![json!({"index": 0}); 9]))],
            vec![json!({"choices": vec![json!({}); 129]})],
            vec![json!({"choices": [{"index": 128, "delta": {"content": "a"}}]})],
            vec![json!({"choices": [{"index": u32::MAX}]})],
        ] {
            assert_eq!(told(&chunks), told(&more));
        }
        // Pieces of one call are not calls.
        let piece = json!({"index": 0, "function": {"arguments": "x"}});
        let pieces = json!({"choices": [{"delta": {"tool_calls": vec![piece; 8]}}]});
        let named = json!({"choices": [{"delta": {"tool_calls": [{"function": {"name": "f"}}]}}]});
        let all = [vec![named], vec![pieces; MOST_CALLS]].concat();
        assert_eq!(events(&all).unwrap().len(), 1 + 8 * MOST_CALLS);
        // Nor does it matter how they are numbered.
        let far = json!({"index": u32::MAX, "function": {"name": "f"}});
        assert_eq!(events(&[json!({"choices": [{"delta": {"tool_calls": [far]}}]})]).unwrap().len(), 1);
    }

    #[test]
    fn texts_and_thoughts_in_turns_have_an_end() {
        let turn = [json!({"content": "a"}), json!({"reasoning": "b"})];
        let turns = |many: usize| -> Vec<_> {
            turn.iter().cycle().take(many).map(|delta| json!({"choices": [{"delta": delta}]})).collect()
        };
        assert_eq!(events(&turns(4096)).unwrap().len(), 4096);
        assert_eq!(events(&turns(4097)).unwrap_err().facts().code, "upstream_broken");
    }

    #[test]
    fn what_comes_after_the_finish_reason_is_not_lost() {
        let chunk =
            |delta: Value, reason: Value| json!({"choices": [{"delta": delta, "finish_reason": reason}]});
        let call = json!({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]});
        let read = events(&[
            chunk(json!({"content": "a"}), json!("stop")),
            chunk(json!({"content": "b"}), json!(null)),
            chunk(call, json!("tool_calls")),
        ])
        .unwrap();
        assert_eq!(read[..3], [Event::text("a"), Event::finish(Finish::Stop), Event::text("b")]);
        assert!(matches!(&read[3..], [Event::ToolCall { name: Some(_), .. }]), "{read:?}");
    }

    #[test]
    fn what_is_called_by_an_older_name_is_read() {
        let chunk = |choice: Value| json!({"choices": [choice]});
        let said = chunk(json!({"message": {"role": "assistant", "content": "a"}, "delta": null}));
        assert_eq!(events(&[said]).unwrap(), [Event::text("a")]);
        let begun = chunk(json!({"delta": {"function_call": {"name": "f", "arguments": ""}}}));
        let piece = chunk(json!({"delta": {"function_call": {"arguments": "{}"}}}));
        let read = events(&[begun, piece, chunk(json!({"finish_reason": "function_call"}))]).unwrap();
        let [Event::ToolCall { name, .. }, Event::ToolCall { arguments, .. }, end] = &read[..] else {
            panic!("{read:?}")
        };
        assert_eq!((name.as_deref(), arguments.as_str()), (Some("f"), "{}"));
        assert_eq!(*end, Event::finish(Finish::ToolCalls));
    }

    #[test]
    fn a_call_of_no_tool_is_no_answer() {
        let call = |call: Value| json!({"choices": [{"delta": {"tool_calls": [call]}}]});
        let at_once = events(&[call(json!({"id": "a", "function": {"arguments": "{}"}}))]);
        let mut decoder = Stream::default();
        let begun = call(json!({"id": "a"})).to_string();
        decoder.frame("", begun.as_bytes(), &mut Vec::new()).unwrap();
        let at_last = decoder.frame("", b"[DONE]", &mut Vec::new());
        for told in [at_once.map(drop), at_last] {
            assert_eq!(told.unwrap_err().facts().code, "upstream_broken");
        }
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
        let nothing = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
        for frames in [&[][..], &[nothing], &[r#"{"choices":[]}"#, nothing, r#"{"choices":[],"usage":{}}"#]] {
            let mut decoder = Stream::default();
            frames.iter().for_each(|frame| decoder.frame("", frame.as_bytes(), &mut Vec::new()).unwrap());
            let told = decoder.frame("", b"[DONE]", &mut Vec::new());
            assert!(told.is_err_and(|error| error.facts().retry), "nothing is no answer: {frames:?}");
        }
        // An answer that says that it is all may be empty.
        let stop = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let mut decoder = Stream::default();
        decoder.frame("", stop.as_bytes(), &mut Vec::new()).unwrap();
        decoder.frame("", b"[DONE]", &mut Vec::new()).unwrap();
    }
}
