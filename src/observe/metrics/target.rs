//! The metrics of one target, found once and kept.
use std::{sync::Arc, time::Duration};

use prometheus::{Histogram, IntCounter};

use super::Metrics;
use crate::{call::Target, chat::Usage};

/// The handles of one target, resolved once.
#[derive(Clone, Debug)]
pub struct ProviderMetrics {
    input: Histogram,
    output: Histogram,
    duration: Histogram,
    first_token: Histogram,
    succeeded: IntCounter,
    cost: prometheus::Counter,
    all: Arc<Metrics>,
    target: Arc<Target>,
}

impl Metrics {
    /// The handles of a target.
    pub fn of(self: &Arc<Self>, operation: &'static str, target: &Arc<Target>) -> ProviderMetrics {
        let labels = [operation, &target.provider, &target.label];
        let tokens = |kind| self.token_usage.with_label_values(&[labels[0], labels[1], labels[2], kind]);
        ProviderMetrics {
            input: tokens("input"),
            output: tokens("output"),
            duration: self.operation_duration.with_label_values(&labels),
            first_token: self.first_token.with_label_values(&labels),
            succeeded: self.attempts.with_label_values(&[labels[1], labels[2], "success"]),
            cost: self.cost.with_label_values(&[labels[1], labels[2]]),
            all: self.clone(),
            target: target.clone(),
        }
    }
}

impl ProviderMetrics {
    /// The first content has come.
    pub fn first_token(&self, after: Duration) {
        self.first_token.observe(after.as_secs_f64());
    }

    /// An attempt is over; `error` is the code of its failure.
    pub fn ended(&self, took: Duration, error: Option<&'static str>) {
        self.duration.observe(took.as_secs_f64());
        match error {
            None => self.succeeded.inc(),
            Some(code) => {
                self.all.model_errors.with_label_values(&[code]).inc();
                self.all.attempts.with_label_values(&[&self.target.provider, &self.target.label, code]).inc();
            }
        }
    }

    /// What a model call took is known.
    pub fn billed(&self, usage: &Usage) {
        self.input.observe(usage.input as f64);
        self.output.observe(usage.output as f64);
        self.all.tokens_in.inc_by(usage.input);
        self.all.tokens_out.inc_by(usage.output);
        self.cost.inc_by(usage.cost.unwrap_or_default().usd());
    }
}
