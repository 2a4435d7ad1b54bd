//! The way to remote providers: the only file that knows the HTTP client.
use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{Client, Response, Url};

use super::{Decoder, Dialect, Outgoing, Provider, frames::Frames, settings::Settings};
use crate::{
    call::{Call, Target},
    chat::Event,
    error::{Error, Result},
    reply::{Head, Reply},
};

/// An error's body is read up to here: it is for a message, not for an archive.
const LARGEST_ERROR: usize = 64 << 10;
/// And no longer than this.
const ERROR_PATIENCE: Duration = Duration::from_secs(5);
/// Idle connections that are kept to one provider.
const IDLE: usize = 1024;
/// How long an idle connection is kept: less than the minute after which many servers hang up.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// How a provider's key travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
}

/// A provider that is reached over HTTP.
pub struct Remote<D> {
    name: String,
    dialect: D,
    base: Url,
    headers: HeaderMap,
    connect_timeout: Duration,
    max_response: usize,
    max_event: usize,
    // Made at the first call: reading the system's certificates takes longer than starting.
    client: OnceLock<std::result::Result<Client, String>>,
}

impl<D: Dialect> Remote<D> {
    /// A provider at `base`. Its key is read once; where there is none, none is sent.
    pub fn new(name: &str, dialect: D, base: &str, key: KeyHeader, settings: &Settings) -> std::result::Result<Self, String> {
        let base = Url::parse(base.trim_end_matches('/')).map_err(|error| format!("provider `{name}`: base_url: {error}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
        for (header, value) in &settings.headers {
            let header = header.parse::<HeaderName>().map_err(|error| format!("provider `{name}`: headers: {error}"))?;
            let value = HeaderValue::from_str(value).map_err(|error| format!("provider `{name}`: headers: {error}"))?;
            headers.insert(header, value);
        }
        if let Some(secret) = settings.api_key.as_ref().and_then(crate::settings::SecretFrom::fetch) {
            let (header, text) = match key {
                KeyHeader::Bearer => (header::AUTHORIZATION, format!("Bearer {}", secret.reveal())),
                KeyHeader::XApiKey => (HeaderName::from_static("x-api-key"), secret.reveal().to_owned()),
            };
            // The error would show the value.
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("provider `{name}`: its key holds characters that no header may hold"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(Self {
            name: name.to_owned(),
            dialect,
            base,
            headers,
            connect_timeout: settings.connect_timeout.0,
            max_response: settings.max_response.0,
            max_event: settings.max_event.0,
            client: OnceLock::new(),
        })
    }

    fn client(&self) -> Result<&Client> {
        let made = self.client.get_or_init(|| client(&self.base, self.connect_timeout).map_err(|error| error.to_string()));
        made.as_ref().map_err(|error| Error::internal(error.clone()))
    }

    async fn ask(&self, call: &Call, target: &Target) -> Result<Reply> {
        let outgoing = self.dialect.encode(&call.chat, &target.model)?;
        let response = self.send(call, outgoing).await?;
        if !response.status().is_success() {
            return Err(self.failure(response).await);
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let streams = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        if streams {
            return Ok(self.stream(response, target));
        }
        let body = read(response, self.max_response).await?;
        let (head, completion) = self.dialect.decode(&call.chat, &body)?;
        Ok(Reply::whole(named(head, target), completion))
    }

    async fn send(&self, call: &Call, outgoing: Outgoing) -> Result<Response> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), outgoing.path));
        let mut headers = self.headers.clone();
        headers.extend(outgoing.headers.into_iter().filter_map(|(name, value)| Some((name?, value))));
        let trace = &call.context.trace;
        let ours = [("x-request-id", Some(&call.context.id)), ("traceparent", Some(&trace.parent)), ("tracestate", trace.state.as_ref())];
        for (name, value) in ours {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let sent = self.client()?.post(url).headers(headers).body(outgoing.body).send().await;
        sent.map_err(|error| {
            let error = error.without_url();
            if error.is_connect() && error.is_timeout() {
                Error::Timeout { phase: "connect" }
            } else {
                Error::Unreachable(error.into())
            }
        })
    }

    async fn failure(&self, mut response: Response) -> Error {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let reading = read_some(response, LARGEST_ERROR);
        let body = tokio::time::timeout(ERROR_PATIENCE, reading).await.unwrap_or_default();
        self.dialect.error(status, &headers, &body)
    }

    fn stream(&self, response: Response, target: &Target) -> Reply {
        let decoder = self.dialect.decoder();
        let reading = Reading { bytes: response.bytes_stream().boxed(), frames: Frames::new(self.max_event), decoder };
        let batches = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            let mut events = Vec::new();
            let more = reading.step(&mut events).await;
            let over = !matches!(more, Ok(true));
            let failed = more.err().map(Err);
            let batch = stream::iter(events.into_iter().map(Ok).chain(failed));
            Some((batch, (!over).then_some(reading)))
        });
        Reply::new(named(Head::default(), target), batches.flatten())
    }
}

/// A stream that is being read.
struct Reading {
    bytes: stream::BoxStream<'static, reqwest::Result<Bytes>>,
    frames: Frames,
    decoder: Box<dyn Decoder>,
}

impl Reading {
    /// Reads what has come. Tells whether more is expected.
    async fn step(&mut self, events: &mut Vec<Event>) -> Result<bool> {
        match self.bytes.next().await {
            Some(Ok(bytes)) => {
                let decoder = &mut self.decoder;
                self.frames.push(&bytes, |name, data| match decoder.done() {
                    true => Ok(()),
                    false => decoder.frame(name, data, events),
                })?;
                if !decoder.done() {
                    return Ok(true);
                }
                // The end of the body, if it is here already, makes the connection fit for the next call.
                let _ = futures_util::FutureExt::now_or_never(self.bytes.next());
                Ok(false)
            }
            Some(Err(error)) => Err(Error::broken(error.without_url())),
            None => {
                let decoder = &mut self.decoder;
                self.frames.finish(|name, data| decoder.frame(name, data, events))?;
                if !self.decoder.done() {
                    self.decoder.close(events)?;
                }
                Ok(false)
            }
        }
    }
}

impl<D: Dialect> Provider for Remote<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, call: &'a Call, target: &'a Target) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(self.ask(call, target))
    }
}

/// A head that names the model, also where the provider did not.
fn named(mut head: Head, target: &Target) -> Head {
    if head.model.is_empty() {
        head.model = target.model.clone();
    }
    head
}

/// The client for one provider. TLS, with the system's certificates, only where it is spoken.
fn client(base: &Url, connect_timeout: Duration) -> std::result::Result<Client, reqwest::Error> {
    // A second installation is refused, and that is well: it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(IDLE_FOR)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    let builder = match base.scheme() {
        "http" => builder.tls_certs_only([]),
        _ => builder,
    };
    builder.build()
}

async fn read(response: Response, limit: usize) -> Result<Bytes> {
    let too_large = || Error::broken(format!("the answer is larger than {limit} bytes"));
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut chunks = response.bytes_stream();
    let mut all: Vec<u8> = Vec::new();
    let mut first: Option<Bytes> = None;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Error::broken(error.without_url()))?;
        match (&first, all.is_empty()) {
            // Most answers come in one piece, which is then not copied.
            (None, true) => first = Some(chunk),
            (held, _) => {
                if let Some(held) = held {
                    all.extend_from_slice(held);
                    first = None;
                }
                all.extend_from_slice(&chunk);
            }
        }
        if all.len() + first.as_ref().map_or(0, Bytes::len) > limit {
            return Err(too_large());
        }
    }
    Ok(first.unwrap_or_else(|| all.into()))
}

/// Reads the beginning of a body, as far as it comes.
async fn read_some(response: Response, limit: usize) -> Vec<u8> {
    let mut chunks = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        let room = limit - all.len();
        all.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if all.len() == limit {
            break;
        }
    }
    all
}

