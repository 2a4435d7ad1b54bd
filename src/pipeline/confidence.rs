//! An answer that too little in the documents speaks for is not given: a
//! stated one stands in, says so, and a person looks at what the model said.
//!
//! Outside the cache, whose answers are judged each time by the threshold in
//! force, and inside the session, which keeps no turn of it. How far an answer
//! can be relied on is known at its end: where documents were found for a
//! question, a stream becomes a whole answer first. All others pass by as they come.
use std::sync::Arc;

use serde_json::json;

use super::settings::Confidence;
use crate::{
    call::Call,
    chat::{Completion, Event, Mode, Purpose},
    error::Result,
    observe::Metrics,
    reply::{Origin, Reply},
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct ConfidenceGate {
    /// The threshold, and what is said below it.
    pub settings: Confidence,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for ConfidenceGate {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let least = self.settings.min;
        if least <= 0.0 || call.chat.mode == Mode::Chat || call.chat.purpose != Purpose::Chat {
            return next.call(call).await;
        }
        let context = call.context.clone();
        let reply = next.call(call).await?;
        // Found by now, if at all; of an answer from the cache, when it was made.
        let grounded = context.trail.note(|notes| notes.corpus_version.is_some());
        if !grounded {
            context.explain("confidence", || json!({"decision": "not judged", "why": "no documents"}));
            return Ok(reply);
        }
        let (mut head, done) = reply.collect().await?;
        let confidence = done.grounded.as_ref().map(|(_, confidence)| *confidence);
        let Some(confidence) = confidence.filter(|confidence| *confidence < least) else {
            context.explain("confidence", || json!({"decision": "given", "confidence": confidence}));
            return Ok(Reply::whole(head, done));
        };
        context.explain("confidence", || json!({"decision": "withheld", "confidence": confidence}));
        self.metrics.guards.with_label_values(&["confidence", "low", "fallback"]).inc();
        context.trail.note(|notes| {
            notes.withheld = Some(done.text().into());
            notes.stood_in = true;
            notes.review = true;
        });
        let mut stated = Completion::of_text(&*self.settings.answer, done.usage);
        stated.push(&Event::Grounded { citations: Arc::from([]), confidence: 0.0 });
        head.origin = Origin::Fallback;
        Ok(Reply::whole(head, stated))
    }
}
