//! Bytes to and from a provider.
//!
//! Dropping a reply drops its connection at once. What goes wrong is told
//! without the provider's address or the gateway's key.
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{self, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Full;
use tokio::time::{self, Sleep};
use uuid::Uuid;

use super::{
    Decoder, Dialect, Outgoing, Provider,
    connections::{Body, Connections},
    frames::Frames,
};
use crate::{
    call::{Call, Context, Target},
    chat::Event,
    error::{Error, Result},
    reply::{Head, Reply},
};

/// More of an error's body says nothing more.
const MOST_OF_AN_ERROR: usize = 64 << 10;
/// An error whose body takes longer is known by its status alone.
const LONGEST_ERROR: Duration = Duration::from_secs(3);
/// What is said of a stream that says more than it may.
const TOO_LONG: &str = "the stream says more than the provider's `max_response`";
/// What an event counts for at least, in bytes: whoever keeps an answer keeps its events.
const LEAST_EVENT: usize = 32;
/// How long a finished answer is waited for to end as a body, too, so that its
/// connection can be used again.
const LONGEST_GOODBYE: Duration = Duration::from_millis(5);

/// What a provider may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Bytes of a whole answer, and of all that a stream says.
    pub response: usize,
    /// Bytes of one event of a stream.
    pub event: usize,
}

/// How many headers are added to a provider's own: those of [`Remote::request`], the host and the length.
const ADDED: usize = 6;

/// A provider on the other side of a network.
#[derive(Debug)]
pub struct Remote<D> {
    name: Arc<str>,
    dialect: D,
    base: Base,
    /// Sent with every request, the key among them.
    headers: HeaderMap,
    limits: Limits,
    connections: Connections,
}

/// A provider's address, without a slash at its end.
#[derive(Clone, Debug)]
pub struct Base {
    uri: Uri,
    /// The path that is asked for first, joined: as a rule it is the only one.
    usual: OnceLock<(Box<str>, Uri)>,
}

/// Reads a provider's address. The error does not repeat it, as it may hold a password.
pub fn base_url(text: &str) -> Result<Base, String> {
    let uri: Uri = text.parse().map_err(|error| format!("it is not an address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("the address has to begin with `http://` or `https://`".to_owned());
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("the address must not hold credentials; `api_key` says where they are".to_owned());
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("the address must not have a `?` or `#`".to_owned());
    }
    Ok(Base { uri, usual: OnceLock::new() })
}

impl Base {
    fn join(&self, path: &str) -> Uri {
        let (usual, uri) = self.usual.get_or_init(|| (path.into(), self.joined(path)));
        if **usual == *path { uri.clone() } else { self.joined(path) }
    }

    fn joined(&self, path: &str) -> Uri {
        let path = format!("{}{path}", self.uri.path().trim_end_matches('/'));
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone())
    }
}

impl<D: Dialect> Remote<D> {
    /// A provider at `base`, to which `headers` are sent with every request.
    pub fn new(name: &str, dialect: D, base: Base, mut headers: HeaderMap, limits: Limits) -> Self {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
        let connections = Connections::new(&base.uri, limits.connect);
        Self { name: name.into(), dialect, base, headers, limits, connections }
    }

    async fn ask(&self, call: &Call, target: &Target) -> Result<Reply> {
        let chat = &*call.chat;
        let outgoing = self.dialect.encode(chat, &target.model)?;
        let request = || self.request(&call.context, &outgoing, chat.stream);
        let mut response = self.connections.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Box::pin(self.failed(status, response)).await);
        }
        // Some servers answer a question for a stream with a whole answer.
        if !chat.stream || is_json(response.headers()) {
            let body = self.whole(&mut response).await?;
            let (head, mut completion) = self.dialect.decode(chat, &body)?;
            let calls = completion.choices.iter_mut().flat_map(|choice| &mut choice.tool_calls);
            calls.filter(|call| call.id.is_empty()).for_each(|call| call.id = call_id());
            return Ok(Reply::whole(named(head, target), completion));
        }
        let frames = Frames::new(self.limits.event);
        let (decoder, ready) = (self.dialect.decoder(), Vec::with_capacity(4));
        // Without the head, which would keep the buffer that it was read into.
        let body = response.into_body();
        let mut streamed = Streamed {
            body,
            frames,
            decoder,
            ready,
            room: self.limits.response,
            failed: None,
            ended: false,
            broken: false,
            goodbye: None,
        };
        // The id and the model come with the first event that says anything.
        while streamed.ready.is_empty() && !streamed.ended && streamed.decoder.head().model.is_empty() {
            poll_fn(|cx| streamed.poll_fill(cx)).await?;
        }
        if streamed.ready.is_empty()
            && let Some(error) = streamed.failed.take()
        {
            return Err(error);
        }
        let head = named(streamed.decoder.head(), target);
        Ok(Reply::new(head, stream::poll_fn(move |cx| streamed.poll_event(cx))))
    }

    fn request(&self, context: &Context, outgoing: &Outgoing, stream: bool) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.base.join(&outgoing.path);
        let headers = request.headers_mut();
        // At once with room for all: grown one by one they are copied and sorted in again.
        headers.reserve(self.headers.len() + outgoing.headers.len() + ADDED);
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.extend(outgoing.headers.clone());
        let accept = if stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let mut tell = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        tell("x-request-id", &context.id);
        tell("traceparent", &context.trace.parent);
        tell("tracestate", context.trace.state.as_deref().unwrap_or_default());
        request
    }

    async fn failed(&self, status: StatusCode, mut response: Response<Body>) -> Error {
        let headers = std::mem::take(response.headers_mut());
        let mut body = BytesMut::new();
        let read = async {
            while body.len() < MOST_OF_AN_ERROR
                && let Ok(Some(chunk)) = response.body_mut().chunk().await
            {
                body.extend_from_slice(&chunk[..chunk.len().min(MOST_OF_AN_ERROR - body.len())]);
            }
        };
        // What has come until then is all there is.
        let _ = time::timeout(LONGEST_ERROR, read).await;
        self.dialect.error(status, &headers, &body)
    }

    /// Reads a whole body, without a copy where it comes in one piece.
    async fn whole(&self, response: &mut Response<Body>) -> Result<Bytes> {
        let most = self.limits.response;
        let too_large = || Error::broken(format!("the answer is larger than {most} bytes"));
        let announced = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let announced = announced.unwrap_or_default();
        if announced > most as u64 {
            return Err(too_large());
        }
        let first = response.body_mut().chunk().await?.unwrap_or_default();
        let mut next = response.body_mut().chunk().await?;
        if next.is_none() && first.len() <= most {
            return Ok(first);
        }
        let mut body = BytesMut::with_capacity((announced as usize).max(first.len() * 2));
        body.extend_from_slice(&first);
        while let Some(chunk) = next {
            if body.len() + chunk.len() > most {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
            next = response.body_mut().chunk().await?;
        }
        if body.len() > most { Err(too_large()) } else { Ok(body.freeze()) }
    }
}

impl<D: Dialect> Provider for Remote<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, call: &'a Call, target: &'a Target) -> BoxFuture<'a, Result<Reply>> {
        self.ask(call, target).boxed()
    }
}

/// A streamed answer that is being read.
struct Streamed {
    body: Body,
    frames: Frames,
    decoder: Box<dyn Decoder>,
    /// What has been read and not passed on, last first.
    ready: Vec<Event>,
    /// How much more it may say, in bytes.
    room: usize,
    /// Why the answer broke off, told after what had come of it.
    failed: Option<Error>,
    /// Nothing more of it is read.
    ended: bool,
    /// An error was told: its connection is not used again.
    broken: bool,
    /// Until when the end of its body is waited for.
    goodbye: Option<Pin<Box<Sleep>>>,
}

impl Streamed {
    /// The next event. Read piece by piece without a future for each, which would be moved in and out for every event.
    fn poll_event(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Event>>> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = self.failed.take() {
                self.broken = true;
                return Poll::Ready(Some(Err(error)));
            }
            if self.broken {
                return Poll::Ready(None);
            }
            if self.ended {
                return self.poll_part(cx).map(|()| None);
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                self.broken = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Reads the next piece of the network's, and the events in it.
    fn poll_fill(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<()>> {
        let Self { body, frames, decoder, ready, room, failed, ended, .. } = self;
        let read =
            if let Some(chunk) = ready!(body.poll_chunk(cx))? {
                let read = frames.push(&chunk, |name, data| {
                    if decoder.done() { Ok(()) } else { decoder.frame(name, data, ready) }
                });
                *ended = decoder.done();
                read
            } else {
                *ended = true;
                match frames.finish(|name, data| decoder.frame(name, data, ready)) {
                    // A last event that was cut is no worse than none: `close` judges.
                    Ok(()) | Err(Error::Broken(_)) if !decoder.done() => decoder.close(ready),
                    told => told,
                }
            };
        let said = ready.iter_mut().map(|event| {
            identify(event);
            said(event).max(LEAST_EVENT)
        });
        let said = said.sum();
        let rest = room.checked_sub(said);
        *room = rest.unwrap_or_default();
        // What came before an error has to be heard before it.
        if let Err(error) = read.and_then(|()| rest.map(drop).ok_or_else(|| Error::broken(TOO_LONG))) {
            (*failed, *ended) = (Some(error), true);
        }
        ready.reverse();
        Poll::Ready(Ok(()))
    }

    /// Reads on to the end of the body if that is near: a connection whose
    /// answer was read to its end is used again.
    fn poll_part(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        loop {
            match self.body.poll_chunk(cx) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let goodbye = self.goodbye.get_or_insert_with(|| Box::pin(time::sleep(LONGEST_GOODBYE)));
                    return goodbye.as_mut().poll(cx);
                }
            }
        }
    }
}

/// Gives a tool call an id whose provider did not: callers give back what the tool said by it.
fn identify(event: &mut Event) {
    if let Event::ToolCall { id: id @ None, name: Some(_), .. } = event {
        *id = Some(call_id());
    }
}

/// A new id of a tool call, which no other call of the conversation has. OpenAI takes up to 40 characters back.
fn call_id() -> String {
    format!("call_{}", Uuid::now_v7().simple())
}

/// How much an event says, in bytes.
fn said(event: &Event) -> usize {
    let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    match event {
        Event::Text { text, .. } | Event::Refusal { text, .. } => text.len(),
        Event::Reasoning { text, signature, redacted, .. } => text.len() + of(signature) + of(redacted),
        Event::ToolCall { id, name, arguments, .. } => arguments.len() + of(id) + of(name),
        Event::Embedding { vector, .. } => size_of_val(&**vector),
        Event::Grounded { .. } | Event::Usage(_) | Event::Continued { .. } | Event::Finish { .. } => 0,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"))
}

/// The head of an answer whose provider may not have said which model it is.
fn named(mut head: Head, target: &Target) -> Head {
    if head.model.is_empty() {
        head.model = target.model.clone();
    }
    head
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
