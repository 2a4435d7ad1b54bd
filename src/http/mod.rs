//! Bytes to types and back: the only folder that knows HTTP's server side.
pub mod admin;
pub mod answer;
pub mod anthropic;
mod app;
pub mod audit;
pub mod auth;
mod body;
pub mod budgets;
pub mod compat;
pub mod docs;
pub mod edge;
#[cfg(test)]
mod encoder_tests;
pub mod error;
pub mod explain;
pub mod feedback;
pub mod fields;
mod follow;
mod forms;
mod head;
pub mod health;
mod host;
mod idempotency;
pub mod inbound;
mod json;
mod limits;
pub mod openai;
#[cfg(test)]
mod parse_tests;
pub mod predict;
pub mod query;
mod read;
mod resume;
pub mod review;
pub mod routes;
pub mod server;
pub mod sessions;
pub mod settings;
pub mod simulate;
pub mod sse;
pub mod stream;
pub mod summary;
mod values;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    body::Body,
    response::Response,
    routing::{get, post},
};
use http::{HeaderValue, Request, header};
use tower_http::cors::CorsLayer;

pub use app::{App, Lasting, Running};
pub use edge::Edge;

use crate::{caller::Caller, error::Error};
use error::Shape;
use inbound::Arrival;

/// Every route, once.
pub fn router(app: &App) -> Edge {
    let mut router = Router::new()
        .route("/query", post(query::post))
        .route("/stream", post(stream::any).get(stream::any))
        .route("/predict", post(predict::post))
        .route("/v1/chat/completions", post(compat::chat))
        .route("/v1/embeddings", post(compat::embeddings))
        .route("/v1/messages", post(compat::messages))
        .route("/v1/responses", post(compat::responses))
        .route("/v1/models", get(compat::models))
        .route("/v1/models/{*id}", get(compat::model))
        .route("/admin/keys", get(admin::list).post(admin::create))
        .route("/admin/keys/{id}", get(admin::one).patch(admin::change).delete(admin::revoke))
        .route("/admin/simulate", post(simulate::post))
        .route("/feedback", post(feedback::post))
        .route("/review", get(review::list))
        .route("/review/{id}", get(review::one).post(review::decide))
        .route("/sessions/{id}", get(sessions::get).delete(sessions::delete))
        .route("/summary", get(summary::get))
        .route("/audit/{request_id}", get(audit::get))
        .route("/admin/erasures", post(audit::erase))
        .route("/admin/budgets", get(budgets::get))
        .route("/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page));
    if app.running().server.metrics_listen.is_none() {
        router = router.route("/metrics", get(health::metrics));
    }
    routed(router, app)
}

/// The routes of the metrics' own port.
pub fn metrics_router(app: &App) -> Edge {
    let router = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready));
    routed(router, app)
}

/// The routes with what is said where none fits.
fn routed(router: Router<App>, app: &App) -> Edge {
    let router = router.fallback(nothing_here).method_not_allowed_fallback(wrong_method);
    let cors = cors(&app.running().server.cors.origins);
    Edge::new(app, router.with_state(app.clone()), cors)
}

/// A request as a refusal of it names it.
pub(crate) struct Asked {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// Who it is from, as soon as that is known.
    pub(crate) known: Arc<OnceLock<Caller>>,
}

/// The id and the path template of a request.
pub(crate) fn identity(request: &Request<Body>) -> (Asked, &'static str) {
    let arrival = request.extensions().get::<Arrival>();
    let asked = || Asked { id: inbound::id(request.headers()), known: Arc::default() };
    let id =
        arrival.map_or_else(asked, |arrival| Asked { id: arrival.id.clone(), known: arrival.known.clone() });
    let path = request.uri().path();
    // Templates are few and fixed: so are the label's values.
    (id, routes::find(path).map_or("other", |route| route.template))
}

/// A refusal at the edge: counted, recorded and rendered.
pub(crate) fn respond_error(
    app: &App,
    error: &Error,
    shape: Shape,
    asked: &Asked,
    endpoint: &'static str,
) -> Response {
    match app.refused(error, error::status(error, shape).as_u16(), asked, endpoint) {
        Ok(ticket) => {
            let mut response = error::response(error, shape, &asked.id);
            response.extensions_mut().insert(ticket);
            response
        }
        Err(away) => error::response(&away, shape, &asked.id),
    }
}

async fn nothing_here(request: Request<Body>) -> Response {
    routing_error(&Error::NotFound, &request)
}

async fn wrong_method(request: Request<Body>) -> Response {
    routing_error(&Error::MethodNotAllowed, &request)
}

fn routing_error(error: &Error, request: &Request<Body>) -> Response {
    let anthropic = request.headers().contains_key(&answer::names::ANTHROPIC_VERSION);
    error::response(error, Shape::of(request.uri().path(), anthropic), &identity(request).0.id)
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new().allow_methods([http::Method::GET, http::Method::POST]).allow_headers([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        http::HeaderName::from_static("x-api-key"),
        http::HeaderName::from_static("x-request-id"),
        http::HeaderName::from_static("x-user-id"),
        http::HeaderName::from_static("x-priority"),
        http::HeaderName::from_static("x-sluice-explain"),
        http::HeaderName::from_static("x-request-timeout-ms"),
        http::HeaderName::from_static("idempotency-key"),
        http::HeaderName::from_static("last-event-id"),
        http::HeaderName::from_static("x-sluice-resume"),
    ]);
    let exposed = limits::NAMES.iter().copied().chain([
        "x-request-id",
        "x-session-history",
        "retry-after",
        "idempotency-replayed",
    ]);
    let layer = layer.expose_headers(exposed.map(http::HeaderName::from_static).collect::<Vec<_>>());
    if origins.iter().any(|origin| origin == "*") {
        return Some(layer.allow_origin(tower_http::cors::Any));
    }
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    Some(layer.allow_origin(origins.collect::<Vec<_>>()))
}
