//! Counts and times every call.
use std::sync::Arc;

use crate::{
    call::{Call, Context},
    error::Result,
    observe::Metrics,
    reply::{End, Reply, Tap},
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Measure {
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

struct Measuring {
    metrics: Arc<Metrics>,
    context: Arc<Context>,
    over: bool,
}

impl Stage for Measure {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let (metrics, context) = (self.metrics.clone(), call.context.clone());
        let mut measuring = Measuring { metrics, context, over: false };
        match next.call(call).await {
            Ok(reply) => Ok(reply.tap(measuring)),
            Err(error) => {
                measuring.end(End::Failed(&error));
                Err(error)
            }
        }
    }
}

impl Tap for Measuring {
    fn end(&mut self, end: End<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            self.metrics.finished(self.context.endpoint, end.status(), self.context.began.elapsed());
        }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}
