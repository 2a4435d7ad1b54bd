//! `POST /feedback`: what somebody who got an answer says of it.
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{App, error::Shape, fields::Fields, inbound, respond_error};
use crate::{
    audit::chain::hex,
    caller::Caller,
    error::{Error, Result},
    review::Feedback,
};

/// The longest feedback, in characters.
const LONGEST: usize = 2000;
/// The longest request id, in characters.
const LONGEST_ID: usize = 128;

/// What `POST /feedback` reads.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; `Fields` reads the body and tells every mistake at once"
)]
pub struct Wanted {
    /// `x-request-id` of the answer, at most 128 characters.
    #[schemars(length(min = 1, max = 128))]
    request_id: String,
    /// How good the answer was.
    #[schemars(range(min = 1, max = 5))]
    rating: u8,
    /// In words, at most 2000 characters.
    #[schemars(length(max = 2000))]
    feedback: Option<String>,
    /// Who says it, as the application names them; left out: the key. Each has one rating of an answer.
    #[schemars(length(min = 1, max = 256))]
    user_id: Option<String>,
}

/// What was kept.
#[derive(Serialize, JsonSchema)]
pub struct Shown {
    /// The request.
    request_id: String,
    /// The words, masked.
    feedback: String,
    /// How good the answer was.
    rating: u8,
    /// When, in ISO 8601, UTC.
    timestamp: String,
}

/// What is read of the audit record.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    #[serde(skip)]
    tenant: String,
    #[serde(skip)]
    owner: String,
    question: Option<String>,
    answer: Option<String>,
    confidence: Option<f64>,
    model: Option<String>,
    sources: Vec<String>,
    approved: Option<String>,
}

/// The endpoint.
pub async fn post(State(app): State<App>, request: Request<Body>) -> Response {
    let (asked, path) = super::identity(&request);
    match rated(&app, request).await {
        Ok(shown) => (StatusCode::CREATED, Json(shown)).into_response(),
        Err(error) => respond_error(&app, &error, Shape::Native, &asked, path),
    }
}

async fn rated(app: &App, request: Request<Body>) -> Result<Shown> {
    let inbound = inbound::read(app, request).await?;
    let mut fields = Fields::read(&inbound.body)?;
    let request = fields.required("request_id", 1, LONGEST_ID);
    let rating = fields.integer("rating", 1, 5);
    if rating.is_none() && !fields.is_wrong("rating") {
        fields.wrong("rating", "is required");
    }
    let words = fields.text("feedback", 0, LONGEST).unwrap_or_default();
    let user = fields.text("user_id", 1, super::query::LONGEST_ID);
    fields.nothing_else();
    fields.done()?;
    let mut by = inbound.caller.clone();
    by.user = user.map(Into::into);
    inbound.is_of(by.user.as_ref());
    let rating = rating.unwrap_or_default() as u8;
    let record = record(app, &inbound.caller, &request).await?;
    let feedback = Feedback {
        tenant: record.tenant.into(),
        owner: record.owner,
        request: (*request).into(),
        by,
        rating,
        words,
        question: record.question,
        answer: record.answer,
        confidence: record.confidence,
        model: record.model,
        sources: record.sources,
        approved: record.approved,
    };
    let (feedback, at) = app.reviews().rate(feedback).await?;
    Ok(Shown { request_id: request, feedback, rating, timestamp: at.to_string() })
}

/// The record of a call of the caller's tenant. Another's looks as if it were not there.
async fn record(app: &App, caller: &Caller, request: &str) -> Result<Record> {
    let absent = || Error::Absent("there is no record of such a request".into());
    let Some(filing) = app.audit() else {
        let why = "no records are kept (`audit.durability` is off), so that nothing is known of any request";
        return Err(Error::Absent(why.into()));
    };
    filing.flush().await?;
    let own = &caller.rights;
    let found = filing.archive().find(request, |tenant| own.sees(tenant)).await;
    let found = found.map_err(|error| Error::StoreAway(Box::new(error)))?.ok_or_else(absent)?;
    let record: Record = serde_json::from_slice(&found.json).map_err(Error::internal)?;
    Ok(Record { tenant: found.tenant, owner: hex(&found.user), ..record })
}
