//! `GET` and `DELETE /sessions/{id}`: what was said under a `session_id`.
//!
//! A session is of the key, and of the user that its questions named. Anybody
//! else's looks as if it were not there.
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Request, StatusCode, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{App, error::Shape, inbound, query::LONGEST_ID, respond_error};
use crate::{
    error::{Error, Result},
    session::{History, Name, Turn},
};

/// A conversation. Personal data and secrets in it are masked, for good.
#[derive(Serialize, JsonSchema)]
pub struct Shown {
    /// The session.
    session_id: String,
    /// What the turns before those said, summed up by a model; null where nothing was.
    summary: Option<String>,
    /// How many of the oldest turns are not there any more, and in no summary.
    dropped_turns: i64,
    /// What was said, oldest first.
    turns: Vec<Said>,
    /// When it began, in RFC 3339.
    created_at: String,
    /// When it is forgotten, unless it goes on.
    expires_at: String,
}

/// What one of the two said.
#[derive(Serialize, JsonSchema)]
pub struct Said {
    /// `user` or `assistant`.
    role: &'static str,
    /// What was said, masked.
    text: String,
    /// When the answer ended, in RFC 3339.
    time: String,
    /// The request.
    request_id: String,
}

impl Shown {
    fn new(session_id: String, history: History) -> Self {
        let said = |Turn { at, request, question, answer, .. }| {
            let said = |role, text| Said { role, text, time: time(at), request_id: request.clone() };
            [said("user", question), said("assistant", answer)]
        };
        Self {
            session_id,
            summary: history.summary,
            dropped_turns: history.dropped,
            turns: history.turns.into_iter().flat_map(said).collect(),
            created_at: time(history.begun),
            expires_at: time(history.ends),
        }
    }
}

fn time(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map(|at| at.to_string()).unwrap_or_default()
}

/// `GET /sessions/{id}`.
pub async fn get(State(app): State<App>, request: Request<Body>) -> Response {
    let ((id, path), session) = (super::identity(&request), inbound::last_part(request.uri().path()));
    let found = async {
        let name = named(&app, request, &session)?;
        app.sessions().load(&name).await?.ok_or_else(|| absent(&session))
    };
    match found.await {
        Ok(history) => {
            let mut response = Json(Shown::new(session, history)).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

/// `DELETE /sessions/{id}`.
pub async fn delete(State(app): State<App>, request: Request<Body>) -> Response {
    let ((id, path), session) = (super::identity(&request), inbound::last_part(request.uri().path()));
    let removed = async {
        let name = named(&app, request, &session)?;
        match app.sessions().remove(&name).await? {
            true => Ok(()),
            false => Err(absent(&session)),
        }
    };
    match removed.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

fn named(app: &App, request: Request<Body>, session: &str) -> Result<Name> {
    let (parts, _) = request.into_parts();
    let mut caller = inbound::caller(app, &parts)?;
    let user = inbound::parameter(parts.uri.query().unwrap_or_default(), "user_id");
    caller.user = user.filter(|user| !user.is_empty()).map(Into::into);
    let fits = |text: &str| text.chars().take(LONGEST_ID + 1).count() <= LONGEST_ID;
    if !fits(session) || !caller.user.as_deref().is_none_or(fits) {
        return Err(absent(session));
    }
    Ok(Name::new(&caller, session))
}

/// The same for one that is not there, one that was forgotten, and one that is somebody else's.
fn absent(session: &str) -> Error {
    Error::Absent(format!("there is no session `{session}` of this key and user"))
}
