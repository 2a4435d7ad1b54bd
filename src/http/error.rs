//! Errors in the shape of the API that was called.
use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::{anthropic, openai};
use crate::error::{Error, FieldError};

/// The shapes of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// RFC 9457 problem documents.
    Native,
    /// `{"error": {…}}`.
    OpenAi,
    /// `{"type": "error", "error": {…}}`.
    Anthropic,
}

impl Shape {
    /// The shape for a path that leads nowhere, or that failed before it was known where it leads.
    pub fn of(path: &str, anthropic: bool) -> Self {
        match path {
            _ if path.starts_with("/v1/messages") => Self::Anthropic,
            _ if anthropic && path.starts_with("/v1/models") => Self::Anthropic,
            _ if path == "/v1" || path.starts_with("/v1/") => Self::OpenAi,
            _ => Self::Native,
        }
    }
}

/// An RFC 9457 problem document.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// The request's id.
    pub instance: String,
    /// The wrong fields, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
}

/// A wrong field.
#[derive(Serialize, schemars::JsonSchema)]
pub struct ProblemField {
    /// The field's path.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The HTTP status of an error in a shape. The native API says 403 for a
/// wrong `X-API-Key` and 422 for a body that is JSON but makes no sense.
pub fn status(error: &Error, shape: Shape) -> StatusCode {
    match (error, shape) {
        (Error::Unauthenticated { by_header: true }, Shape::Native) => StatusCode::FORBIDDEN,
        (Error::Invalid(_), Shape::Native) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => error.facts().status,
    }
}

/// The error as a reply.
pub fn response(error: &Error, shape: Shape, id: &str) -> Response {
    response_with(error, shape, id, |body| body)
}

/// The error as a reply whose body is changed by `more`.
pub fn response_with(
    error: &Error,
    shape: Shape,
    id: &str,
    more: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Response {
    let status = status(error, shape);
    if matches!(error, Error::Internal(_)) {
        tracing::error!(request_id = id, "Request {id} failed: {}", error.chain());
    }
    let (kind, body) = body(error, shape, id);
    let mut response = Response::new(Body::from(more(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(wait) = error.retry_after() {
        // Rounded up: after it a request is admitted.
        let millis = wait.as_micros().div_ceil(1000) as u64;
        headers.insert(header::RETRY_AFTER, millis.div_ceil(1000).max(1).into());
        headers.insert("retry-after-ms", millis.into());
    }
    if let Error::BudgetSpent { held, .. } = error {
        // The SDKs of OpenAI and Anthropic read it before all else.
        let again = HeaderValue::from_static(if *held { "true" } else { "false" });
        headers.insert("x-should-retry", again);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(error, Error::SlowBody | Error::TooLarge { .. } | Error::BadHead { .. }) {
        // The rest of the body is not read; where a head is wrong, who knows where the next one begins.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The body of an error, and what kind of content it is.
pub(super) fn body(error: &Error, shape: Shape, id: &str) -> (&'static str, Vec<u8>) {
    match shape {
        Shape::Native => ("application/problem+json", problem(error, status(error, shape), id)),
        Shape::OpenAi => ("application/json", openai::error_body(error)),
        Shape::Anthropic => ("application/json", anthropic::error_body(error, id)),
    }
}

fn problem(error: &Error, status: StatusCode, id: &str) -> Vec<u8> {
    let code = error.facts().code;
    let fields: &[FieldError] = if let Error::Invalid(fields) = error { fields } else { &[] };
    let detail = match fields {
        [] | [_] => error.to_string(),
        many => format!("{} fields are not valid; `errors` names each", many.len()),
    };
    let problem = Problem {
        kind: format!("urn:sluice:problem:{code}"),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail,
        instance: id.to_owned(),
        errors: fields
            .iter()
            .map(|field| ProblemField { field: field.field.clone(), message: field.message.clone() })
            .collect(),
    };
    serde_json::to_vec(&problem).unwrap_or_default()
}
