//! Server-sent events on their way to a client.
use bytes::BytesMut;

use crate::{chat::Event, error::Error};

/// How one API spells a streamed answer. Pure: it writes bytes, nothing else.
/// The calls come in the order `begin`, `event` …, and one of `end` and `fail`.
pub trait Encoder: Send + Unpin + 'static {
    /// The answer begins.
    fn begin(&mut self, out: &mut BytesMut);
    /// A step of the answer.
    fn event(&mut self, event: Event, out: &mut BytesMut);
    /// The answer has ended well.
    fn end(&mut self, out: &mut BytesMut);
    /// The answer has broken off.
    fn fail(&mut self, error: &Error, out: &mut BytesMut);
}

/// What an encoder writes for some events and their end, for its tests.
#[cfg(test)]
pub(super) fn written(mut encoder: impl Encoder, events: Vec<Event>, failed: Option<&Error>) -> String {
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    for event in events {
        encoder.event(event, &mut out);
    }
    match failed {
        None => encoder.end(&mut out),
        Some(error) => encoder.fail(error, &mut out),
    }
    String::from_utf8(out.to_vec()).expect("encoders write UTF-8")
}
