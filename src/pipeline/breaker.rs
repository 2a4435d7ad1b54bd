//! Leaves a target alone that keeps failing. A stream counts when it ends,
//! not when it begins; a caller's own fault never counts.
use std::sync::Arc;

use crate::{
    call::Call,
    error::{Error, Result},
    reply::{End, Reply, Tap},
    route::{Permission, Table},
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Breaker {
    /// Has the breaker of each target.
    pub table: Arc<Table>,
}

struct Judging(Option<Permission>);

impl Stage for Breaker {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let Some(row) = call.target.as_ref().and_then(|target| self.table.row_of(target)) else {
            return next.call(call).await;
        };
        let permission = row.breaker.ask().map_err(|retry_after| Error::CircuitOpen { retry_after })?;
        let mut judging = Judging(Some(permission));
        match next.call(call).await {
            Ok(reply) => Ok(reply.tap(judging)),
            Err(error) => {
                judging.end(End::Failed(&error));
                Err(error)
            }
        }
    }
}

impl Tap for Judging {
    fn end(&mut self, end: End<'_>) {
        let Some(permission) = self.0.take() else { return };
        match end {
            End::Complete => permission.succeeded(),
            End::Failed(error) if error.facts().fault => permission.failed(),
            // A target that finds a request wrong is well.
            End::Failed(Error::Refused { .. }) => permission.succeeded(),
            End::Failed(_) | End::Cancelled => drop(permission),
        }
    }
}
