//! `GET /admin/budgets`: what is spent, set aside and left of each budget.
use axum::{body::Body, extract::State, response::Response};
use http::{HeaderValue, Request as HttpRequest, header};
use serde::Serialize;

use super::{App, error::Shape, inbound, respond_error};
use crate::{
    budget::{Account, Scope, now_ms},
    caller::Caller,
    chat::Cost,
    error::{Error, Result},
};

/// The budgets of the caller's tenant.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Budgets {
    /// Each budget that something was spent of, or is set aside in, in its present day or month.
    pub budgets: Vec<Budget>,
}

/// One budget, in US dollars.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Budget {
    /// Whose: `key`, `user`, `tenant` or `global`.
    pub scope: &'static str,
    /// The key's id (its `account`, of a key made at run time), the user's or the tenant's name; empty for `global`.
    pub name: String,
    /// The tenant that it belongs to; null for `global`.
    pub tenant: Option<String>,
    /// `day` or `month`.
    pub period: &'static str,
    /// When it began, in RFC 3339.
    pub began_at: String,
    /// When it starts anew, in RFC 3339.
    pub resets_at: String,
    /// The most that may be spent.
    pub cap_usd: f64,
    /// Spent, `unsettled_usd` included.
    pub spent_usd: f64,
    /// Set aside for calls under way.
    pub reserved_usd: f64,
    /// Free to be set aside.
    pub left_usd: f64,
    /// Charged in full for calls whose cost nobody knows: the gateway ended while they were under way.
    pub unsettled_usd: f64,
}

impl Budget {
    fn of(account: &Account) -> Self {
        let (scope, name) = named(&account.name.scope);
        let at = |second| jiff::Timestamp::from_second(second).map(|at| at.to_string()).unwrap_or_default();
        let left = account.cap.saturating_sub(account.spent).saturating_sub(account.reserved);
        Self {
            scope,
            name: name.to_owned(),
            tenant: tenant_of(&account.name.scope).map(str::to_owned),
            period: account.name.period.name(),
            began_at: at(account.name.start),
            resets_at: at(account.end),
            cap_usd: Cost(account.cap).usd(),
            spent_usd: Cost(account.spent).usd(),
            reserved_usd: Cost(account.reserved).usd(),
            left_usd: Cost(left).usd(),
            unsettled_usd: Cost(account.unsettled).usd(),
        }
    }
}

fn named(scope: &Scope) -> (&'static str, &str) {
    match scope {
        Scope::Global => ("global", ""),
        Scope::Tenant(tenant) => ("tenant", tenant),
        Scope::Key(_, id) => ("key", id),
        Scope::User(_, user) => ("user", user),
    }
}

/// The endpoint.
pub async fn get(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    match listed(&app, request).await {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

async fn listed(app: &App, request: HttpRequest<Body>) -> Result<Vec<u8>> {
    let caller = inbound::caller(app, &request.into_parts().0)?;
    let now = (now_ms() / 1000) as i64;
    let mut accounts = app.ledger().accounts().await?;
    accounts.retain(|account| account.end > now && may_see(&caller, &account.name.scope));
    accounts.sort_by(|a, b| (&a.name.scope, a.name.period).cmp(&(&b.name.scope, b.name.period)));
    let budgets = accounts.iter().map(Budget::of).collect();
    serde_json::to_vec(&Budgets { budgets }).map_err(Error::internal)
}

/// A tenant sees its own, and who looks after all tenants sees all. What all spend together would tell
/// a tenant of the others: only who looks after all of them sees it, and the tenant `default`, which is
/// the operator's own and the only one where no tenant is named.
fn may_see(caller: &Caller, scope: &Scope) -> bool {
    match tenant_of(scope) {
        None => caller.rights.sees("default"),
        Some(tenant) => caller.rights.sees(tenant),
    }
}

fn tenant_of(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::Global => None,
        Scope::Tenant(tenant) | Scope::Key(tenant, _) | Scope::User(tenant, _) => Some(tenant),
    }
}

/// Shows the shares in the metrics. Users are no labels: their names are callers' words.
pub(super) async fn measure(app: &App) {
    let now = (now_ms() / 1000) as i64;
    // Where the books are away the last shares would be wrong, and none are shown.
    let accounts = app.ledger().accounts().await.unwrap_or_default();
    let ratio = &app.metrics().budget_ratio;
    ratio.reset();
    for account in accounts.iter().filter(|account| account.end > now && account.cap > 0) {
        let (scope, name) = named(&account.name.scope);
        if scope != "user" {
            let share = account.spent as f64 / account.cap as f64;
            ratio.with_label_values(&[scope, name, account.name.period.name()]).set(share);
        }
    }
}
