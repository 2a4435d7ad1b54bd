//! Leaves a target alone that keeps failing. A stream counts when it ends,
//! not when it begins; a caller's own fault never counts.
//!
//! What is heard here of a target also tells how well it does beside others.
use std::sync::Arc;

use crate::{
    call::Call,
    error::{Error, Result},
    reply::{End, Reply, Tap},
    route::{Permission, Table, Vital},
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Breaker {
    /// Has the breaker of each target.
    pub table: Arc<Table>,
}

struct Judging {
    permission: Option<Permission>,
    vital: Option<Arc<Vital>>,
}

impl Stage for Breaker {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let Some(row) = call.target.as_ref().and_then(|target| self.table.row_of(target)) else {
            return next.call(call).await;
        };
        let permission = row.breaker.ask().map_err(|retry_after| Error::CircuitOpen { retry_after })?;
        let waiting = row.vital.as_ref().map(|vital| vital.wait(call.chat.stream));
        let mut judging = Judging { permission: Some(permission), vital: None };
        match next.call(call).await {
            Ok(reply) => {
                judging.vital.clone_from(&row.vital);
                if let Some(waiting) = waiting {
                    waiting.began();
                }
                Ok(reply.tap(judging))
            }
            Err(error) => {
                if let Some(waiting) = waiting {
                    waiting.failed(error.facts().fault);
                }
                judging.end(End::Failed(&error));
                Err(error)
            }
        }
    }
}

impl Tap for Judging {
    fn end(&mut self, end: End<'_>) {
        let Some(permission) = self.permission.take() else { return };
        if let Some(vital) = &self.vital {
            match end {
                End::Complete => vital.ended(true),
                End::Failed(error) if error.facts().fault => vital.ended(false),
                End::Failed(_) | End::Cancelled => {}
            }
        }
        match end {
            End::Complete => permission.succeeded(),
            End::Failed(error) if error.facts().fault => permission.failed(),
            // A target that finds a request wrong is well.
            End::Failed(Error::Refused { .. }) => permission.succeeded(),
            End::Failed(_) | End::Cancelled => drop(permission),
        }
    }
}
