use serde_json::{Value, json};

use super::*;
use crate::{
    chat::{Completion, Finish},
    provider::frames::Frames,
};

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

fn events(frames: &[Value]) -> Result<Vec<Event>> {
    let (mut decoder, mut out) = (Stream::default(), Vec::new());
    for frame in frames {
        decoder.frame("", frame.to_string().as_bytes(), &mut out)?;
    }
    Ok(out)
}

const TEXT: &[u8] = include_bytes!("../../../tests/fixtures/anthropic/text.sse");
const TOOLS: &[u8] = include_bytes!("../../../tests/fixtures/anthropic/tools.sse");

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
    assert_eq!((&*head.model, head.id.as_deref()), ("claude-sonnet-4-5-20250929", Some("msg_a1")));
    assert_eq!(completion.text(), "Grüße aus \"Köln\" 🌦");
    assert_eq!(completion.choices[0].finish, Some(Finish::StopSequence(Some("END".into()))));
    let usage = completion.usage.unwrap();
    assert_eq!((usage.input, usage.cached, usage.cache_write, usage.output), (125, 100, 0, 15));
}

#[test]
fn usage_is_told_before_the_first_word() {
    let (mut frames, mut decoder, mut out) = (Frames::new(1 << 20), Stream::default(), Vec::new());
    frames.push(&TEXT[..700], |name, data| decoder.frame(name, data, &mut out)).unwrap();
    assert!(matches!(out[0], Event::Usage(usage) if usage.input == 125), "{out:?}");
}

#[test]
fn thoughts_and_tool_calls_are_put_together() {
    let (_, completion) = read(TOOLS, 64).unwrap();
    let choice = &completion.choices[0];
    assert_eq!(
        (choice.reasoning.as_str(), choice.signature.as_deref()),
        ("I need the weather.", Some("c2lnbmVk"))
    );
    assert_eq!(choice.redacted, ["b3BhcXVl"]);
    let calls: Vec<_> = choice.tool_calls.iter().map(|c| (&*c.id, &*c.name, &*c.arguments)).collect();
    assert_eq!(calls, [("toolu_1", "weather", r#"{"city": "Oslo"}"#), ("toolu_2", "now", "{}")]);
    assert_eq!(choice.finish, Some(Finish::ToolCalls));
    assert_eq!(choice.text, "", "what the provider's own tools do is no text");
}

#[test]
fn a_stream_that_is_cut_is_an_error() {
    let whole = std::str::from_utf8(TEXT).unwrap();
    let end = whole.find("event: message_delta").unwrap();
    for at in 0..end {
        assert!(matches!(read(&TEXT[..at], 64), Err(Error::Broken(_))), "cut at {at}");
    }
    let stop = whole.find("event: message_stop").unwrap();
    assert!(read(&TEXT[..stop], 64).is_ok(), "a stop reason is an end, too");
}

#[test]
fn an_answer_through_the_answers_tool_is_text() {
    let read = events(&[
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
    ])
    .unwrap();
    assert_eq!(read[..2], [Event::text(r#"{"a":1}"#), Event::finish(Finish::Stop)]);
}

#[test]
fn an_error_within_the_stream_is_an_error_of_the_reply() {
    for (kind, code) in [
        ("overloaded_error", "upstream_overloaded"),
        ("rate_limit_error", "upstream_rate_limited"),
        ("api_error", "upstream_failed"),
        ("invalid_request_error", "invalid_value"),
        ("authentication_error", "upstream_rejected"),
    ] {
        let frame = json!({"type": "error", "error": {"type": kind, "message": "x"}});
        assert_eq!(events(&[frame]).unwrap_err().facts().code, code, "{kind}");
    }
    assert!(events(&[json!({"type": "ping"}), json!({"type": "something_new"})]).unwrap().is_empty());
}

#[test]
fn an_answer_has_so_many_tool_calls() {
    let call = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f"}});
    let stop = json!({"type": "content_block_stop", "index": 0});
    let calls = |many| vec![[call.clone(), stop.clone()]; many].concat();
    assert_eq!(events(&calls(1024)).unwrap().len(), 2048);
    assert!(matches!(events(&calls(1025)), Err(Error::Broken(_))));
    let blocks = json!({"type": "message_start", "message": {"content": vec![json!({}); 5000]}});
    assert!(matches!(events(&[blocks]), Err(Error::Broken(_))));
}

fn begin(index: usize, block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn piece(index: usize, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

#[test]
fn and_so_many_blocks() {
    let text = |index| begin(index, &json!({"type": "text", "text": "a"}));
    let stop = |index| json!({"type": "content_block_stop", "index": index});
    let texts = |many| (0..many).flat_map(|index| [text(index), stop(index)]).collect::<Vec<_>>();
    assert_eq!(events(&texts(4096)).unwrap().len(), 4096);
    // Also of those that say nothing.
    let nothing = vec![begin(0, &json!({"type": "text"})); 4097];
    // Open at the same time.
    let open = (0..65).map(text).collect();
    // Of which the pieces are now of one kind, now of another.
    let pieces = [
        piece(0, &json!({"type": "text_delta", "text": "a"})),
        piece(0, &json!({"type": "thinking_delta", "thinking": "a"})),
    ];
    let turns = [vec![text(0)], pieces.into_iter().cycle().take(4097).collect()].concat();
    for frames in [texts(4097), nothing, open, turns] {
        assert_eq!(events(&frames).unwrap_err().facts().code, "upstream_broken");
    }
}

#[test]
fn a_call_has_a_name_and_its_arguments() {
    let nameless = [begin(0, &json!({"type": "tool_use", "id": "t"}))];
    let lost = [piece(3, &json!({"type": "input_json_delta", "partial_json": "{}"}))];
    for frames in [&nameless[..], &lost] {
        assert_eq!(events(frames).unwrap_err().facts().code, "upstream_broken");
    }
    // A number that is given again is that of the newer block.
    let call = |id: &str| begin(0, &json!({"type": "tool_use", "id": id, "name": "f"}));
    let arguments = piece(0, &json!({"type": "input_json_delta", "partial_json": "{\"x\":1}"}));
    let mut done = Completion::default();
    events(&[call("a"), call("b"), arguments]).unwrap().iter().for_each(|event| done.push(event));
    let calls = done.choices[0].tool_calls.iter().map(|call| (&*call.id, &*call.arguments));
    assert_eq!(calls.collect::<Vec<_>>(), [("a", "{}"), ("b", "{\"x\":1}")]);
}

#[test]
fn what_comes_after_the_stop_reason_is_not_lost() {
    let stop = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    let read =
        events(&[stop, begin(0, &json!({"type": "text", "text": "a"})), json!({"type": "message_stop"})]);
    assert_eq!(read.unwrap().last(), Some(&Event::text("a")));
}
