//! What becomes of a provider's answer: what the fuzz targets of the decoders share.
use bytes::BytesMut;
use serde_json::Value;
use sluice::{
    chat::{Completion, Event, Purpose, Request},
    error::Error,
    http::{
        anthropic::{self, stream::MessageStream},
        openai::{self, chat_stream::ChatStream, responses, responses::stream::ResponseStream},
        sse::Encoder,
    },
    provider::{Dialect, frames::Frames},
    reply::Head,
};

/// The bytes as an answer, whole and streamed: however the stream is cut it says the same, and what was read can be
/// put together, and told on in every API.
pub fn told(dialect: &dyn Dialect, bytes: &[u8]) {
    let chat = Request { model: "m".into(), ..Request::default() };
    if let Ok((head, whole)) = dialect.decode(&chat, bytes) {
        passed_on(&head, &whole, &chat);
        again(whole);
    }
    let vectors = Request { purpose: Purpose::Embed { dimensions: None }, messages: vec![], ..chat.clone() };
    if let Ok((head, whole)) = dialect.decode(&vectors, bytes) {
        json(&openai::embeddings::whole(&head, &whole, &vectors, true));
    }

    let size = 1 + bytes.len() % 61;
    let (head, events, ended) = streamed(dialect, bytes.chunks(size));
    let (_, whole, whole_ended) = streamed(dialect, std::iter::once(bytes));
    assert_eq!((&events, ended), (&whole, whole_ended));
    let mut done = Completion::default();
    events.iter().for_each(|event| done.push(event));
    passed_on(&head, &done, &chat);
    let failed = (!ended).then_some(Error::Draining);
    let encoders: [Box<dyn FnOnce() -> Vec<u8>>; 3] = [
        Box::new(|| spelled(ChatStream::new(&head, &chat, true, "r", 7), &events, failed.as_ref())),
        Box::new(|| spelled(MessageStream::new(&head, &chat, "r"), &events, failed.as_ref())),
        Box::new(|| spelled(ResponseStream::new(&head, &chat, "r", 7), &events, failed.as_ref())),
    ];
    for encoder in encoders {
        let out = encoder();
        let mut frames = Frames::new(1 << 26);
        let each = |_: &str, data: &[u8]| {
            if data != b"[DONE]" {
                json(data);
            }
            Ok(())
        };
        frames.push(&out, each).expect("no event is so large");
    }
}

/// The events of a stream, and whether it ended well.
fn streamed<'a>(dialect: &dyn Dialect, pieces: impl Iterator<Item = &'a [u8]>) -> (Head, Vec<Event>, bool) {
    let (mut frames, mut decoder, mut out) = (Frames::new(1 << 20), dialect.decoder(), Vec::new());
    for piece in pieces {
        if frames.push(piece, |name, data| decoder.frame(name, data, &mut out)).is_err() {
            return (decoder.head(), out, false);
        }
    }
    let ended = frames.finish(|name, data| decoder.frame(name, data, &mut out)).is_ok()
        && (decoder.done() || decoder.close(&mut out).is_ok());
    (decoder.head(), out, ended)
}

/// An answer as a short stream is the same answer.
fn again(whole: Completion) {
    let few = |choice: &sluice::chat::Choice| choice.tool_calls.len() <= 128;
    if whole.choices.len() > 128 || !whole.choices.iter().all(few) {
        return;
    }
    let mut done = Completion::default();
    whole.clone().into_events().iter().for_each(|event| done.push(event));
    assert_eq!(done, whole);
}

fn passed_on(head: &Head, done: &Completion, chat: &Request) {
    json(&openai::chat_reply::whole(head, done, chat, "r", 7));
    json(&responses::reply::whole(head, done, chat, "r", 7));
    json(&anthropic::reply::whole(head, done, chat, "r"));
}

fn spelled(mut encoder: impl Encoder, events: &[Event], failed: Option<&Error>) -> Vec<u8> {
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    events.iter().for_each(|event| encoder.event(event.clone(), &mut out));
    match failed {
        None => encoder.end(&mut out),
        Some(error) => encoder.fail(error, &mut out),
    }
    out.to_vec()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(bytes)))
}
