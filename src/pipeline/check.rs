//! Checks what a model writes before it leaves: text, thoughts, refusals and
//! tool arguments alike, also where a finding spans two pieces.
//!
//! A whole answer is masked or replaced. A stream is held back only where a
//! match may be under way; with no finding, what leaves is byte for byte what
//! came. How that is done is told in `guard/hold.rs`.
use std::sync::Arc;

use serde_json::json;

use crate::{
    call::{Call, Trail},
    chat::Purpose,
    error::Result,
    guard::{
        hold::{Act, Found, Guard, Judging, Told},
        pii::{Answers, Pii},
    },
    observe::Metrics,
    reply::Reply,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct CheckOutput {
    /// Personal data and secrets.
    pub pii: Arc<Pii>,
    /// Where findings are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for CheckOutput {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        if matches!(call.chat.purpose, Purpose::Embed { .. }) {
            // Vectors are no text.
            return next.call(call).await;
        }
        let guards = self.guards(&call);
        if guards.is_empty() {
            return next.call(call).await;
        }
        call.context.explain("check", || json!({"pii": self.pii.output_modes()}));
        let (whole, told) = (!call.chat.stream, told(self.metrics.clone(), call.trail().clone()));
        Ok(next.call(call).await?.rewrite(Judging::new(guards, whole, false, told)))
    }
}

impl CheckOutput {
    /// The rules for the answer to this call.
    fn guards(&self, call: &Call) -> Arc<[Arc<dyn Guard>]> {
        Answers::rules(&self.pii, &call.chat, call.trail()).collect()
    }
}

/// Counts what is found, and notes it.
fn told(metrics: Arc<Metrics>, trail: Trail) -> Told {
    Box::new(move |guard: &dyn Guard, found: &Found| {
        metrics.guards.with_label_values(&[guard.name(), &found.what, found.act.name()]).inc();
        let filtered = found.act == Act::Block;
        trail.note(|notes| {
            notes.found(guard.name(), &found.what, found.act.name(), 1);
            if filtered {
                notes.filtered = Some(found.what.clone());
            }
        });
    })
}
