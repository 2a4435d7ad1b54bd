//! Lets a key use only the models, and be only as urgent, as it may. Who the caller is was found at the edge.
use std::sync::Arc;

use serde_json::json;

use crate::{
    call::Call,
    error::{Error, Result},
    guard::pii::Pii,
    reply::Reply,
    route::Table,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Authorize {
    /// Knows the routes' other names.
    pub table: Arc<Table>,
    /// Masks a name that is none.
    pub pii: Arc<Pii>,
}

impl Stage for Authorize {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        if !self.table.allows(&call.context.caller, &call.chat.model) {
            // The same words as for a model that does not exist: a key learns nothing of the others.
            let asked = self.pii.masker().mask(&call.chat.model).into_owned();
            return Err(Error::UnknownModel(asked));
        }
        let (rights, priority) = (&call.context.caller.rights, call.context.priority);
        if let Some(most) = rights.max_priority.filter(|most| priority > *most) {
            let (asked, most) = (priority.name(), most.name());
            return Err(Error::Forbidden(format!(
                "this key's calls may be `{most}` at the most, not `{asked}`"
            )));
        }
        call.context.explain("authorize", || {
            let rights = &call.context.caller.rights;
            json!({
                "key": &*rights.name,
                "tenant": &*rights.tenant.name,
                "route": self.table.canonical(&call.chat.model),
                "models": rights.models.as_ref().map_or_else(|| json!("all"), |models| json!(models)),
            })
        });
        next.call(call).await
    }
}
