//! Finds who is to answer, and asks the next one when one fails. Below this
//! stage a call has one target.
//!
//! Before the first content, the next one is simply asked. After it, where the
//! route allows it, the next one is asked to go on from the text already sent
//! (see [`continuing`]).
mod continuing;
mod hedging;

use std::sync::Arc;

use continuing::Continuing;
use hedging::Asked;
pub use hedging::Hedging;
use serde_json::json;

use crate::{
    call::{Call, Target, Uncounted},
    chat::Usage,
    error::{Error, Result},
    observe::Metrics,
    provider::continuation::{self, Prefill},
    reply::Reply,
    route::{Naming, Table},
    stage::{Answer, Next, Stage},
};

/// The stage.
pub struct Fallback {
    /// The routes.
    pub table: Arc<Table>,
    /// What is known of the name of a model that no route has.
    pub naming: Arc<dyn Fn(&str) -> Naming + Send + Sync>,
    /// Asks two where the first is late.
    pub hedging: Hedging,
    /// What it takes to go on with an answer that broke off.
    pub going_on: Arc<GoingOn>,
    /// Where changes of target are counted.
    pub metrics: Arc<Metrics>,
}

/// What a target makes of the beginning of an answer.
pub type Takes = dyn Fn(&Target) -> Option<Prefill> + Send + Sync;
/// Prices what an attempt took and writes it down.
pub type Bill = dyn Fn(&Uncounted, Usage) -> Usage + Send + Sync;

/// What it takes to go on with an answer that broke off.
pub struct GoingOn {
    /// How often, for one answer.
    pub most: u32,
    /// What a target makes of the beginning of an answer; nothing where it cannot go on.
    pub prefill: Arc<Takes>,
    /// Prices what an attempt took and writes it down.
    pub bill: Arc<Bill>,
    /// Where continuations are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Fallback {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let caller = &call.context.caller;
        let (model, sticky) = (&call.chat.model, caller.user.as_deref());
        let chain = self.table.chain(model, sticky, call.chat.stream, &*self.naming);
        let chain = chain.ok_or_else(|| Error::UnknownModel(model.clone()))?;
        call.context.explain(
            "fallback",
            || json!({"route": self.table.canonical(model), "targets": self.table.explained(&chain)}),
        );
        let mut failed: Option<Error> = None;
        let mut index = 0;
        while index < chain.len() {
            self.turn_to(&call, &chain, index);
            let (answered, asked) = self.hedging.ask(&call, &chain[index..], next).await;
            if asked == Asked::Second {
                index += 1;
                self.turn_to(&call, &chain, index);
            }
            let others = &chain[index + 1..];
            let error = match answered {
                Ok(reply) if others.is_empty() || !call.chat.stream => return Ok(reply),
                Ok(reply) => return Ok(self.stand_by(reply, call, others, next)),
                Err(error) => error,
            };
            call.context.explain("fallback", || {
                let next = error.facts().failover && !others.is_empty();
                json!({
                    "failed": format!("{}/{}", chain[index].provider, chain[index].model),
                    "error": error.facts().code,
                    "then": if next { "the next target is asked" } else { "no other target is asked" },
                })
            });
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
            // Of two that were asked neither is asked again.
            index += 1 + usize::from(asked == Asked::First);
        }
        Err(failed.unwrap_or_else(|| Error::UnknownModel(call.chat.model.clone())))
    }
}

impl Fallback {
    /// Notes who is asked.
    fn turn_to(&self, call: &Call, chain: &[Arc<Target>], index: usize) {
        call.trail().note(|notes| {
            notes.fell_back = index > 0;
            notes.target = Some(chain[index].clone());
        });
        if index > 0 {
            self.metrics.fallbacks.inc();
        }
    }

    /// Keeps the others ready to go on with a streamed answer, where that is allowed and can be right.
    fn stand_by<S: Answer>(
        &self,
        reply: Reply,
        call: Call,
        others: &[Arc<Target>],
        next: Next<'_, S>,
    ) -> Reply {
        let route = self.table.continues(&call.chat.model).filter(|_| self.going_on.most > 0);
        match route.filter(|_| continuation::possible(&call.chat)) {
            None => reply,
            Some(route) => {
                let (route, others) = (route.clone(), others.iter().cloned().collect());
                reply.rescued(Continuing::new(next.kept(), call, route, others, self.going_on.clone()))
            }
        }
    }
}
