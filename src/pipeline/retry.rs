//! Tries the same target again when a failure may pass.
//!
//! Waits are random below an exponentially growing bound ("full jitter"); a
//! wait that the provider asks for is kept to, or not waited for at all.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::settings::Retry as Settings;
use crate::{
    call::Call,
    error::Result,
    observe::Metrics,
    reply::Reply,
    route::AttemptBudget,
    stage::{Answer, Next, Stage},
};

/// A longer wait than this is not waited for where another target can answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The stage.
#[derive(Debug)]
pub struct Retry {
    /// How often, and how soon.
    pub settings: Settings,
    /// Bounds all retries together.
    pub budget: Arc<AttemptBudget>,
    /// Where retries are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Retry {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        self.budget.deposit(call.context.began);
        let mut attempt = 1;
        loop {
            let error = match next.call(call.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if !error.facts().retry || attempt >= self.settings.attempts {
                return Err(error);
            }
            let wait = self.wait(attempt, error.upstream_wait(), call.others);
            let Some(wait) = wait.filter(|wait| *wait < call.context.time_left()) else { return Err(error) };
            if !self.budget.withdraw(Instant::now()) {
                self.metrics.retries_denied.inc();
                return Err(error);
            }
            tracing::debug!(request_id = %call.context.id, attempt, code = error.facts().code, "trying again");
            tokio::time::sleep(wait).await;
            self.metrics.retries.inc();
            attempt += 1;
        }
    }
}

impl Retry {
    /// How long to wait after the `attempt`th failure; `None` is longer than is waited for.
    fn wait(&self, attempt: u32, asked: Option<Duration>, others: bool) -> Option<Duration> {
        let cap = self.settings.cap.0;
        let bound = self.settings.base.0.saturating_mul(1 << (attempt - 1).min(16)).min(cap);
        let jitter = bound.mul_f64(rand::random::<f64>());
        match asked {
            Some(asked) if asked > cap || (others && asked > PATIENCE) => None,
            // A little on top, so that all who were told the same do not come back at once.
            Some(asked) => Some(asked + jitter.min(asked / 10)),
            None => Some(jitter),
        }
    }
}
