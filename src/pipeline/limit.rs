//! Refuses calls over a request limit, and tells when to come back.
use std::sync::Arc;

use crate::{
    call::Call,
    error::{Error, Result},
    limit::Limits,
    observe::Metrics,
    reply::Reply,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct RateLimit {
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for RateLimit {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let verdict = self.limits.check(&call.context.caller);
        call.trail().note(|notes| notes.limit = verdict.tightest);
        if let Some((scope, retry_after)) = verdict.refused {
            self.metrics.limited.with_label_values(&[scope]).inc();
            return Err(Error::RateLimited { scope, retry_after });
        }
        next.call(call).await
    }
}
