//! Bounds how many calls one provider is asked at the same time, where its
//! configuration says so, or where the bound follows its latency.
//!
//! While another target is left nobody waits here: that one is asked. The last
//! one is waited for, as places at the front door are.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    admit::{Guest, Reason, Refusal, Standing},
    call::Call,
    error::{Error, Result},
    observe::Metrics,
    reply::Reply,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Bulkhead {
    /// The places.
    pub gates: Standing,
    /// Where waits and refusals are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for Bulkhead {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let provider = call.target.as_ref().and_then(|target| self.gates.providers.get(&*target.provider));
        let Some(provider) = provider else { return next.call(call).await };
        let context = call.context.clone();
        let guest = Guest {
            tenant: context.caller.tenant(),
            priority: context.priority,
            patience: if call.others { Duration::ZERO } else { self.gates.patience },
            deadline: context.deadline,
        };
        let place = match provider.gate().enter(guest).await {
            Ok((place, waited)) => {
                if let Some(waited) = waited {
                    let priority = context.priority.name();
                    self.metrics.queue_wait.with_label_values(&[priority]).observe(waited.as_secs_f64());
                    context.trail.note(|notes| notes.queued += waited);
                }
                place
            }
            Err(Refusal { reason: Reason::Deadline, .. }) => return Err(Error::DeadlineExceeded),
            Err(Refusal { reason, retry_after }) => {
                // With a target left this is no refusal of the call.
                if !call.others {
                    self.metrics.shed.with_label_values(&[reason.as_str(), context.priority.name()]).inc();
                }
                return Err(Error::ProviderFull { retry_after });
            }
        };
        context.explain("bulkhead", || {
            let target = call.target.as_ref().map(|target| &*target.provider);
            json!({"provider": target, "places": provider.gate().view(), "adaptive": provider.follows()})
        });
        let began = provider.follows().then(Instant::now);
        let answered = next.call(call).await;
        if let Some(began) = began {
            match &answered {
                Ok(_) => provider.learn(began.elapsed(), false),
                Err(Error::UpstreamBusy { .. } | Error::Timeout { .. }) => {
                    provider.learn(began.elapsed(), true);
                }
                // Says nothing about how busy it is.
                Err(_) => {}
            }
        }
        Ok(answered?.hold(place))
    }
}
