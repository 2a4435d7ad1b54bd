//! `/review`: answers that wait for a person. Reviewers see their own tenant;
//! what is another's looks as if it were not there.
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Request, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{App, error::Shape, fields::Fields, inbound, respond_error};
use crate::{
    auth::settings::time,
    caller::Rights,
    error::{Error, Result},
    review::{Decision, Filter, Item, Reason, Said},
};

/// The longest answer that a reviewer writes, and the longest note, in characters.
const LONGEST_ANSWER: usize = 20_000;
const LONGEST_NOTE: usize = 2000;
/// What an item can be.
pub const STATUS: [&str; 5] = ["open", "claimed", "approved", "edited", "rejected"];
/// What can be done about it.
pub const DECISIONS: [&str; 5] = ["claim", "release", "approve", "edit", "reject"];

/// What `POST /review/{id}` reads.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; `Fields` reads the body and tells every mistake at once"
)]
pub struct Wanted {
    /// `approve`, `edit` or `reject`; `claim` to say that one is about to look at it, `release` for not after all.
    decision: String,
    /// With `edit`: the right answer, at most 20,000 characters.
    answer: Option<String>,
    /// Why, at most 2000 characters.
    note: Option<String>,
}

/// An answer that waits for a person, or that one has judged. All words are masked.
#[derive(Serialize, JsonSchema)]
pub struct Shown {
    /// Its id.
    id: String,
    /// The tenant.
    tenant: String,
    /// The request, for `GET /audit/{request_id}`.
    request_id: String,
    /// Why it is here.
    reason: String,
    /// `open`, `claimed`, `approved`, `edited` or `rejected`.
    status: String,
    /// When the call ended, in RFC 3339.
    time: String,
    /// How far the answer can be relied on, 0 to 1.
    confidence: Option<f64>,
    /// What was asked, at most 8 KiB.
    question: String,
    /// What was answered, likewise; null where nothing was, or where records hold no answers.
    answer: Option<String>,
    /// The model that answered.
    model: Option<String>,
    /// The documents that the answer rests on.
    sources: Vec<String>,
    /// What who got it said of it, 1 to 5.
    rating: Option<i64>,
    /// Likewise in words.
    feedback: Option<String>,
    /// The name of the key of the reviewer who looks at it.
    claimed_by: Option<String>,
    /// Until when.
    claimed_until: Option<String>,
    /// The name of the key that decided.
    decided_by: Option<String>,
    /// When.
    decided_at: Option<String>,
    /// The right answer, where it was edited.
    corrected_answer: Option<String>,
    /// Why.
    note: Option<String>,
    /// What all who were not content with the answer said of it, at most 20 of them; `rating` and `feedback` are the
    /// last one's.
    ratings: Vec<Said>,
    /// The item whose approval gave this answer; to reject or edit this one takes that back.
    approved_item: Option<String>,
}

/// A page of items, oldest first.
#[derive(Serialize, JsonSchema)]
pub struct Listed {
    /// The items.
    items: Vec<Shown>,
    /// What to put into `after` for the next page; null: there is none.
    next: Option<String>,
}

impl From<Item> for Shown {
    fn from(item: Item) -> Self {
        let claimed = item.status == "open" && item.claimed_until > Timestamp::now().as_microsecond();
        Self {
            id: item.id,
            tenant: item.tenant,
            request_id: item.request,
            reason: item.reason,
            status: if claimed { "claimed".into() } else { item.status },
            time: told(item.at),
            confidence: item.confidence,
            question: item.question,
            answer: item.answer,
            model: item.model,
            sources: item.sources,
            rating: item.rating,
            feedback: item.feedback,
            claimed_by: item.claimed_name.filter(|_| claimed),
            claimed_until: claimed.then(|| told(item.claimed_until)),
            decided_by: item.decided_name,
            decided_at: item.decided_at.map(told),
            corrected_answer: item.decision,
            note: item.note,
            ratings: item.ratings,
            approved_item: item.approved,
        }
    }
}

fn told(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map(|at| at.to_string()).unwrap_or_default()
}

/// `GET /review`.
pub async fn list(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let (parts, _) = request.into_parts();
        let own = inbound::caller(app, &parts)?.rights;
        let filter = filter(parts.uri.query().unwrap_or_default())?;
        let most = filter.limit as usize;
        let mut items = app.reviews().list(&own, &Filter { limit: filter.limit + 1, ..filter }).await?;
        let more = items.len() > most;
        items.truncate(most);
        let next = items.last().filter(|_| more).map(|item| item.id.clone());
        Ok(shown(&Listed { items: items.into_iter().map(Shown::from).collect(), next }))
    })
    .await
}

fn filter(query: &str) -> Result<Filter> {
    let asked = |name| inbound::parameter(query, name).filter(|value| !value.is_empty());
    let word = |name: &'static str, words: &[&'static str]| -> Result<&'static str> {
        let Some(asked) = asked(name) else { return Ok("") };
        let known = words.iter().find(|word| **word == asked).copied();
        known.ok_or_else(|| Error::invalid(name, format!("must be one of `{}`", words.join("`, `"))))
    };
    let limit = match asked("limit").map(|limit| limit.parse::<u32>()) {
        None => 50,
        Some(Ok(limit @ 1..=200)) => limit,
        Some(_) => return Err(Error::invalid("limit", "must be a whole number from 1 to 200")),
    };
    let since = match asked("since") {
        None => 0,
        Some(text) => {
            let problem = "must be a date such as `2027-01-31` or a time such as `2027-01-31T12:00:00Z`";
            time(&text).ok_or_else(|| Error::invalid("since", problem))?.as_microsecond()
        }
    };
    let after = asked("after").unwrap_or_default();
    if !after.is_empty() && after.parse::<Uuid>().is_err() {
        return Err(Error::invalid("after", "must be the `next` of the page before"));
    }
    Ok(Filter {
        status: word("status", &STATUS)?,
        reason: word("reason", &Reason::NAMES)?,
        since,
        after,
        limit,
    })
}

/// `GET /review/{id}`.
pub async fn one(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let (parts, _) = request.into_parts();
        let own = inbound::caller(app, &parts)?.rights;
        let item = app.reviews().get(&own, &inbound::last_part(parts.uri.path())).await?;
        Ok(shown(&Shown::from(item)))
    })
    .await
}

/// `POST /review/{id}`.
pub async fn decide(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let inbound = inbound::read(app, request).await?;
        let own = &inbound.caller.rights;
        let id = inbound::last_part(inbound.parts.uri.path());
        // Before its fields: what is not there for this key has no mistakes, either.
        app.reviews().get(own, &id).await?;
        let mut fields = Fields::read(&inbound.body)?;
        let decision = fields.choice("decision", &DECISIONS);
        if decision.is_none() && !fields.is_wrong("decision") {
            fields.wrong("decision", "is required");
        }
        let said = |text: String| text.replace('\0', "");
        let answer = fields.text("answer", 1, LONGEST_ANSWER).map(said);
        let note = fields.text("note", 0, LONGEST_NOTE).map(said);
        if answer.is_some() != (decision == Some("edit")) && !fields.is_wrong("answer") {
            fields.wrong("answer", "comes with the decision `edit`, and only with it");
        }
        fields.nothing_else();
        fields.done()?;
        let decision = match (decision, answer) {
            (Some("edit"), Some(answer)) => Decision::Edit(answer),
            (Some("approve"), _) => Decision::Approve,
            (Some("reject"), _) => Decision::Reject,
            (Some("release"), _) => Decision::Release,
            _ => Decision::Claim,
        };
        let item = app.reviews().decide(own, &id, &decision, note.as_deref()).await?;
        recorded(app, own, &decision, &item).await?;
        Ok(shown(&Shown::from(item)))
    })
    .await
}

/// Says who decided what, in the log and in the audit's chain; never in whose words.
async fn recorded(app: &App, by: &Rights, decision: &Decision, item: &Item) -> Result<()> {
    let (decision, id) = (decision.name(), &*item.id);
    tracing::info!(
        review = id,
        decision,
        request_id = &*item.request,
        tenant = &*item.tenant,
        by_id = &*by.id,
        by_name = &*by.name,
        "review item decided"
    );
    let act = json!({"act": "review", "review": id, "decision": decision, "request_id": &*item.request,
        "by_id": &*by.id, "by_name": &*by.name, "by_tenant": &*by.tenant.name, "approved_item": item.approved.as_deref()});
    app.writer().act(&item.tenant, &act).wait().await
}

fn shown(what: &impl Serialize) -> Response {
    let mut response = Json(what).into_response();
    // It holds what was asked and answered.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn answer(
    app: &App,
    request: Request<Body>,
    work: impl AsyncFnOnce(&App, Request<Body>) -> Result<Response>,
) -> Response {
    let (asked, path) = super::identity(&request);
    match work(app, request).await {
        Ok(response) => response,
        Err(error) => respond_error(app, &error, Shape::Native, &asked, path),
    }
}
