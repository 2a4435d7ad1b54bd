//! Lets a key use only the models that it may. Who the caller is was found at the edge.
use std::sync::Arc;

use crate::{
    call::Call,
    error::{Error, Result},
    reply::Reply,
    route::Table,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Authorize {
    /// Knows the routes' other names.
    pub table: Arc<Table>,
}

impl Stage for Authorize {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        if !self.table.allows(&call.context.caller, &call.chat.model) {
            // The same words as for a model that does not exist: a key learns nothing of the others.
            return Err(Error::UnknownModel(call.chat.model.clone()));
        }
        next.call(call).await
    }
}
