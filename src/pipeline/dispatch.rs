//! The innermost service: asks the target's provider.
use std::{collections::HashMap, sync::Arc};

use crate::{
    call::Call,
    error::{Error, Result},
    provider::Provider,
    reply::Reply,
    stage::Answer,
};

/// The innermost service.
pub struct Dispatch {
    /// The providers by their configured names.
    pub providers: Arc<HashMap<Arc<str>, Arc<dyn Provider>>>,
}

impl Answer for Dispatch {
    async fn answer(&self, call: Call) -> Result<Reply> {
        let unknown = || Error::UnknownModel(call.chat.model.clone());
        let target = call.target.as_ref().ok_or_else(unknown)?;
        let provider = self.providers.get(&target.provider).ok_or_else(unknown)?;
        // The line between what may be retried and what may not: see `Reply::primed`.
        provider.answer(&call, target).await?.primed().await
    }
}
