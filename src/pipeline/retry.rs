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
    error::{Error, Result},
    observe::Metrics,
    reply::Reply,
    route::{AttemptBudget, Table},
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
    /// Has the breaker of each target, which may have had enough.
    pub table: Arc<Table>,
    /// Where retries are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Retry {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        self.budget.deposit(call.context.began);
        let (mut attempt, mut before) = (1, None);
        loop {
            let error = match (next.call(call.clone()).await, before.take()) {
                (Ok(reply), _) => return Ok(reply),
                // Others had it opened meanwhile. What the target said tells a caller more.
                (Err(Error::CircuitOpen { .. }), Some(before)) => return Err(before),
                (Err(error), _) => error,
            };
            if !error.facts().retry || attempt >= self.settings.attempts {
                return Err(error);
            }
            let wait = self.wait(attempt, error.upstream_wait(), call.others);
            let wait =
                wait.filter(|wait| *wait < call.context.time_left() && !self.is_open_for(&call, *wait));
            let Some(wait) = wait else { return Err(error) };
            if !self.budget.withdraw(Instant::now()) {
                self.metrics.retries_denied.inc();
                return Err(error);
            }
            tracing::debug!(request_id = %call.context.id, attempt, code = error.facts().code, "trying again");
            tokio::time::sleep(wait).await;
            self.metrics.retries.inc();
            (attempt, before) = (attempt + 1, Some(error));
        }
    }
}

impl Retry {
    /// Whether the target's breaker lets nothing through until after that.
    fn is_open_for(&self, call: &Call, wait: Duration) -> bool {
        let row = call.target.as_ref().and_then(|target| self.table.row_of(target));
        row.and_then(|row| row.breaker.open_for()).is_some_and(|left| left > wait)
    }

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
