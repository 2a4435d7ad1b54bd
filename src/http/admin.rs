//! `/admin/keys`: keys that are made, changed and revoked while the gateway runs.
//!
//! Only keys with the role `admin` come here, and they see their own tenant;
//! what is another's looks as if it were not there.
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use garde::Validate;
use http::{HeaderValue, Request, StatusCode, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{App, error::Shape, fields::Fields, inbound, read::Object, respond_error, routes};
use crate::{
    auth::{Grant, Stored, book, settings::time},
    caller::{ALL_TENANTS, Caps, Priority, Quota, Rights, Role},
    error::{Error, Result},
};

/// A key as it is shown. The key itself is in the answer that made it, and nowhere else.
#[derive(Serialize, JsonSchema)]
pub struct Shown {
    /// What it is known by; it stays when the key is renamed, and is never used twice.
    id: String,
    /// What its limits and its budget are counted under: its id, or that of a revoked key whose name it has.
    account: String,
    /// The key, this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Its name, for logs and records.
    name: String,
    /// The tenant that it belongs to.
    tenant: String,
    /// What it may do.
    roles: Vec<Role>,
    /// The routes that it may use; null: all.
    models: Option<Vec<String>>,
    /// The endpoints that it may use; null: all that its roles reach.
    endpoints: Option<Vec<String>>,
    /// The most urgent that its calls may be; null: `high`.
    max_priority: Option<Priority>,
    /// How much it may ask for.
    limits: Quota,
    /// How much money it may spend.
    budget: Caps,
    /// When it ends.
    expires: Option<String>,
    /// When it was made.
    created_at: String,
    /// The id of the key that made it.
    created_by: String,
    /// When it was revoked.
    revoked_at: Option<String>,
}

/// A page of keys, oldest first.
#[derive(Serialize, JsonSchema)]
pub struct Listed {
    /// The keys.
    keys: Vec<Shown>,
    /// What to put into `after` for the next page; null: there is none.
    next: Option<String>,
}

/// What makes or changes a key. On a change, what is left out stays.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; `Fields` reads the body and tells every mistake at once"
)]
pub struct Wanted {
    /// Its name, once in a tenant.
    #[schemars(length(min = 1, max = 128))]
    name: String,
    /// The tenant; left out: that of the key that asks. It cannot be changed.
    tenant: Option<String>,
    /// `app` (left out), `reviewer`, `admin`.
    roles: Option<Vec<Role>>,
    /// The routes that it may use; null: all.
    models: Option<Vec<String>>,
    /// The endpoints that it may use, as this document writes them; null: all that its roles reach.
    endpoints: Option<Vec<String>>,
    /// The most urgent that its calls may be; null: `high`.
    max_priority: Option<Priority>,
    /// How much it may ask for.
    limits: Option<Quota>,
    /// How much money it may spend.
    budget: Option<Caps>,
    /// A date, or a time, that is still to come.
    expires: Option<String>,
}

impl Shown {
    fn new(stored: Stored, key: Option<String>) -> Self {
        let Grant { roles, models, endpoints, max_priority, limits, budget, expires } = stored.grant;
        let told = |at: Timestamp| at.to_string();
        Self {
            id: stored.id.to_string(),
            account: stored.account.to_string(),
            key,
            name: stored.name,
            tenant: stored.tenant,
            roles,
            models,
            endpoints,
            max_priority,
            limits,
            budget,
            expires: expires.map(told),
            created_at: told(stored.created_at),
            created_by: stored.created_by,
            revoked_at: stored.revoked_at.map(told),
        }
    }
}

/// `POST /admin/keys`.
pub async fn create(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let inbound = inbound::read(app, request).await?;
        let own = inbound.caller.rights;
        let mut fields = Fields::read(&inbound.body)?;
        let name = named(&mut fields, "name", None);
        let tenant =
            named(&mut fields, "tenant", (*own.tenant.name != *ALL_TENANTS).then_some(&own.tenant.name));
        let mut grant = Grant::default();
        granted(&mut fields, &mut grant);
        fields.nothing_else();
        fields.done()?;
        if !own.sees(&tenant) {
            return Err(Error::Forbidden(format!(
                "this key makes keys of the tenant `{}` only",
                own.tenant.name
            )));
        }
        grant.within(&own)?;
        let (key, stored) = app.keys().add(&name, &tenant, grant, &own.id).await?;
        done(app, "created", &stored, &own).await;
        let place = format!("/admin/keys/{}", stored.id);
        let mut response = (StatusCode::CREATED, Json(Shown::new(stored, Some(key)))).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    })
    .await
}

/// `GET /admin/keys`.
pub async fn list(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let (parts, _) = request.into_parts();
        let own = inbound::caller(app, &parts)?.rights;
        let asked = |name| inbound::parameter(parts.uri.query().unwrap_or_default(), name);
        let most = match asked("limit").map(|limit| limit.parse::<u32>()) {
            None => 50,
            Some(Ok(limit @ 1..=200)) => limit,
            Some(_) => return Err(Error::invalid("limit", "must be a whole number from 1 to 200")),
        };
        let tenant = (*own.tenant.name != *ALL_TENANTS)
            .then(|| own.tenant.name.to_string())
            .or_else(|| asked("tenant"));
        let after = asked("after").unwrap_or_default();
        if !after.is_empty() && !book::is_id(&after) {
            return Err(Error::invalid("after", "must be the `next` of the page before"));
        }
        let mut keys = app.keys().list(tenant.as_deref(), &after, most + 1).await?;
        let more = keys.len() > most as usize;
        keys.truncate(most as usize);
        let next = keys.last().filter(|_| more).map(|key| key.id.to_string());
        let keys = keys.into_iter().map(|key| Shown::new(key, None)).collect();
        Ok(Json(Listed { keys, next }).into_response())
    })
    .await
}

/// `GET /admin/keys/{id}`.
pub async fn one(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let id = id(&request);
        let (parts, _) = request.into_parts();
        let own = inbound::caller(app, &parts)?.rights;
        let stored = app.keys().get(&id).await.and_then(|stored| seen(stored, &own))?;
        Ok(Json(Shown::new(stored, None)).into_response())
    })
    .await
}

/// `PATCH /admin/keys/{id}`.
pub async fn change(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let id = id(&request);
        let inbound = inbound::read(app, request).await?;
        let own = inbound.caller.rights;
        let mut fields = Fields::read(&inbound.body)?;
        let changed = app.keys().change(&id, |stored| {
            let mut stored = seen(stored, &own)?;
            if stored.revoked_at.is_some() {
                return Err(Error::Conflict("this key is revoked, for good; make another".into()));
            }
            stored.grant.below(&own)?;
            stored.name = named(&mut fields, "name", Some(&stored.name));
            granted(&mut fields, &mut stored.grant);
            fields.nothing_else();
            fields.done()?;
            stored.grant.within(&own)?;
            Ok(stored)
        });
        let changed = changed.await?;
        done(app, "changed", &changed, &own).await;
        Ok(Json(Shown::new(changed, None)).into_response())
    })
    .await
}

/// `DELETE /admin/keys/{id}`: the key opens nothing any more. Its record stays.
pub async fn revoke(State(app): State<App>, request: Request<Body>) -> Response {
    answer(&app, request, async |app, request| {
        let id = id(&request);
        let (parts, _) = request.into_parts();
        let own = inbound::caller(app, &parts)?.rights;
        let revoked = app.keys().change(&id, |stored| {
            let stored = seen(stored, &own)?;
            stored.grant.below(&own)?;
            // Who asks again, because no answer came, hears the same.
            Ok(Stored { revoked_at: stored.revoked_at.or_else(|| Some(book::now())), ..stored })
        });
        let revoked = revoked.await?;
        done(app, "revoked", &revoked, &own).await;
        Ok(Json(Shown::new(revoked, None)).into_response())
    })
    .await
}

/// The id in the path. Ids have nothing in them that a path would spell otherwise.
fn id(request: &Request<Body>) -> String {
    request.uri().path().rsplit('/').next().unwrap_or_default().to_owned()
}

async fn answer(
    app: &App,
    request: Request<Body>,
    work: impl AsyncFnOnce(&App, Request<Body>) -> Result<Response>,
) -> Response {
    let (id, path) = super::identity(&request);
    match work(app, request).await {
        Ok(response) => response,
        Err(error) => respond_error(app, &error, Shape::Native, &id, path),
    }
}

/// The key, if it is this one's to see.
fn seen(stored: Stored, own: &Rights) -> Result<Stored> {
    if own.sees(&stored.tenant) { Ok(stored) } else { Err(book::absent(&stored.id)) }
}

/// A change is in force here at once, and says who made it.
async fn done(app: &App, what: &'static str, key: &Stored, by: &Rights) {
    tracing::info!(
        key_id = &*key.id,
        key_name = &*key.name,
        key_tenant = &*key.tenant,
        by_id = &*by.id,
        by_name = &*by.name,
        by_tenant = &*by.tenant.name,
        "key {what}"
    );
    if let Err(error) = app.follow_keys().await {
        tracing::warn!(%error, "the change is stored, and in force as soon as the database answers again");
    }
}

/// A name; left out: as it was.
fn named(fields: &mut Fields, field: &str, was: Option<&str>) -> String {
    let name = match was {
        Some(was) => fields.text(field, 1, 128).unwrap_or_else(|| was.to_owned()),
        None => fields.required(field, 1, 128),
    };
    if name.chars().any(char::is_control) || name == ALL_TENANTS {
        fields.wrong(field, "must not have control characters, nor be `*`");
    }
    name
}

/// What the body says of a grant; what it leaves out stays, and null is as if it had never been said.
fn granted(fields: &mut Fields, grant: &mut Grant) {
    if let Some(roles) = fields.given::<Vec<Role>>("roles") {
        grant.roles = roles.unwrap_or_else(|| Grant::default().roles);
        if grant.roles.is_empty() {
            fields.wrong("roles", "must name a role; a key that may do nothing is revoked");
        }
    }
    if let Some(models) = fields.given("models") {
        grant.models = models;
    }
    if let Some(endpoints) = fields.given::<Vec<String>>("endpoints") {
        for endpoint in endpoints.iter().flatten() {
            if routes::find(endpoint).is_none_or(|route| route.template != endpoint) {
                fields.wrong(
                    "endpoints",
                    format!("there is no endpoint `{endpoint}`; /openapi.json lists them"),
                );
            }
        }
        grant.endpoints = endpoints;
    }
    if let Some(priority) = fields.given("max_priority") {
        grant.max_priority = priority;
    }
    if let Some(limits) = fields.given::<Object<Quota>>("limits") {
        grant.limits = limits.map(|Object(limits)| limits).unwrap_or_default();
        if let Err(report) = grant.limits.validate() {
            for (path, problem) in report.iter() {
                fields.wrong(&format!("limits.{path}"), problem.message());
            }
        }
    }
    if let Some(budget) = fields.given::<Object<_>>("budget") {
        grant.budget = budget.map(|Object(budget)| budget).unwrap_or_default();
    }
    if let Some(expires) = fields.given::<String>("expires") {
        grant.expires = expires.as_deref().and_then(time);
        if expires.is_some() && grant.expires.is_none() {
            fields.wrong(
                "expires",
                "must be a date such as `2027-01-31` or a time such as `2027-01-31T12:00:00Z`",
            );
        }
        if grant.expires.is_some_and(|end| end <= Timestamp::now()) {
            fields.wrong("expires", "is past; `DELETE` revokes a key");
        }
    }
}
