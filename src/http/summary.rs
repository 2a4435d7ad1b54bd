//! `GET /summary`: how the calls of a tenant went.
use axum::{body::Body, extract::State, response::Response};
use http::{HeaderValue, Request as HttpRequest, header};
use serde::Serialize;

use super::{App, error::Shape, inbound, respond_error};
use crate::{
    chat::Cost,
    error::{Error, Result},
    review::Week,
    summary::{MOST_HOURS, Sums},
};

/// How many hours are told of, where the caller does not say.
const HOURS: i64 = 24;

/// How the calls of the caller's tenant went. Without calls there are only the first two fields.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Summary {
    /// Calls, refused ones too.
    pub total_calls: u64,
    /// Money spent, in US dollars.
    pub total_cost_usd: f64,
    /// The rest, where there were calls.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// What there is to tell of calls.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Details {
    /// The share of calls that ended with a status below 400.
    pub success_rate: f64,
    /// The mean latency in milliseconds, streams to their end.
    pub avg_latency_ms: f64,
    /// The latency that 95 % of the calls stayed below, in milliseconds; right to 2.5 %.
    pub p95_latency_ms: f64,
    /// Tokens read.
    pub total_input_tokens: u64,
    /// Tokens written.
    pub total_output_tokens: u64,
    /// The share of calls answered from the cache.
    pub cache_hit_rate: f64,
    /// What answers from the cache would have cost, in US dollars.
    pub saved_usd: f64,
    /// By the model that answered, dearest first.
    pub by_model: Vec<Model>,
    /// By the hour, oldest first; hours without calls are left out.
    pub by_hour: Vec<Hour>,
    /// What those who got answers said of them, by the week, oldest first; weeks without are left out.
    pub feedback_by_week: Vec<Rated>,
    /// Whether calls of other gateways, or from before the last start, are missing: the database is away.
    pub partial: bool,
}

/// What a model answered.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Model {
    /// Its configured name; `other` for one that is not.
    pub model: String,
    /// Calls.
    pub calls: u64,
    /// Money spent, in US dollars.
    pub cost_usd: f64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// The feedback of a week.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Rated {
    /// Its Monday, UTC.
    pub week: String,
    /// Answers that were rated.
    pub rated: u64,
    /// The share of them that was rated 4 or 5.
    pub positive_share: f64,
}

/// An hour.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Hour {
    /// When it began, in RFC 3339.
    pub hour: String,
    /// Calls.
    pub calls: u64,
    /// Money spent, in US dollars.
    pub cost_usd: f64,
    /// The share of calls that ended with a status below 400.
    pub success_rate: f64,
    /// The latency that 95 % of the calls stayed below, in milliseconds.
    pub p95_latency_ms: f64,
}

/// The endpoint.
pub async fn get(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    match told(&app, request).await {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

async fn told(app: &App, request: HttpRequest<Body>) -> Result<Vec<u8>> {
    let hours = request.uri().query().and_then(|query| inbound::parameter(query, "hours"));
    let caller = inbound::caller(app, &request.into_parts().0)?;
    let hours = match hours {
        None => HOURS,
        Some(text) => {
            text.parse().ok().filter(|hours| (1..=MOST_HOURS).contains(hours)).ok_or_else(|| {
                Error::invalid("hours", format!("must be a whole number from 1 to {MOST_HOURS}"))
            })?
        }
    };
    let now = jiff::Timestamp::now().as_second().div_euclid(3600);
    let (from, tenant) = (now - hours + 1, &**caller.tenant());
    let (ours, others) = app.summaries();
    let mut found = ours.of(tenant, from);
    let others = others.others(tenant, from).await;
    let since = jiff::Timestamp::from_second(from * 3600).unwrap_or_default();
    let weeks = app.reviews().weeks(tenant, since).await;
    let partial = others.is_err() || weeks.is_err();
    for (hour, sums) in others.unwrap_or_default() {
        found.entry(hour).or_default().plus(&sums);
    }
    let mut all = Sums::default();
    found.values().for_each(|sums| all.plus(sums));
    let by_hour = found.iter().map(|(hour, sums)| Hour {
        hour: jiff::Timestamp::from_second(hour * 3600).map(|at| at.to_string()).unwrap_or_default(),
        calls: sums.calls,
        cost_usd: usd(sums.cost),
        success_rate: rounded(share(sums.succeeded, sums.calls), 4),
        p95_latency_ms: rounded(sums.quantile(0.95), 1),
    });
    let details = Details {
        success_rate: rounded(share(all.succeeded, all.calls), 4),
        avg_latency_ms: rounded(all.took as f64 / 1e3 / all.calls.max(1) as f64, 1),
        p95_latency_ms: rounded(all.quantile(0.95), 1),
        total_input_tokens: all.input,
        total_output_tokens: all.output,
        cache_hit_rate: rounded(share(all.hits, all.calls), 4),
        saved_usd: usd(all.saved),
        by_model: models(&all),
        by_hour: by_hour.collect(),
        feedback_by_week: weeks.unwrap_or_default().into_iter().map(rated).collect(),
        partial,
    };
    let details = (all.calls > 0 || partial).then_some(details);
    let summary = Summary { total_calls: all.calls, total_cost_usd: usd(all.cost), details };
    serde_json::to_vec(&summary).map_err(Error::internal)
}

fn rated(week: Week) -> Rated {
    let monday = jiff::Timestamp::from_second(week.monday * 86_400).unwrap_or_default();
    Rated {
        week: monday.strftime("%Y-%m-%d").to_string(),
        rated: week.rated,
        positive_share: rounded(share(week.positive, week.rated), 4),
    }
}

fn models(all: &Sums) -> Vec<Model> {
    let mut models: Vec<_> = all.models.iter().collect();
    models.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.cost, sums.calls)));
    let shown = models.into_iter().map(|(name, sums)| Model {
        model: name.clone(),
        calls: sums.calls,
        cost_usd: usd(sums.cost),
        input_tokens: sums.input,
        output_tokens: sums.output,
    });
    shown.collect()
}

/// US dollars with four decimals.
fn usd(nanos: u64) -> f64 {
    rounded(Cost(nanos).usd(), 4)
}

fn share(some: u64, all: u64) -> f64 {
    some as f64 / all.max(1) as f64
}

fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (number * scale).round() / scale
}
