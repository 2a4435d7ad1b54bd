//! Native streams that outlive a connection: kept as they are spoken, gone on with after
//! `Last-Event-ID`, and, where that is asked for, spoken on while the reader is away.
use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    App, answer,
    answer::names,
    body::body,
    fields::Fields,
    follow::{self, Written},
    inbound,
    stream::Native,
};
use crate::{
    call::Context,
    caller::Caller,
    error::{Error, Result},
    replay::streams::{EventId, Id},
    reply::Reply,
};

static RESUME: HeaderName = HeaderName::from_static("x-sluice-resume");

/// Whether the stream is to go on while its reader is away.
pub(super) fn wanted(headers: &HeaderMap, query: &str, fields: &mut Fields) -> bool {
    let yes = |word: &str| matches!(word, "1" | "true");
    fields.flag("resume").unwrap_or(false)
        || headers.get(&RESUME).is_some_and(|value| value.to_str().is_ok_and(yes))
        || (query.contains("resume") && inbound::parameter(query, "resume").is_some_and(|word| yes(&word)))
}

/// A reply as a native stream.
pub(super) fn streamed(
    app: &App,
    reply: Reply,
    context: &Arc<Context>,
    session: Option<String>,
    wanted: bool,
) -> Response {
    let notes = context.trail.notes();
    let (head, events) = reply.into_parts();
    let streams = app.replay().streams.as_ref();
    let lasting = streams.is_some_and(|streams| wanted || streams.settings.always);
    let recorder = streams.map(|streams| streams.begin(&context.caller, &context.id, lasting));
    let stream = recorder.as_ref().map(|recorder| recorder.stream.clone());
    let id = stream.as_ref().map_or_else(Id::random, |stream| stream.id);
    let native = Native::new(&head, context.clone(), &notes, session, id);
    let keep_alive = app.running().server.keep_alive.0;
    let writing = body(events, native, keep_alive, recorder);
    let said = match stream.filter(|_| lasting) {
        None => writing,
        Some(stream) => {
            let recording = stream.recording.clone();
            let reader = recording.read(0);
            let grace = app.replay().grace;
            app.replay().tasks.spawn(async move {
                // The body writes what it says to the recording by itself.
                if let Written::Abandoned = follow::drive(writing, &recording, grace, |_| true).await {
                    tracing::debug!(request_id = %stream.request, "nobody came back for the stream");
                }
            });
            follow::following(reader, keep_alive)
        }
    };
    answer::event_response(said, &notes)
}

/// The rest of a stream, after the last event that its reader has.
pub(super) fn resumed(app: &App, caller: &Caller, last: &str) -> Result<Response> {
    let count = |result: &str| app.metrics().resumes.with_label_values(&[result]).inc();
    let found = last.parse::<EventId>().ok().and_then(|id| {
        let stream = app.replay().streams.as_ref()?.find(caller, id.stream)?;
        let at = stream.recording.after(id.event)?;
        Some((stream, at))
    });
    let Some((stream, at)) = found else {
        count("unknown");
        return Err(Error::UnknownStream);
    };
    let mut response = Response::new(Body::empty());
    if stream.recording.is_read(at) {
        // With this an `EventSource` stops coming back.
        count("over");
        *response.status_mut() = StatusCode::NO_CONTENT;
    } else {
        count("resumed");
        let keep_alive = app.running().server.keep_alive.0;
        *response.body_mut() = follow::following(stream.recording.read(at), keep_alive);
        answer::event_stream(response.headers_mut());
    }
    if let Ok(id) = HeaderValue::from_str(&stream.request) {
        response.headers_mut().insert(&names::X_REQUEST_ID, id);
    }
    Ok(response)
}
