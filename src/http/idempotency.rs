//! `Idempotency-Key`: a request that comes again gets the first reply.
//!
//! In front of every route, so that none can be without it. A request that has
//! no such header passes by.
use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, response::Response, routing::future::RouteFuture};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tower::{Service, ServiceExt};

use super::{
    App, Asked,
    answer::names,
    error::Shape,
    follow::{self, Written},
    inbound::{self, Arrival},
    respond_error, routes,
};
use crate::{
    call::Trail,
    error::{Error, Result},
    replay::{
        recording::Recording,
        replies::{Claim, Found, Reply},
        room::Budget,
    },
};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest key, in characters.
const LONGEST: usize = 255;
/// When to ask again whether the first request has its reply.
const SHORTLY: Duration = Duration::from_secs(1);

/// The routes, and what is kept in front of them.
#[derive(Clone)]
pub(super) struct Routes {
    pub(super) app: App,
    pub(super) router: Router,
}

impl Service<Request<Body>> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let heeded = request.method() == Method::POST
            && request.headers().contains_key(&IDEMPOTENCY_KEY)
            && self.app.replay().replies.is_some();
        if heeded {
            let (app, router) = (self.app.clone(), self.router.clone());
            return Either::Right(Box::pin(async move { Ok(answer(app, router, request).await) }));
        }
        Either::Left(self.router.call(request))
    }
}

async fn answer(app: App, router: Router, request: Request<Body>) -> Response {
    let (id, path) = super::identity(&request);
    let anthropic = request.headers().contains_key(&names::ANTHROPIC_VERSION);
    let shape = Shape::of(request.uri().path(), anthropic);
    match once(&app, router, request, &id, path).await {
        Ok(response) => response,
        Err(error) => respond_error(&app, &error, shape, &id, path),
    }
}

/// The key, if it can be one.
fn key(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let key = values.next().and_then(|value| value.to_str().ok());
    let sane =
        |key: &&str| (1..=LONGEST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match (key.filter(sane), values.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(Error::BadIdempotencyKey),
    }
}

/// Answers a request, or gives the reply that it had.
async fn once(
    app: &App,
    router: Router,
    request: Request<Body>,
    asked: &Asked,
    endpoint: &'static str,
) -> Result<Response> {
    let Some(replies) = app.replay().replies.clone() else { return Err(Error::BadIdempotencyKey) };
    let (mut parts, body) = request.into_parts();
    let caller = inbound::caller(app, &parts)?;
    let key = key(&parts.headers)?;
    let body = inbound::whole(app, &parts.headers, body).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = (parts.method.as_str(), path, &*body);
    let claimed = replies.asked(&caller, &inbound::shown(&parts), key, request);
    let claim = match replies.claim(claimed).await {
        Found::Nothing(claim) => *claim,
        Found::Running => return Err(Error::IdempotencyKeyInUse { retry_after: SHORTLY }),
        Found::Other => return Err(Error::IdempotencyKeyReused),
        Found::Kept(reply) => {
            let mut response = replayed(&reply);
            if routes::asks(endpoint) {
                let first = response.headers().get(&names::X_REQUEST_ID);
                let first = first.and_then(|id| id.to_str().ok()).unwrap_or_default();
                let ticket = app.replayed(first, reply.status, asked, endpoint)?;
                response.extensions_mut().insert(ticket);
            }
            return Ok(response);
        }
    };
    let trail = Trail::default();
    let mut id = "".into();
    if let Some(arrival) = parts.extensions.get_mut::<Arrival>() {
        arrival.trail = Some(trail.clone());
        id = arrival.id.clone();
    }
    let first = First {
        claim,
        trail,
        id,
        most: replies.max_reply,
        grace: app.replay().grace,
        keep_alive: app.running().server.keep_alive.0,
    };
    let request = Request::from_parts(parts, Body::from(body));
    let (sender, receiver) = oneshot::channel();
    // A task of its own: it goes on when the client leaves, so that the repeat finds a reply.
    app.replay().spawn(first.answer(router, request, sender));
    match receiver.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::internal("the task that answers has gone")),
    }
}

/// A request that is answered for the first time.
struct First {
    claim: Claim,
    trail: Trail,
    id: Arc<str>,
    most: usize,
    grace: Duration,
    keep_alive: Duration,
}

type Waiting = oneshot::Sender<Result<Response, Box<dyn std::any::Any + Send>>>;

impl First {
    async fn answer(self, router: Router, request: Request<Body>, waiting: Waiting) {
        let answered = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                // Who waits catches it: to the client it looks as it always does.
                let _ = waiting.send(Err(panic));
                return;
            }
        };
        if response.body().size_hint().exact().is_some() {
            self.whole(response, waiting).await;
        } else {
            self.streamed(response, waiting).await;
        }
    }

    /// Keeps a whole reply, then gives it.
    async fn whole(self, response: Response, waiting: Waiting) {
        let (parts, body) = response.into_parts();
        // A body of a known size is in memory already.
        let Ok(body) = body.collect().await else { return };
        let body = body.to_bytes();
        if self.is_final(parts.status, &parts.headers) && body.len() <= self.most {
            let headers = self.headers(&parts.headers);
            let reply = Reply { status: parts.status.as_u16(), headers, body: body.clone() };
            let user = self.trail.note(|notes| notes.user.clone());
            self.claim.keep(reply, user.as_deref()).await;
        } else {
            self.claim.pass();
        }
        let _ = waiting.send(Ok(Response::from_parts(parts, Body::from(body))));
    }

    /// Gives a stream as it comes, and keeps it before its last piece is given.
    async fn streamed(self, response: Response, waiting: Waiting) {
        let (parts, body) = response.into_parts();
        // The room is its own: what is kept is bounded, and so is what is under way.
        let recording = Arc::new(Recording::new(self.most, Budget::new(usize::MAX).share(), true));
        let reader = recording.read(0);
        let headers = self.headers(&parts.headers);
        let response = Response::from_parts(parts, follow::following(reader, self.keep_alive));
        let (status, mut size) = (response.status(), 0);
        if waiting.send(Ok(response)).is_err() {
            tracing::debug!("the client left before the first token");
        }
        let write = |piece: &[u8]| {
            recording.append(piece);
            size += piece.len();
            // What nobody reads and what cannot be kept need not be said.
            size <= self.most || recording.has_readers()
        };
        let abandoned = recording.abandoned(self.grace);
        match follow::drive(body, &recording, abandoned, write).await {
            Written::Abandoned => self.claim.pass(),
            Written::Over(last) => {
                let whole = recording.whole().filter(|said| said.len() + last.len() <= self.most);
                match whole.filter(|_| self.is_final(status, &HeaderMap::new())) {
                    Some(said) => {
                        let body = [said, last.clone()].concat().into();
                        let user = self.trail.note(|notes| notes.user.clone());
                        let reply = Reply { status: status.as_u16(), headers, body };
                        self.claim.keep(reply, user.as_deref()).await;
                    }
                    None => self.claim.pass(),
                }
                recording.append(&last);
            }
        }
        recording.finish();
    }

    /// Whether a repeat may get this reply: what a further attempt could better is not kept.
    fn is_final(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        // A new key is shown once, and is stored nowhere.
        if headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "no-store") {
            return false;
        }
        let (outcome, stood_in) = self.trail.note(|notes| (notes.outcome, notes.stood_in));
        if stood_in {
            return false;
        }
        if status.is_success() {
            // A stream that broke off has a good status all the same.
            return outcome.is_none_or(|outcome| outcome == "complete");
        }
        // What was refused before it reached the pipeline costs nothing to refuse again.
        headers.contains_key(&names::X_CACHE) && matches!(status.as_u16(), 400 | 404 | 413 | 422)
    }

    /// The headers that speak of the answer, and not of the moment or of the connection.
    fn headers(&self, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let of_the_moment = |name: &HeaderName| {
            let name = name.as_str();
            name.starts_with("x-ratelimit-")
                || matches!(
                    name,
                    "ratelimit"
                        | "ratelimit-policy"
                        | "connection"
                        | "content-length"
                        | "date"
                        | "set-cookie"
                )
                || name.starts_with("retry-after")
        };
        let kept = headers.iter().filter(|(name, _)| !of_the_moment(name));
        let mut kept: Vec<_> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        // The body may name it, too.
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            kept.push((names::X_REQUEST_ID.clone(), id));
        }
        kept
    }
}

/// A kept reply, once more.
fn replayed(reply: &Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body.clone()));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.extend(reply.headers.iter().cloned());
    headers.insert(&REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sane_and_comes_once() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            key(&headers).map(str::to_owned).ok()
        };
        assert_eq!(of(&[b"8e03978e-40d5-43dd-bc93-6894a57f9324"]).unwrap().len(), 36);
        assert_eq!(of(&[&[b'x'; 255]]).unwrap().len(), 255);
        for bad in [&b""[..], b"a b", b"\xe9", &[b'x'; 256]] {
            assert_eq!(of(&[bad]), None);
        }
        assert_eq!(of(&[b"a", b"a"]), None);
    }
}
