//! A step of the pipeline, written as one async function around the rest.
//!
//! [`Stage`] is the one clever trait of this code. A stage is given the call
//! and the rest of the pipeline; it may change the call, refuse it, ask the
//! rest several times, and watch or change the reply. [`stage`] makes a tower
//! layer of it. Stages call each other without boxes between them: the whole
//! stack is one future, boxed once where it is a tower service.
use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::{Layer, Service, util::BoxCloneSyncService};

use crate::{
    call::Call,
    error::{Error, Result},
    reply::Reply,
};

/// Whatever answers calls: a stage with all that is below it, or the innermost service.
pub trait Answer: Send + Sync + 'static {
    /// Answers, or fails.
    fn answer(&self, call: Call) -> impl Future<Output = Result<Reply>> + Send;
}

/// A function answers, too: as a stand-in for all that is below a stage.
impl<F, Fut> Answer for F
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send,
{
    fn answer(&self, call: Call) -> impl Future<Output = Result<Reply>> + Send {
        self(call)
    }
}

/// The whole pipeline: a call in, a reply or an error out.
pub type Pipeline = BoxCloneSyncService<Call, Reply, Error>;

/// A step of the pipeline.
pub trait Stage: Send + Sync + 'static {
    /// Answers the call, as a rule by asking `next`.
    fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> impl Future<Output = Result<Reply>> + Send;
}

/// The rest of the pipeline. May be called any number of times, so that
/// retry and failover are plain loops.
#[derive(Debug)]
pub struct Next<'a, S>(&'a Arc<S>);

impl<S> Clone for Next<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Next<'_, S> {}

impl<S: Answer> Next<'_, S> {
    /// Asks the rest of the pipeline.
    pub async fn call(self, call: Call) -> Result<Reply> {
        self.0.answer(call).await
    }

    /// The same, for a reply that may ask again after the stage is done.
    pub fn kept(self) -> Rest<S> {
        Rest(self.0.clone())
    }
}

/// The rest of the pipeline, for as long as it is needed.
#[derive(Debug)]
pub struct Rest<S>(Arc<S>);

impl<S: Answer> Rest<S> {
    /// Asks the rest of the pipeline.
    pub fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply>> {
        let rest = self.0.clone();
        Box::pin(async move { rest.answer(call).await })
    }
}

/// Makes a tower layer of a stage.
pub fn stage<T: Stage>(stage: T) -> StageLayer<T> {
    StageLayer(Arc::new(stage))
}

/// The layer that [`stage`] makes.
#[derive(Debug)]
pub struct StageLayer<T>(Arc<T>);

impl<T: Stage, S: Answer> Layer<S> for StageLayer<T> {
    type Service = Staged<T, S>;
    fn layer(&self, inner: S) -> Staged<T, S> {
        Staged(self.0.clone(), Arc::new(inner))
    }
}

/// A stage around the rest of the pipeline.
#[derive(Debug)]
pub struct Staged<T, S>(Arc<T>, Arc<S>);

impl<T, S> Clone for Staged<T, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<T: Stage, S: Answer> Answer for Staged<T, S> {
    fn answer(&self, call: Call) -> impl Future<Output = Result<Reply>> + Send {
        self.0.run(call, Next(&self.1))
    }
}

impl<T: Stage, S: Answer> Service<Call> for Staged<T, S> {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    /// Always ready: a stage that sheds load says so in `run`, where it can answer.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let shared = self.clone();
        Box::pin(async move { shared.answer(call).await })
    }
}
