//! Requests whose head cannot be read.
//!
//! hyper answers them by itself, with a status and nothing else: the routes never see them. The reply is
//! caught where it is written, and an error in the shape of the API that was called goes out in its place, with an
//! id. Other replies pay for a look at their first bytes, and requests for a copy of theirs.
use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

use super::error::{self, Shape};
use crate::error::Error;

/// How much of a request is kept, in bytes: its method and the beginning of its path.
const KEPT: usize = 48;
/// hyper's own replies are not longer than this, in bytes.
const LONGEST: usize = 256;

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read at first, in bytes: what hyper's first read has room for.
const FIRST: usize = 8192;

/// Which HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    /// HTTP/1.0 and 1.1.
    One,
    /// HTTP/2.
    Two,
}

/// A connection on which no reply goes without a body and an id.
#[derive(Debug)]
pub(super) struct Spoken<S> {
    stream: S,
    /// What was read to see which HTTP it is, until hyper asks for it.
    first: Vec<u8>,
    /// How the request under way begins.
    begin: [u8; KEPT],
    kept: usize,
    /// Whether something was written since it was read: then what is read next begins another.
    answered: bool,
    /// What is written in place of hyper's own words, and how much of it has been.
    own: Option<(Vec<u8>, usize)>,
}

impl<S> Spoken<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, first: Vec::new(), begin: [0; KEPT], kept: 0, answered: false, own: None }
    }

    /// Keeps the beginning of a request.
    fn keep(&mut self, read: &[u8]) {
        if std::mem::take(&mut self.answered) {
            self.kept = 0;
        }
        let most = read.len().min(KEPT - self.kept);
        self.begin[self.kept..self.kept + most].copy_from_slice(&read[..most]);
        self.kept += most;
    }
}

impl<S: AsyncRead + Unpin> Spoken<S> {
    /// Reads until it is clear which HTTP the client speaks.
    ///
    /// One look at all that has come: to take the preface alone from the socket, and then what follows, makes
    /// hyper read a head in two pieces, for which it doubles its buffer for as long as the connection stands.
    pub(super) fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Http>> {
        loop {
            let mut room = [const { MaybeUninit::uninit() }; FIRST];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            let more = read.filled();
            self.first.extend_from_slice(more);
            let http = if self.first.starts_with(PREFACE) { Http::Two } else { Http::One };
            // Until it has said all of the preface it may yet say something else; it may also be gone.
            if http == Http::Two || more.is_empty() || !PREFACE.starts_with(&self.first) {
                return Poll::Ready(Ok(http));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spoken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let taken = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..taken]);
            let rest = self.first.split_off(taken);
            let taken = std::mem::replace(&mut self.first, rest);
            self.keep(&taken);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let more = buffer.filled().get(before..).unwrap_or_default();
        if !more.is_empty() && (self.answered || self.kept < KEPT) {
            self.keep(more);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spoken<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, words: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.answered = true;
        if this.own.is_none() {
            let Some(error) = unread(words) else { return Pin::new(&mut this.stream).poll_write(cx, words) };
            this.own = Some((told(&error, &this.begin[..this.kept], words), 0));
        }
        while let Some((reply, sent)) = &mut this.own {
            *sent += ready!(Pin::new(&mut this.stream).poll_write(cx, &reply[*sent..]))?;
            if *sent >= reply.len() {
                this.own = None;
            }
        }
        Poll::Ready(Ok(words.len()))
    }

    /// HTTP/2 writes so, which has no such replies.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        words: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, words)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The error that hyper tells of in its own words: a whole head of a refusal without a body, and without the id that
/// each reply of ours has.
fn unread(words: &[u8]) -> Option<Error> {
    if !words.starts_with(b"HTTP/1.1 4") || words.len() > LONGEST || !words.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(words).ok()?;
    let ours = head.contains("x-request-id:") || !head.contains("content-length: 0\r\n");
    match &head[9..12] {
        _ if ours => None,
        "400" => Some(Error::BadHead { status: 400, what: "the request's head is not HTTP" }),
        "414" => Some(Error::BadHead { status: 414, what: "the request's path and query are too long" }),
        "431" => {
            Some(Error::BadHead { status: 431, what: "the request has too many headers, or too large ones" })
        }
        _ => None,
    }
}

/// The reply, in the shape of the API whose request begins like this.
fn told(error: &Error, begin: &[u8], head: &[u8]) -> Vec<u8> {
    let mut words = begin.split(u8::is_ascii_whitespace);
    let path = words.nth(1).and_then(|path| std::str::from_utf8(path).ok()).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let shape = Shape::of(path, false);
    let id = Uuid::now_v7().to_string();
    tracing::debug!(request_id = id, "a request was refused: {error}");
    let status = error::status(error, shape);
    let (kind, body) = error::body(error, shape, &id);
    let date = std::str::from_utf8(head).unwrap_or_default().lines().find(|line| line.starts_with("date:"));
    let date = date.map(|date| format!("{date}\r\n")).unwrap_or_default();
    let also = if shape == Shape::Anthropic { format!("request-id: {id}\r\n") } else { String::new() };
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         x-request-id: {id}\r\n{also}x-content-type-options: nosniff\r\n{date}\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HYPERS: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sat, 21 Nov 2026 20:00:00 GMT\r\n\r\n";

    /// What a client that says `asked` sees of what is written.
    async fn seen(asked: &[&[u8]], written: &[u8], room: usize) -> String {
        let (mut client, server) = tokio::io::duplex(room);
        let mut server = Spoken::new(server);
        for piece in asked {
            client.write_all(piece).await.unwrap();
            let mut read = vec![0; piece.len()];
            server.read_exact(&mut read).await.unwrap();
        }
        let written = written.to_vec();
        let writing = tokio::spawn(async move {
            server.write_all(&written).await.unwrap();
            server.shutdown().await.unwrap();
        });
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        writing.await.unwrap();
        seen
    }

    #[tokio::test]
    async fn what_hyper_says_by_itself_is_said_in_the_shape_of_the_api() {
        for (asked, field) in [
            (
                &[&b"POST /v1/mess"[..], b"ages HTTP/1.1\r\n"][..],
                r#"{"type":"error","error":{"type":"invalid_request_error""#,
            ),
            (&[b"GET /v1/models?x HTTP/1.1\r\n"], r#"{"error":{"#),
            (&[b"GET /query HTTP/1.1\r\n"], r#"{"type":"urn:sluice:problem:headers_too_large""#),
            (&[b"\x16\x03\x01"], r#"{"type":"urn:sluice:problem:headers_too_large""#),
            (&[], r#"{"type":"urn:sluice:problem:headers_too_large""#),
        ] {
            // Also through a pipe that takes little at a time.
            for room in [64, 65536] {
                let seen = seen(asked, HYPERS, room).await;
                let (head, body) = seen.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
                assert!(head.contains("\r\nx-request-id: ") && head.contains("\r\ndate: Sat, 21"), "{head}");
                assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
                assert!(body.starts_with(field), "{body}");
            }
        }
    }

    #[tokio::test]
    async fn which_http_it_is_is_seen_at_any_split_and_no_byte_is_lost() {
        let two = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        let almost = [&PREFACE[..20], b"XY\r\n\r\n"].concat();
        for (said, http) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\n\r\nbody"[..], Http::One),
            (b"PRI * HTTP/1.1\r\nhost: a\r\n\r\n", Http::One),
            (b"PR", Http::One),
            (b"", Http::One),
            (&almost, Http::One),
            (&two, Http::Two),
        ] {
            for split in 0..=said.len() {
                let (mut client, server) = tokio::io::duplex(4096);
                let mut server = Spoken::new(server);
                let speaks = async {
                    client.write_all(&said[..split]).await.unwrap();
                    tokio::task::yield_now().await;
                    client.write_all(&said[split..]).await.unwrap();
                    drop(client);
                };
                let listens = async {
                    let heard = std::future::poll_fn(|cx| server.poll_begin(cx)).await.unwrap();
                    let mut read = Vec::new();
                    server.read_to_end(&mut read).await.unwrap();
                    (heard, read)
                };
                let ((), (heard, got)) = tokio::join!(speaks, listens);
                assert_eq!((heard, &got[..]), (http, said), "split at {split}");
                let begin = &said[..said.len().min(KEPT)];
                assert_eq!(&server.begin[..server.kept], begin, "split at {split}");
            }
        }
    }

    #[tokio::test]
    async fn all_else_is_written_as_it_is() {
        for reply in [
            "HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "data: x\n\n",
        ] {
            assert_eq!(seen(&[b"GET / HTTP/1.1\r\n"], reply.as_bytes(), 4096).await, reply);
        }
    }
}
