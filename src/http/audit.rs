//! `GET /audit/{request_id}` and `POST /admin/erasures`: what became of a call, and that what a user said is forgotten.
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Request, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{App, error::Shape, fields::Fields, inbound, respond_error};
use crate::{
    audit::{chain::hex, erase::Erasure},
    caller::ALL_TENANTS,
    error::{Error, Result},
};

/// A record, and its place in its chain.
#[derive(Serialize, JsonSchema)]
pub struct Shown {
    /// The record, as it was written; what was erased of it is left out.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    record: Box<RawValue>,
    /// Its number in its chain.
    seq: u64,
    /// Its link: a keyed hash over the record before it and itself.
    hash: String,
}

/// Whose words are to be forgotten.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; `Fields` reads the body and tells every mistake at once"
)]
pub struct Wanted {
    /// The user, as the application names them.
    #[schemars(length(min = 1, max = 256))]
    user_id: String,
    /// The tenant; left out: that of the key that asks.
    tenant: Option<String>,
}

/// What was forgotten.
#[derive(Serialize, JsonSchema)]
pub struct Done {
    /// The erasure's id, which its own record has.
    erasure: String,
    /// The tenant.
    tenant: String,
    /// Records up to this moment, in RFC 3339.
    until: String,
    /// How many records had something to erase.
    records: u64,
}

/// `GET /audit/{request_id}`.
pub async fn get(State(app): State<App>, request: Request<Body>) -> Response {
    let (asked, path) = super::identity(&request);
    match found(&app, request).await {
        Ok(shown) => {
            let mut response = Json(shown).into_response();
            // It holds what was asked and answered.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => respond_error(&app, &error, Shape::Native, &asked, path),
    }
}

async fn found(app: &App, request: Request<Body>) -> Result<Shown> {
    let (parts, _) = request.into_parts();
    let own = inbound::caller(app, &parts)?.rights;
    let id = parts.uri.path().strip_prefix("/audit/").unwrap_or_default();
    // As a part of a query, it is decoded: without what has a meaning only there.
    let query = format!("id={}", id.replace('+', "%2B").replace('&', "%26"));
    let id = inbound::parameter(&query, "id").unwrap_or_default();
    let absent = || Error::Absent("there is no record of such a request".into());
    let filing = app.audit().ok_or_else(absent)?;
    filing.flush().await?;
    let found = filing.archive().find(&id, |tenant| own.sees(tenant)).await;
    let found = found.map_err(|error| Error::StoreAway(Box::new(error)))?.ok_or_else(absent)?;
    let text = String::from_utf8(found.json).map_err(Error::internal)?;
    let record = RawValue::from_string(text).map_err(Error::internal)?;
    Ok(Shown { record, seq: found.seq, hash: hex(&found.hash) })
}

/// `POST /admin/erasures`.
pub async fn erase(State(app): State<App>, request: Request<Body>) -> Response {
    let (asked, path) = super::identity(&request);
    match erased(&app, request).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => respond_error(&app, &error, Shape::Native, &asked, path),
    }
}

async fn erased(app: &App, request: Request<Body>) -> Result<Done> {
    let inbound = inbound::read(app, request).await?;
    let own = &inbound.caller.rights;
    let mut fields = Fields::read(&inbound.body)?;
    let user = fields.required("user_id", 1, 256);
    let tenant = fields.text("tenant", 1, 128);
    fields.nothing_else();
    fields.done()?;
    let tenant = tenant.unwrap_or_else(|| own.tenant.name.to_string());
    if tenant == ALL_TENANTS {
        return Err(Error::invalid("tenant", "is required: this key looks after all tenants"));
    }
    if !own.sees(&tenant) {
        return Err(Error::Forbidden(format!(
            "this key erases content of the tenant `{}` only",
            own.tenant.name
        )));
    }
    // A task of its own: what has begun comes to its end, also when the client leaves.
    let (sessions, reviews) = (app.sessions().clone(), app.reviews().clone());
    let (forget, filing) = (app.forget().clone(), app.audit().cloned());
    let done = tokio::spawn(async move {
        sessions.erase(&tenant, &user).await?;
        reviews.erase(&tenant, &user).await.map_err(|error| Error::StoreAway(error.into()))?;
        forget((*tenant).into(), reviews.reference(&tenant, &user)).await?;
        match filing {
            Some(filing) => filing.erase(&tenant, &user).await,
            None => Ok(Erasure::without_records(&tenant, reviews.reference(&tenant, &user))),
        }
    });
    let done = done.await;
    let Erasure { erasure, tenant, until, records, .. } = done.map_err(Error::internal)??;
    let until = jiff::Timestamp::from_microsecond(until).map(|at| at.to_string()).unwrap_or_default();
    Ok(Done { erasure: erasure.to_string(), tenant, until, records })
}
