//! The last resort: where nobody can answer, a configured sentence does, and
//! says so. Only for callers who asked for it: the native whole-answer API.
use std::sync::Arc;

use crate::{
    call::Call,
    chat::{Completion, Event},
    error::Error,
    error::Result,
    reply::{Head, Origin, Reply},
    stage::{Answer, Next, Stage},
};

/// What is said while the models are over their capacity.
pub const BUSY: &str = "Our AI service is temporarily busy. Please try again in a moment.";
/// What is said in any other trouble. The audit record is marked for review.
pub const UNAVAILABLE: &str =
    "Service temporarily unavailable. Your query has been logged for manual review.";

/// The stage.
#[derive(Debug)]
pub struct LastResort;

impl Stage for LastResort {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let context = call.context.clone();
        let error = match next.call(call).await {
            // A whole answer may still break off: read it here, where there is something else to say.
            Ok(reply) if context.last_resort => match reply.collect().await {
                Ok((head, completion)) => return Ok(Reply::whole(head, completion)),
                Err(error) => error,
            },
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        if !context.last_resort || !error.is_behind_us() {
            return Err(error);
        }
        let busy = matches!(error, Error::UpstreamBusy { .. });
        if busy {
            tracing::warn!(request_id = %context.id, "Rate limit hit — returning fallback");
        } else {
            tracing::error!(request_id = %context.id, "API error: {}", error.logged());
        }
        context.trail.note(|notes| {
            notes.review = !busy;
            notes.stood_in = true;
            notes.confidence = Some(0.0);
        });
        let mut done = Completion::of_text(if busy { BUSY } else { UNAVAILABLE }, None);
        done.push(&Event::Grounded { citations: Arc::from([]), confidence: 0.0 });
        Ok(Reply::whole(Head { origin: Origin::Fallback, ..Head::default() }, done))
    }
}
