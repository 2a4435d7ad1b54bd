//! The innermost service: asks the target's provider.
use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::{
    call::Call,
    error::{Error, Result},
    provider::Provider,
    reply::Reply,
};

/// The innermost service.
#[derive(Clone)]
pub struct Dispatch {
    /// The providers by their configured names.
    pub providers: Arc<HashMap<Arc<str>, Arc<dyn Provider>>>,
}

impl Service<Call> for Dispatch {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let found = call
            .target
            .clone()
            .and_then(|target| Some((self.providers.get(&target.provider)?.clone(), target)));
        Box::pin(async move {
            let (provider, target) = found.ok_or_else(|| Error::UnknownModel(call.chat.model.clone()))?;
            // The line between what may be retried and what may not: see `Reply::primed`.
            provider.answer(&call, &target).await?.primed().await
        })
    }
}
