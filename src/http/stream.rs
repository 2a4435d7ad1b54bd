//! `POST /stream` and `GET /stream`: an answer as it is written, for browsers
//! (`EventSource`) and scripts.
use std::fmt::Write;

use axum::{body::Body, extract::State, response::Response};
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, Method, Request as HttpRequest};
use serde_json::json;
use tower::ServiceExt;

use super::{
    App, Asked, answer,
    error::Shape,
    explain,
    fields::Fields,
    inbound,
    query::{Answer, Question, cache_word},
    respond_error, resume,
    sse::Encoder,
};
use crate::{
    call::{Call, Context, Notes, Trail},
    chat::{Completion, Event},
    error::{Error, Result},
    replay::streams::Id,
    reply::Head,
};

/// How long an `EventSource` waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 3000;

/// Writes the native stream: `meta`, a message a token, `usage`, `[DONE]`.
pub struct Native {
    head: Head,
    context: std::sync::Arc<Context>,
    trail: Trail,
    session: Option<String>,
    cache: &'static str,
    /// What its events are named by.
    stream: Id,
    id: u64,
    // All but the text, for the `usage` event.
    rest: Completion,
}

impl Native {
    pub(super) fn new(
        head: &Head,
        context: std::sync::Arc<Context>,
        notes: &Notes,
        session: Option<String>,
        stream: Id,
    ) -> Self {
        Self {
            stream,
            head: head.clone(),
            trail: context.trail.clone(),
            cache: cache_word(notes),
            context,
            session,
            id: 0,
            rest: Completion::default(),
        }
    }

    fn emit(&mut self, name: Option<&str>, data: &str, out: &mut BytesMut) {
        self.id += 1;
        out.put_slice(b"id: ");
        out.put_slice(self.stream.as_str().as_bytes());
        // Writing to memory cannot fail.
        let _ = writeln!(out, "-{}", self.id);
        if let Some(name) = name {
            let _ = writeln!(out, "event: {name}");
        }
        // A line break within the data becomes several `data` lines, which the client joins again.
        for line in data.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            for part in line.split('\r') {
                out.put_slice(b"data: ");
                out.put_slice(part.as_bytes());
                out.put_u8(b'\n');
            }
        }
        out.put_u8(b'\n');
    }
}

/// Whether a token would be taken for one of our own words.
fn is_sentinel(text: &str) -> bool {
    text == "[DONE]" || text == "[TIMEOUT]" || text.starts_with("[ERROR:")
}

impl Encoder for Native {
    fn begin(&mut self, out: &mut BytesMut) {
        let _ = writeln!(out, "retry: {RETRY_MS}");
        let meta = json!({
            "request_id": &*self.context.id,
            "model": &*self.head.model,
            "cache": self.cache,
            "session_id": self.session,
        });
        self.emit(Some("meta"), &meta.to_string(), out);
    }

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            Event::Text { choice: 0, text } | Event::Refusal { choice: 0, text } => {
                if is_sentinel(&text) {
                    self.emit(None, &text[..1], out);
                    self.emit(None, &text[1..], out);
                } else if !text.is_empty() {
                    self.emit(None, &text, out);
                }
            }
            other => self.rest.push(&other),
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        let notes = self.trail.notes();
        let rest = std::mem::take(&mut self.rest);
        let answer = Answer::new(&self.head, &rest, self.session.take(), &self.context, &notes);
        if let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(&answer) {
            fields.shift_remove("answer");
            if self.context.explain.is_some() {
                fields.insert("explain".into(), explain::explanation(&self.context, &notes));
            }
            self.emit(Some("usage"), &serde_json::Value::Object(fields).to_string(), out);
        }
        self.emit(None, "[DONE]", out);
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        match error {
            Error::Timeout { .. } | Error::DeadlineExceeded => self.emit(None, "[TIMEOUT]", out),
            error => self.emit(None, &format!("[ERROR: {error}]"), out),
        }
        self.emit(None, "[DONE]", out);
    }
}

/// The endpoint.
pub async fn any(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    // Boxed: a large future is copied by every wrapper above.
    match Box::pin(ask(&app, request, &id, path)).await {
        Ok(response) => response,
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

async fn ask(
    app: &App,
    request: HttpRequest<Body>,
    asked: &Asked,
    endpoint: &'static str,
) -> Result<Response> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (bodyless, head_only) = (request.method() != Method::POST, request.method() == Method::HEAD);
    if let Some(last) = last_event(request.headers(), &query)
        && !head_only
    {
        return resume::resumed(app, &request.into_parts().0, &last, asked, endpoint).await;
    }
    let inbound = inbound::read(app, request).await?;
    let mut fields = match inbound.body.is_empty() {
        true => Fields::empty(),
        false if bodyless => Fields::empty(),
        false => Fields::read(&inbound.body)?,
    };
    fields.alias("prompt", "question");
    for name in ["prompt", "question", "user_id", "session_id", "model", "mode"] {
        if let Some(value) = inbound::parameter(&query, name) {
            fields.default(if name == "prompt" { "question" } else { name }, value);
        }
    }
    let wanted = resume::wanted(&inbound.parts, &mut fields);
    let mut question = Question::from(fields, false, &app.running())?;
    question.chat.stream = true;
    if head_only {
        // Nobody would read the answer that a model is paid for.
        let mut response = Response::new(Body::empty());
        answer::event_stream(response.headers_mut());
        return Ok(response);
    }
    let mut context = inbound.context("/stream", question.user.as_deref());
    context.session = question.session.as_deref().map(Into::into);
    context.remember = true;
    context.use_cache &= question.use_cache;
    context.priority = question.priority.unwrap_or(context.priority);
    let call = Call::new(context, question.chat);
    let (context, session) = (call.context.clone(), question.session);
    // Boxed already: the pipeline is a service.
    let failed = match app.running().pipeline.clone().oneshot(call).await {
        Ok(reply) => return Ok(resume::streamed(app, reply, &context, session, &inbound.parts, wanted)),
        Err(failed) => failed,
    };
    if !failed.is_behind_us() {
        return Ok(answer::refused(&failed, Shape::Native, &context));
    }
    // An `EventSource` cannot read a status: what went wrong behind us is told in the stream.
    tracing::warn!(request_id = %context.id, "API error: {}", failed.logged());
    let notes = context.trail.notes();
    let mut native = Native::new(&Head::default(), context.clone(), &notes, session, Id::random());
    let mut out = BytesMut::new();
    native.begin(&mut out);
    native.fail(&failed, &mut out);
    Ok(answer::event_response(Body::from(out.freeze()), &notes))
}

/// The event after which a reader wants to go on: from the header that an
/// `EventSource` sends, or from the URL for clients that cannot send one.
fn last_event(headers: &HeaderMap, query: &str) -> Option<String> {
    let header = headers.get(&LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?").to_owned());
    let asked = header.or_else(|| {
        // Most have no such word in their URL: it is not taken apart for nothing.
        query.contains("last_event_id").then(|| inbound::parameter(query, "last_event_id")).flatten()
    });
    asked.filter(|id| !id.is_empty())
}

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
