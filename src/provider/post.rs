//! Sends JSON to an address of the operator's: for webhooks, and for judges of a call.
use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Full;

use super::connections::{Body, Connections};
use crate::{
    error::{Error, Result},
    settings::address,
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// An address that JSON is sent to.
#[derive(Debug)]
pub struct Post {
    uri: Uri,
    connections: Connections,
}

impl Post {
    /// The address. The error does not repeat it, as it may hold a secret.
    pub fn new(url: &str) -> Result<Self, String> {
        let uri = address(url)?;
        let connections = Connections::new(&uri, CONNECT);
        Ok(Self { uri, connections })
    }

    /// Sends a body, and tells the status of the answer.
    pub async fn send(&self, body: &Bytes, more: &HeaderMap) -> Result<StatusCode> {
        let answered = tokio::time::timeout(ANSWER, self.answer(body, more)).await;
        answered.map_err(|_| Error::Timeout { phase: "total" })?.map(|response| response.status())
    }

    /// Sends a body, and reads the answer: all of it within `wait`, of at most `most` bytes.
    pub async fn ask(
        &self,
        body: &Bytes,
        more: &HeaderMap,
        wait: Duration,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let read = async {
            let (head, mut body) = self.answer(body, more).await?.into_parts();
            let mut whole = Vec::new();
            while let Some(piece) = body.chunk().await? {
                if whole.len() + piece.len() > most {
                    return Err(Error::broken("its answer is too long"));
                }
                whole.extend_from_slice(&piece);
            }
            Ok((head.status, whole))
        };
        tokio::time::timeout(wait, read).await.map_err(|_| Error::Timeout { phase: "total" })?
    }

    async fn answer(&self, body: &Bytes, more: &HeaderMap) -> Result<Response<Body>> {
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = self.uri.clone();
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers
                .insert(USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
            headers.extend(more.clone());
            request
        };
        self.connections.send(request).await
    }
}
