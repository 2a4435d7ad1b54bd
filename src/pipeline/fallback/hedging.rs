//! A first token that is late: the next target is asked as well, and who
//! begins first is heard.
//!
//! After Dean and Barroso, "The Tail at Scale"
//! (<https://research.google/pubs/the-tail-at-scale/>). The other one is dropped
//! at once, and what it has read and written by then is counted and paid for.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{self, Either};

use crate::{
    call::{Call, Target},
    error::Result,
    observe::Metrics,
    reply::Reply,
    route::{AttemptBudget, HedgeSettings, Table},
    stage::{Answer, Next},
};

/// Asks two targets where the first is late.
#[derive(Debug)]
pub struct Hedging {
    /// When, and how often at most.
    pub settings: HedgeSettings,
    /// Bounds the second attempts of all calls.
    pub budget: Arc<AttemptBudget>,
    /// Knows how soon targets begin as a rule.
    pub table: Arc<Table>,
    /// Where second attempts are counted.
    pub metrics: Arc<Metrics>,
}

/// Whose answer it is, of the two that may have been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The first one's; nobody else was asked.
    One,
    /// The first one's; the second was asked, too.
    First,
    /// The second one's.
    Second,
}

impl Hedging {
    /// Asks the first of `targets`, and the second as well if it is late.
    /// An error is that of the last to fail.
    pub(super) async fn ask<S: Answer>(
        &self,
        call: &Call,
        targets: &[Arc<Target>],
        next: Next<'_, S>,
    ) -> (Result<Reply>, Asked) {
        let to = |at: usize| {
            let others = at + 1 < targets.len();
            Call { target: targets.get(at).cloned(), others, ..call.clone() }
        };
        let Some(patience) = self.patience(call, targets) else {
            return (next.call(to(0)).await, Asked::One);
        };
        let first = Box::pin(next.call(to(0)));
        let late = Box::pin(tokio::time::sleep(patience));
        let first = match future::select(first, late).await {
            Either::Left((answered, _)) => return (answered, Asked::One),
            Either::Right(((), first)) => first,
        };
        if !self.budget.withdraw(Instant::now()) {
            self.count(call, "denied");
            return (first.await, Asked::One);
        }
        let second = Box::pin(next.call(to(1)));
        // An error wins nothing as long as the other one may still answer.
        let (answered, asked) = match future::select(first, second).await {
            Either::Left((Err(_), second)) => (second.await, Asked::Second),
            Either::Left((answered, _)) => (answered, Asked::First),
            Either::Right((Err(_), first)) => (first.await, Asked::First),
            Either::Right((answered, _)) => (answered, Asked::Second),
        };
        self.count(call, if asked == Asked::Second && answered.is_ok() { "won" } else { "lost" });
        (answered, asked)
    }

    /// How long the first one is waited for before the second is asked; `None`: it is not.
    fn patience(&self, call: &Call, targets: &[Arc<Target>]) -> Option<Duration> {
        if !self.settings.enabled || !call.chat.stream || targets.len() < 2 {
            return None;
        }
        self.budget.deposit(call.context.began);
        let p95 = self.table.row_of(&targets[0])?.vital.as_ref()?.p95()?;
        Some(p95.max(self.settings.min_delay.0))
    }

    fn count(&self, call: &Call, result: &str) {
        let model = &call.chat.model;
        // Only a configured name becomes a label.
        let route = if self.table.has(model) { self.table.canonical(model) } else { "other" };
        self.metrics.hedges.with_label_values(&[route, result]).inc();
    }
}
