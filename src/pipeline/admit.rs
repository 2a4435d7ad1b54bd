//! Bounds how many calls are under way, of one model and of all together.
//!
//! Whoever finds no place waits for one, more urgent calls first and tenants
//! in turn, or is refused with the time to come back. A place is held until
//! the answer has ended.
use std::sync::Arc;

use serde_json::json;

use crate::{
    admit::{Gate, Guest, Place, Reason, Refusal, Standing},
    call::Call,
    error::{Error, Result},
    observe::Metrics,
    reply::Reply,
    route::Table,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Admit {
    /// The places.
    pub gates: Standing,
    /// Knows the routes' other names.
    pub table: Arc<Table>,
    /// Where waits and refusals are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Admit {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        // The model's first: who waits for a slow model takes no place from the others.
        let among_its_own = match self.gates.of_model(&self.table, &call.chat.model) {
            Some(gate) => Some(self.place(gate, &call).await?),
            None => None,
        };
        let among_all = self.place(&self.gates.all, &call).await?;
        call.context.explain("admit", || {
            let view = |gate: &Arc<Gate>| gate.view();
            json!({
                "priority": call.context.priority.name(),
                "queued_ms": call.trail().notes().queued.as_millis() as u64,
                "time_left_ms": call.context.time_left().as_millis() as u64,
                "all": view(&self.gates.all),
                "model": self.gates.of_model(&self.table, &call.chat.model).map(view),
            })
        });
        Ok(next.call(call).await?.hold((among_all, among_its_own)))
    }
}

impl Admit {
    async fn place(&self, gate: &Arc<Gate>, call: &Call) -> Result<Place> {
        let context = &call.context;
        let guest = Guest {
            tenant: context.caller.tenant(),
            priority: context.priority,
            patience: self.gates.patience,
            deadline: context.deadline,
        };
        match gate.enter(guest).await {
            Ok((place, None)) => Ok(place),
            Ok((place, Some(waited))) => {
                let priority = context.priority.name();
                self.metrics.queue_wait.with_label_values(&[priority]).observe(waited.as_secs_f64());
                call.trail().note(|notes| notes.queued += waited);
                Ok(place)
            }
            Err(Refusal { reason, retry_after }) => {
                self.metrics.shed.with_label_values(&[reason.as_str(), context.priority.name()]).inc();
                Err(match reason {
                    Reason::Deadline => Error::DeadlineExceeded,
                    _ => Error::Overloaded { retry_after },
                })
            }
        }
    }
}
