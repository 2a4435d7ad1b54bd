//! Native streams that outlive a connection: kept as they are spoken, gone on with after
//! `Last-Event-ID`, and, where that is asked for, spoken on while the reader is away.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, request::Parts};

use super::{
    App, Asked, answer,
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
    replay::streams::{EventId, Id, Stream},
    reply::Reply,
};

static RESUME: HeaderName = HeaderName::from_static("x-sluice-resume");

/// Whether the stream is to go on while its reader is away.
pub(super) fn wanted(parts: &Parts, fields: &mut Fields) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    let yes = |word: &str| matches!(word, "1" | "true");
    fields.flag("resume").unwrap_or(false)
        || parts.headers.get(&RESUME).is_some_and(|value| value.to_str().is_ok_and(yes))
        || (query.contains("resume") && inbound::parameter(query, "resume").is_some_and(|word| yes(&word)))
}

/// A reply as a native stream.
pub(super) fn streamed(
    app: &App,
    reply: Reply,
    context: &Arc<Context>,
    session: Option<String>,
    parts: &Parts,
    wanted: bool,
) -> Response {
    let notes = context.trail.notes();
    let (head, events) = reply.into_parts();
    let streams = app.replay().streams.as_ref();
    let lasting = streams.is_some_and(|streams| wanted || streams.settings.always);
    let recorder =
        streams.map(|streams| streams.begin(&context.caller, &context.id, lasting, || inbound::shown(parts)));
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
            let app = app.clone();
            app.replay().clone().spawn(async move {
                let abandoned = abandoned(&app, &stream);
                // The body writes what it says to the recording by itself.
                if let Written::Abandoned = follow::drive(writing, &recording, abandoned, |_| true).await {
                    tracing::debug!(request_id = %stream.request, "nobody came back for the stream");
                }
            });
            follow::following(reader, keep_alive)
        }
    };
    answer::event_response(said, &notes)
}

/// Waits until nobody has read a stream for its grace, here or at another gateway.
async fn abandoned(app: &App, stream: &Stream) {
    let Some(streams) = &app.replay().streams else { return };
    loop {
        stream.recording.abandoned(streams.settings.grace.0).await;
        while streams.is_read_elsewhere(stream.id).await {
            tokio::time::sleep(LOOK).await;
        }
        if !stream.recording.has_readers() {
            return;
        }
    }
}

/// How often it is looked whether somebody reads at another gateway.
const LOOK: Duration = Duration::from_secs(1);
/// How long an event that a reader has is waited for, where another gateway wrote it, and how often it is looked for.
const BEHIND: Duration = Duration::from_secs(2);
const PEEK: Duration = Duration::from_millis(25);

/// The stream that an event is of, and where it goes on after it.
async fn found(app: &App, parts: &Parts, caller: &Caller, last: &str) -> Result<(Arc<Stream>, u64)> {
    let id = last.parse::<EventId>().map_err(|()| Error::UnknownStream)?;
    let streams = app.replay().streams.as_ref().ok_or(Error::UnknownStream)?;
    let stream = if let Some(stream) = streams.find(caller, id.stream) {
        stream
    } else {
        let fetched = streams.fetch(caller, id.stream, &inbound::shown(parts)).await;
        fetched.map_err(Error::streams_away)?.ok_or(Error::UnknownStream)?
    };
    let until = Instant::now() + BEHIND;
    loop {
        if let Some(at) = stream.recording.after(id.event) {
            return Ok((stream, at));
        }
        // What another gateway said may still be on its way.
        let comes = id.event > stream.recording.first() && !stream.recording.is_over();
        if !comes || !stream.foreign {
            return Err(Error::UnknownStream);
        }
        if Instant::now() >= until {
            let why = "what another gateway says is not heard";
            return Err(if streams.is_deaf() { Error::streams_away(why) } else { Error::UnknownStream });
        }
        tokio::time::sleep(PEEK).await;
    }
}

/// The rest of a stream, after the last event that its reader has.
pub(super) async fn resumed(
    app: &App,
    parts: &Parts,
    last: &str,
    asked: &Asked,
    endpoint: &'static str,
) -> Result<Response> {
    let caller = inbound::caller(app, parts)?;
    let count = |result: &str| app.metrics().resumes.with_label_values(&[result]).inc();
    let (stream, at) = found(app, parts, &caller, last).await.inspect_err(|error| {
        count(if matches!(error, Error::StreamsAway { .. }) { "away" } else { "unknown" });
    })?;
    let over = stream.recording.is_read(at);
    let status = if over { StatusCode::NO_CONTENT } else { StatusCode::OK };
    // On the disk before the rest is given: it has an end of its own.
    app.replayed(&stream.request, status.as_u16(), asked, endpoint)?.wait().await?;
    let mut response = Response::new(Body::empty());
    if over {
        // With this an `EventSource` stops coming back.
        count("over");
        *response.status_mut() = status;
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
