//! Finds who is to answer, and asks the next one when one fails. Below this
//! stage a call has one target.
use std::sync::Arc;

use crate::{
    call::Call,
    error::{Error, Result},
    observe::Metrics,
    reply::Reply,
    route::Table,
    stage::{Answer, Next, Stage},
};

/// The stage.
pub struct Fallback {
    /// The routes.
    pub table: Arc<Table>,
    /// Whether a model's name is configured, and so may be shown as a label.
    pub known: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Where changes of target are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Fallback {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let caller = &call.context.caller;
        let chain = self.table.chain(&call.chat.model, caller.user.as_deref(), &*self.known);
        let chain = chain.ok_or_else(|| Error::UnknownModel(call.chat.model.clone()))?;
        let mut failed: Option<Error> = None;
        for (index, target) in chain.iter().enumerate() {
            call.trail().note(|notes| {
                notes.fell_back = index > 0;
                notes.target = Some(target.clone());
            });
            if index > 0 {
                self.metrics.fallbacks.inc();
            }
            let others = index + 1 < chain.len();
            let error = match next.call(Call { target: Some(target.clone()), others, ..call.clone() }).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if !error.facts().failover || call.context.time_left().is_zero() {
                return Err(error);
            }
            // What a target itself said tells the caller more than that it was not asked.
            failed = match (failed, error) {
                (
                    Some(earlier),
                    Error::CircuitOpen { .. } | Error::ProviderFull { .. } | Error::Unsupported { .. },
                ) => Some(earlier),
                (_, error) => Some(error),
            };
        }
        Err(failed.unwrap_or_else(|| Error::UnknownModel(call.chat.model.clone())))
    }
}
