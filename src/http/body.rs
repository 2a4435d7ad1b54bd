//! The body of a streamed answer: events in, bytes out.
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::sse::Encoder;
use crate::{chat::Event, error::Error, replay::streams::Recorder, reply::Events};

/// How many events are written at a time where they come faster than the client reads.
const BATCH: usize = 64;

/// A sign of life.
pub(super) const ALIVE: &[u8] = b": keep-alive\n\n";

/// The events as the body of a response, with a sign of life after each
/// silence of `keep_alive`. A client that goes away drops it, and the upstream
/// with it. What it says is written to the recorder, too, where there is one.
pub(super) fn body<E: Encoder>(
    events: Events,
    encoder: E,
    keep_alive: Duration,
    recorder: Option<Recorder>,
) -> Body {
    Body::new(Writing {
        events,
        encoder,
        recorder,
        out: BytesMut::new(),
        progress: Progress::Begin,
        keep_alive,
        alarm: Box::pin(tokio::time::sleep(keep_alive)),
        set: false,
        written: Instant::now(),
        parked: None,
    })
}

/// A body that is being written.
struct Writing<E: Encoder> {
    events: Events,
    encoder: E,
    recorder: Option<Recorder>,
    out: BytesMut,
    progress: Progress,
    keep_alive: Duration,
    /// Rings after a silence. Not set anew for every event: when it rings too early, it is set again.
    alarm: Pin<Box<Sleep>>,
    /// Whether the alarm knows whom to wake.
    set: bool,
    written: Instant,
    /// Who is woken by the next event, when that was asked already and a
    /// piece was written all the same: the server asks again at once.
    parked: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Begin,
    Middle,
    /// Nothing more comes.
    Over,
}

impl<E: Encoder> Writing<E> {
    /// Writes what is there. Tells whether the next event was waited for in vain.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        if self.progress == Progress::Begin {
            self.encoder.begin(&mut self.out);
            self.progress = Progress::Middle;
        }
        for _ in 0..BATCH {
            match self.events.as_mut().poll_next(cx) {
                // A comment: clients of every API leave it out.
                Poll::Ready(Some(Ok(Event::Continued { by }))) => {
                    self.out.put_slice(b": continued by ");
                    self.out.extend(by.bytes().filter(|byte| !byte.is_ascii_control()));
                    self.out.put_slice(b"\n\n");
                }
                Poll::Ready(Some(Ok(event))) => self.encoder.event(event, &mut self.out),
                Poll::Ready(Some(Err(error))) => {
                    self.encoder.fail(&error, &mut self.out);
                    self.progress = Progress::Over;
                }
                Poll::Ready(None) => {
                    self.encoder.end(&mut self.out);
                    self.progress = Progress::Over;
                }
                Poll::Pending => return true,
            }
            if self.progress == Progress::Over {
                // The upstream is let go now, not when the client has read everything.
                self.events = Box::pin(stream::empty());
                break;
            }
        }
        false
    }

    /// Writes the new events to the recorder. The end of an answer lets it go.
    fn record(&mut self) {
        if let Some(recorder) = &self.recorder {
            recorder.append(&self.out);
            if self.progress == Progress::Over {
                self.recorder = None;
            }
        }
    }

    /// Waits for the end of a silence, and breaks it.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.set = true;
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let silent = self.written.elapsed() >= self.keep_alive;
            if silent {
                self.out.extend_from_slice(ALIVE);
                self.written = Instant::now();
            }
            self.alarm.as_mut().reset(self.written + self.keep_alive);
            if silent {
                return Poll::Ready(());
            }
        }
    }

    /// Takes what has been written. Where the next event was waited for in
    /// vain, the server need not ask for it again before it comes.
    fn piece(&mut self, waits: bool, cx: &mut Context<'_>) -> Frame<Bytes> {
        self.written = Instant::now();
        if waits {
            if !self.set || self.alarm.deadline() <= self.written {
                self.alarm.as_mut().reset(self.written + self.keep_alive);
                self.set = self.alarm.as_mut().poll(cx).is_pending();
            }
            self.parked = self.set.then(|| cx.waker().clone());
        }
        Frame::data(self.out.split().freeze())
    }
}

impl<E: Encoder> http_body::Body for Writing<E> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.progress == Progress::Over {
            return Poll::Ready(None);
        }
        if this.parked.take().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        loop {
            let waits = this.gather(cx);
            if !this.out.is_empty() {
                this.record();
            } else if waits {
                ready!(this.poll_silence(cx));
            }
            if !this.out.is_empty() {
                return Poll::Ready(Some(Ok(this.piece(waits, cx))));
            }
            if this.progress == Progress::Over {
                return Poll::Ready(None);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.progress == Progress::Over
    }
}

impl<E: Encoder> Drop for Writing<E> {
    fn drop(&mut self) {
        // Who comes back is told that nothing follows.
        if let Some(recorder) = self.recorder.take() {
            self.out.clear();
            self.encoder.fail(&Error::Abandoned, &mut self.out);
            recorder.append(&self.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// Spells an event as its text.
    struct Plain;

    impl Encoder for Plain {
        fn begin(&mut self, out: &mut BytesMut) {
            out.extend_from_slice(b"<");
        }
        fn event(&mut self, event: Event, out: &mut BytesMut) {
            if let Event::Text { text, .. } = event {
                out.extend_from_slice(text.as_bytes());
            }
        }
        fn end(&mut self, out: &mut BytesMut) {
            out.extend_from_slice(b">");
        }
        fn fail(&mut self, _: &Error, out: &mut BytesMut) {
            out.extend_from_slice(b"!");
        }
    }

    /// The pieces of a body whose events come `after` so many seconds each.
    async fn pieces(events: Vec<(u64, Result<Event, Error>)>) -> Vec<String> {
        let events = stream::unfold(events.into_iter(), |mut events| async move {
            let (after, event) = events.next()?;
            tokio::time::sleep(Duration::from_secs(after)).await;
            Some((event, events))
        });
        let mut body = body(Box::pin(events), Plain, Duration::from_secs(10), None);
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            pieces.push(String::from_utf8(data.to_vec()).unwrap());
        }
        pieces
    }

    #[tokio::test(start_paused = true)]
    async fn silences_are_broken_before_between_and_after_events() {
        let event = |after: u64, text: &str| (after, Ok(Event::text(text)));
        let alive = ": keep-alive\n\n";
        assert_eq!(pieces(vec![event(0, "a"), event(0, "b")]).await, ["<ab>"]);
        assert_eq!(
            pieces(vec![event(0, "a"), event(25, "b"), event(9, "c"), event(11, "d")]).await,
            ["<a", alive, alive, "b", "c", alive, "d>"]
        );
        assert_eq!(pieces(vec![event(15, "a")]).await, ["<", alive, "a>"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_follows_a_failure() {
        let events = vec![(0, Ok(Event::text("a"))), (0, Err(Error::Draining)), (0, Ok(Event::text("b")))];
        assert_eq!(pieces(events).await, ["<a!"]);
    }
}
