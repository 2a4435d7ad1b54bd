//! From a reply to a response, whole or streamed, with the headers that every reply has.
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tower::ServiceExt;

use super::{App, body::body, error, error::Shape, explain, limits::limits, sse::Encoder};
use crate::{
    call::{Cached, Call, Context, Notes},
    chat::{Completion, Cost},
    reply::Head,
};

/// Asks the pipeline and renders the whole answer.
pub async fn whole(
    app: &App,
    call: Call,
    shape: Shape,
    render: impl FnOnce(&Head, Completion, &Context, &Notes) -> Vec<u8>,
) -> Response {
    let context = call.context.clone();
    let asked = async { app.running().pipeline.clone().oneshot(call).await?.collect().await };
    match asked.await {
        // Read where they stand: the call is over, and nobody else writes into them.
        Ok((head, completion)) => context.trail.note(|notes| {
            let mut body = render(&head, completion, &context, notes);
            if context.explain.is_some() {
                body = explain::add(body, shape, &explain::explanation(&context, notes));
            }
            let mut response = Response::new(Body::from(body));
            let headers = response.headers_mut();
            about(headers, notes);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let cost = if notes.cache == Cached::Hit { Cost(0) } else { notes.cost() };
            put(headers, &names::X_COST_USD, cost.to_string());
            response
        }),
        Err(failed) => refused(&failed, shape, &context),
    }
}

/// Asks the pipeline and streams the answer. The status line is sent only
/// when the first content is there.
pub async fn streamed<E: Encoder>(
    app: &App,
    call: Call,
    shape: Shape,
    encoder: impl FnOnce(&Head, &Context, &Notes) -> E,
) -> Response {
    let context = call.context.clone();
    let reply = match app.running().pipeline.clone().oneshot(call).await {
        Ok(reply) => reply,
        Err(failed) => return refused(&failed, shape, &context),
    };
    let (head, events) = reply.into_parts();
    let keep_alive = app.running().server.keep_alive.0;
    // Read where they stand, as for a whole answer: a copy is made of none.
    context.trail.note(|notes| {
        let encoder = encoder(&head, &context, notes);
        event_response(body(events, encoder, keep_alive, None), notes)
    })
}

/// An event stream as a reply, with the headers that every reply has.
pub fn event_response(body: Body, notes: &Notes) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().reserve(MANY_HEADERS);
    event_stream(response.headers_mut());
    about(response.headers_mut(), notes);
    response
}

/// An error of the pipeline as a reply, with the headers that every reply has.
pub fn refused(failed: &crate::error::Error, shape: Shape, context: &Context) -> Response {
    let notes = context.trail.notes();
    let more = |body| match context.explain {
        Some(_) => explain::add(body, shape, &explain::explanation(context, &notes)),
        None => body,
    };
    let mut response = error::response_with(failed, shape, &context.id, more);
    about(response.headers_mut(), &notes);
    response
}

/// The headers of an event stream.
pub fn event_stream(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(&names::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// The headers that say how the answer came about.
pub fn about(headers: &mut HeaderMap, notes: &Notes) {
    headers.reserve(MANY_HEADERS);
    let cache = match notes.cache {
        Cached::Hit => "HIT",
        Cached::Miss => "MISS",
        Cached::Bypass => "BYPASS",
    };
    headers.insert(&names::X_CACHE, HeaderValue::from_static(cache));
    if let Some(target) = &notes.target {
        put(headers, &names::X_MODEL_VERSION, target.version.to_string());
    }
    if let Some(version) = &notes.prompt_version {
        put(headers, &names::X_PROMPT_VERSION, version.to_string());
    }
    if let Some(conversation) = &notes.conversation {
        let history = match conversation.unavailable {
            true => HeaderValue::from_static("unavailable"),
            false => HeaderValue::from(conversation.given),
        };
        headers.insert(&names::X_SESSION_HISTORY, history);
    }
    limits(headers, notes.limit, notes.token_limit);
}

/// Room for all headers of a reply, made at once.
const MANY_HEADERS: usize = 16;

fn put(headers: &mut HeaderMap, name: &'static HeaderName, value: String) {
    // A configured name may hold what a header may not: then the header is left out.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        headers.insert(name, value);
    }
}

/// Names that requests and replies have, made once: a name given as text is checked and copied every time.
pub(super) mod names {
    use http::HeaderName;

    pub(in crate::http) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub(in crate::http) static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    pub(in crate::http) static X_CACHE: HeaderName = HeaderName::from_static("x-cache");
    pub(in crate::http) static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    pub(in crate::http) static X_PRIORITY: HeaderName = HeaderName::from_static("x-priority");
    pub(in crate::http) static X_REQUEST_TIMEOUT_MS: HeaderName =
        HeaderName::from_static("x-request-timeout-ms");
    pub(in crate::http) static X_SLUICE_EXPLAIN: HeaderName = HeaderName::from_static("x-sluice-explain");
    pub(in crate::http) static ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
    pub(in crate::http) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    pub(super) static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    pub(super) static X_COST_USD: HeaderName = HeaderName::from_static("x-cost-usd");
    pub(super) static X_MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
    pub(super) static X_SESSION_HISTORY: HeaderName = HeaderName::from_static("x-session-history");
    pub(super) static X_PROMPT_VERSION: HeaderName = HeaderName::from_static("x-prompt-version");
}

/// The seconds since 1970, for replies that say when they were made.
pub fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
