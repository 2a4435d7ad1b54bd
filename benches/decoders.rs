//! What it costs to read a provider's stream and to write a chat for it.
use std::fmt::Write;

use divan::{Bencher, black_box, counter::ItemsCount};
use sluice::{
    chat::{Event, Message, Request, Role},
    provider::{Dialect, anthropic::Anthropic, frames::Frames, openai::OpenAi},
};

/// Pieces of text in a stream.
const PIECES: usize = 100;

fn main() {
    divan::main();
}

fn openai() -> String {
    let chunk = |rest: &str| {
        let head =
            r#""id":"chatcmpl-a","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o","#;
        format!("data: {{{head}{rest}}}\n\n")
    };
    let mut all = String::new();
    for piece in 0..PIECES {
        let delta = format!(r#"{{"content":" word{piece}"}}"#);
        let rest =
            format!(r#""choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}]"#);
        all.push_str(&chunk(&rest));
    }
    all.push_str(&chunk(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#));
    all + "data: [DONE]\n\n"
}

fn anthropic() -> String {
    let mut all = String::new();
    let mut add = |name: &str, rest: &str| {
        write!(all, "event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n").expect("a string takes all");
    };
    add(
        "message_start",
        r#","message":{"id":"msg_a","model":"claude","content":[],"usage":{"input_tokens":9}}"#,
    );
    add("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#);
    for piece in 0..PIECES {
        let rest = format!(r#","index":0,"delta":{{"type":"text_delta","text":" word{piece}"}}"#);
        add("content_block_delta", &rest);
    }
    add("content_block_stop", r#","index":0"#);
    add("message_delta", r#","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":100}"#);
    add("message_stop", "");
    all
}

fn read(dialect: &impl Dialect, text: &str, chunk: usize) -> Vec<Event> {
    let (mut frames, mut decoder, mut out) = (Frames::new(1 << 20), dialect.decoder(), Vec::new());
    for bytes in text.as_bytes().chunks(chunk) {
        frames.push(bytes, |name, data| decoder.frame(name, data, &mut out)).expect("the stream is whole");
    }
    out
}

#[divan::bench(args = [64, 1400, 16_384])]
fn decode_openai(bencher: Bencher<'_, '_>, chunk: usize) {
    let text = openai();
    bencher.counter(ItemsCount::new(PIECES)).bench(|| read(&OpenAi::default(), black_box(&text), chunk));
}

#[divan::bench(args = [64, 1400, 16_384])]
fn decode_anthropic(bencher: Bencher<'_, '_>, chunk: usize) {
    let text = anthropic();
    bencher.counter(ItemsCount::new(PIECES)).bench(|| read(&Anthropic, black_box(&text), chunk));
}

fn small() -> Request {
    let messages =
        vec![Message::new(Role::System, "Answer briefly."), Message::new(Role::User, "Why is it raining?")];
    Request { messages, stream: true, max_tokens: Some(256), temperature: Some(0.2), ..Request::default() }
}

#[divan::bench]
fn encode_openai(bencher: Bencher<'_, '_>) {
    let chat = small();
    bencher.bench(|| OpenAi::default().encode(black_box(&chat), "gpt-4o"));
}

#[divan::bench]
fn encode_anthropic(bencher: Bencher<'_, '_>) {
    let chat = small();
    bencher.bench(|| Anthropic.encode(black_box(&chat), "claude-sonnet-4-5"));
}
