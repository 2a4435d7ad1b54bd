//! What surrounds every route: the request's id, panics caught, compression,
//! and the headers that no reply goes without.
//!
//! One plain service rather than a stack of layers: each of those would box a
//! future for every request, and most of them have nothing to do.
use std::{convert::Infallible, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use axum::{Router, body::Body, response::Response};
use futures_util::FutureExt;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use tower::{
    Layer, Service, ServiceExt,
    util::{Either, option_layer},
};
use tower_http::{
    compression::{
        Compression, CompressionLayer,
        predicate::{And, NotForContentType, Predicate, SizeAbove},
    },
    cors::{Cors, CorsLayer},
};

use super::{
    App,
    answer::names,
    error,
    error::Shape,
    host,
    idempotency::Routes,
    inbound::{self, Arrival},
    respond_error,
};
use crate::{audit::Ticket, error::Error, observe::panics};

/// Replies smaller than this are not worth compressing, in bytes.
const SMALL: u64 = 1024;

/// What other origins may do, where any may do something, around the routes.
type Front = Either<Cors<Routes>, Routes>;

type WorthIt = And<And<SizeAbove, NotForContentType>, NotForContentType>;

/// All routes, and what surrounds them. Cheap to clone.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    app: App,
    plain: Front,
    packed: Compression<Front, WorthIt>,
}

impl Edge {
    /// Surrounds the routes.
    pub fn new(app: &App, router: Router, cors: Option<CorsLayer>) -> Self {
        let front = option_layer(cors).layer(Routes { app: app.clone(), router });
        let worth_it = SizeAbove::new(SMALL).and(NotForContentType::SSE).and(NotForContentType::IMAGES);
        let layer = CompressionLayer::new().compress_when(worth_it);
        let packed = layer.layer(front.clone());
        Self(Arc::new(Inner { app: app.clone(), plain: front, packed }))
    }

    /// Answers a request.
    pub async fn answer(
        self,
        request: Request<Incoming>,
        address: SocketAddr,
    ) -> Result<Response, Infallible> {
        let id = inbound::id(request.headers());
        let path = request.uri().path();
        let anthropic = path.starts_with("/v1/messages");
        let shape = Shape::of(path, request.headers().contains_key(&names::ANTHROPIC_VERSION));
        let refused = self.0.app.is_draining() && !is_probe(path);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arrival {
            id: id.clone(),
            address,
            trail: None,
            known: Arc::default(),
        });
        let mut response = if let Err(error) = host::host(&request) {
            error::response(&error, shape, &id)
        } else if refused {
            self.draining(request, shape)
        } else {
            match AssertUnwindSafe(self.route(request)).catch_unwind().await {
                Ok(response) => response,
                Err(cause) => panicked(cause.as_ref(), shape, &id),
            }
        };
        // A refusal whose record has to be on the disk first.
        if let Some(ticket) = response.extensions_mut().remove::<Ticket>()
            && let Err(away) = ticket.wait().await
        {
            response = error::response(&away, shape, &id);
        }
        let headers = response.headers_mut();
        // An answer that is given once more has the id of the request that it was made for.
        let known = headers.get(&names::X_REQUEST_ID).cloned();
        if let Some(value) = known.or_else(|| HeaderValue::from_str(&id).ok()) {
            if anthropic {
                headers.insert(&names::REQUEST_ID, value.clone());
            }
            headers.insert(&names::X_REQUEST_ID, value);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(response)
    }

    /// Refuses a request that comes too late. Its record says whose it was.
    fn draining(&self, request: Request<Body>, shape: Shape) -> Response {
        let (asked, endpoint) = super::identity(&request);
        // Whoever it is, the answer is the same: only the record tells.
        let _ = inbound::caller(&self.0.app, &request.into_parts().0);
        respond_error(&self.0.app, &Error::Draining, shape, &asked, endpoint)
    }

    async fn route(&self, request: Request<Body>) -> Response {
        let accepts = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let answered = if accepts.is_some_and(takes_gzip) {
            let packed = self.0.packed.clone().oneshot(request).await;
            packed.map(|response| response.map(Body::new))
        } else {
            self.0.plain.clone().call(request).await
        };
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Whether a client takes gzip (RFC 9110, 12.5.3). Who takes nothing at all gets the reply as it is, as it has been paid for.
fn takes_gzip(accepts: &str) -> bool {
    accepts.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/livez" | "/readyz" | "/metrics")
}

fn panicked(cause: &(dyn std::any::Any + Send), shape: Shape, id: &str) -> Response {
    let told = format!("a request handler panicked: {}", panics::told(cause));
    error::response(&Error::internal(told), shape, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_packed_for_who_takes_it() {
        for taken in ["gzip", "br, GZIP;q=0.5", "gzip ; q=1", "deflate,gzip"] {
            assert!(takes_gzip(taken), "{taken}");
        }
        for not in ["", "br", "gzip;q=0", "gzip;q=0.0, identity;q=0", "gzip; q=0,*;q=0", "*;q=0"] {
            assert!(!takes_gzip(not), "{not}");
        }
    }
}
