//! Bytes to types and back: the only folder that knows HTTP's server side.
pub mod answer;
pub mod anthropic;
mod app;
pub mod auth;
pub mod compat;
pub mod docs;
pub mod error;
pub mod fields;
pub mod health;
pub mod inbound;
mod json;
pub mod key;
pub mod openai;
#[cfg(test)]
mod parse_tests;
pub mod predict;
pub mod query;
mod read;
pub mod server;
pub mod settings;
pub mod sse;
pub mod stream;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, State},
    middleware::Next,
    response::Response,
    routing::{get, post},
};
use http::{HeaderValue, Request, header};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{NotForContentType, Predicate, SizeAbove},
    },
    cors::CorsLayer,
};

pub use app::{App, Running};

use crate::error::Error;
use error::Shape;
use inbound::RequestId;

/// Replies smaller than this are not worth compressing, in bytes.
const SMALL: u64 = 1024;

/// Every route, once.
pub fn router(app: &App) -> Router {
    let config = app.running().config.clone();
    let mut router = Router::new()
        .route("/query", post(query::post))
        .route("/stream", post(stream::any).get(stream::any))
        .route("/predict", post(predict::post))
        .route("/v1/chat/completions", post(compat::chat))
        .route("/v1/embeddings", post(compat::embeddings))
        .route("/v1/models", get(compat::models))
        .route("/v1/models/{*id}", get(compat::model))
        .route("/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page));
    if config.server.metrics_listen.is_none() {
        router = router.route("/metrics", get(health::metrics));
    }
    edge(router, app)
}

/// The routes of the metrics' own port.
pub fn metrics_router(app: &App) -> Router {
    let router = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready));
    edge(router, app)
}

/// What surrounds every route, from the outside in.
fn edge(router: Router<App>, app: &App) -> Router {
    let cors = cors(&app.running().config.server.cors.origins);
    let worth_it = SizeAbove::new(SMALL).and(NotForContentType::SSE).and(NotForContentType::IMAGES);
    let router = router
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(CompressionLayer::new().compress_when(worth_it))
        .layer(CatchPanicLayer::custom(panicked));
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(axum::middleware::from_fn_with_state(app.clone(), identified)).with_state(app.clone())
}

/// Gives the request its id, and every reply the headers that none goes without.
async fn identified(State(app): State<App>, mut request: Request<Body>, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let anthropic = request.uri().path().starts_with("/v1/messages");
    let mut response = if app.is_draining() && !is_probe(request.uri().path()) {
        let shape = Shape::of(request.uri().path(), request.headers().contains_key("anthropic-version"));
        error::response(&Error::Draining, shape, &id.0)
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        if anthropic {
            headers.insert("request-id", value.clone());
        }
        headers.insert("x-request-id", value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/livez" | "/readyz" | "/metrics")
}

/// The id and the path template of a request.
pub(crate) fn identity(request: &Request<Body>) -> (Arc<str>, &'static str) {
    let id = request
        .extensions()
        .get::<RequestId>()
        .map_or_else(|| RequestId::of(request.headers()).0, |id| id.0.clone());
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // Templates are few and fixed: the list here keeps the label's values so.
    let known = [
        "/query",
        "/stream",
        "/predict",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
    ];
    (id, known.into_iter().find(|known| *known == path).unwrap_or("other"))
}

/// A refusal at the edge: counted, recorded and rendered.
pub(crate) fn respond_error(
    app: &App,
    error: &Error,
    shape: Shape,
    id: &Arc<str>,
    endpoint: &'static str,
) -> Response {
    app.refused(error, error::status(error, shape).as_u16(), id, endpoint);
    error::response(error, shape, id)
}

async fn nothing_here(request: Request<Body>) -> Response {
    routing_error(&Error::NotFound, &request)
}

async fn wrong_method(request: Request<Body>) -> Response {
    routing_error(&Error::MethodNotAllowed, &request)
}

fn routing_error(error: &Error, request: &Request<Body>) -> Response {
    let anthropic = request.headers().contains_key("anthropic-version");
    error::response(error, Shape::of(request.uri().path(), anthropic), &identity(request).0)
}

fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    tracing::error!("a request handler panicked: {}", text.unwrap_or("no message"));
    error::response(&Error::internal("a request handler panicked"), Shape::Native, "")
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
        http::HeaderName::from_static("idempotency-key"),
        http::HeaderName::from_static("last-event-id"),
    ]);
    let layer = layer.expose_headers([
        http::HeaderName::from_static("x-request-id"),
        http::HeaderName::from_static("x-ratelimit-limit-requests"),
        http::HeaderName::from_static("x-ratelimit-remaining-requests"),
        http::HeaderName::from_static("x-ratelimit-reset-requests"),
        header::RETRY_AFTER,
    ]);
    if origins.iter().any(|origin| origin == "*") {
        return Some(layer.allow_origin(tower_http::cors::Any));
    }
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    Some(layer.allow_origin(origins.collect::<Vec<_>>()))
}
