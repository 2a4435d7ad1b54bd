//! Answers that are written by one and read by another: a task that writes
//! what an answer says, and the body of a response that follows it.
use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};

use super::body::ALIVE;
use crate::replay::recording::{Read, Reader, Recording};

/// What a reader sees that lost what came next.
const LOST: &[u8] = b"data: [ERROR: the rest of this answer is no longer kept; ask anew]\n\ndata: [DONE]\n\n";

/// A recording as the body of a response, with a sign of life after each silence of `keep_alive`.
pub(super) fn following(reader: Reader, keep_alive: Duration) -> Body {
    let alarm = Box::pin(tokio::time::sleep(keep_alive));
    Body::new(Following { reader, keep_alive, alarm, written: Instant::now(), over: false })
}

struct Following {
    reader: Reader,
    keep_alive: Duration,
    alarm: Pin<Box<Sleep>>,
    written: Instant,
    over: bool,
}

impl http_body::Body for Following {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let piece = match this.reader.poll(cx) {
            Poll::Ready(Read::Piece(piece)) => piece,
            Poll::Ready(Read::End) => return Poll::Ready(None),
            Poll::Ready(Read::Lost) => {
                this.over = true;
                Bytes::from_static(LOST)
            }
            Poll::Pending => loop {
                // Not set anew for every piece: when it rings too early, it is set again.
                ready!(this.alarm.as_mut().poll(cx));
                let silent = this.written.elapsed() >= this.keep_alive;
                let from = if silent { Instant::now() } else { this.written };
                this.alarm.as_mut().reset(from + this.keep_alive);
                if silent {
                    break Bytes::from_static(ALIVE);
                }
            },
        };
        this.written = Instant::now();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// How a written answer came to its end.
#[derive(Debug)]
pub(super) enum Written {
    /// Nobody read it for too long, or it was asked to stop.
    Abandoned,
    /// All was said; the last piece is not yet in the recording.
    Over(Bytes),
}

/// Reads an answer to its end, and hands each piece but the last to `write`.
/// Signs of life are left out: each reader has its own.
pub(super) async fn drive(
    mut body: Body,
    recording: &Arc<Recording>,
    abandoned: impl Future<Output = ()>,
    mut write: impl FnMut(&[u8]) -> bool,
) -> Written {
    let mut abandoned = pin!(abandoned);
    loop {
        let next = async {
            recording.room().await;
            body.frame().await
        };
        let frame = tokio::select! {
            biased;
            frame = next => frame,
            () = &mut abandoned => return Written::Abandoned,
        };
        let Some(Ok(frame)) = frame else { return Written::Over(Bytes::new()) };
        let Ok(piece) = frame.into_data() else { continue };
        if piece == ALIVE {
            continue;
        }
        // The last piece is known by what the body says of itself, so that no other is held back.
        if http_body::Body::is_end_stream(&body) {
            return Written::Over(piece);
        }
        if !write(&piece) {
            return Written::Abandoned;
        }
    }
}
