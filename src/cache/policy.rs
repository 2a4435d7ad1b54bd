//! Which questions are looked up, and which of them are equal.
use std::sync::Arc;

use super::{Key, Settings, When};
use crate::{
    call::Call,
    chat::{Purpose, Request},
};

/// Which questions are looked up, and which of them are equal.
pub struct Policy {
    /// How answers are kept.
    pub settings: Settings,
    /// The versions of whatever else answers depend on: prompt, policy, routes.
    pub versions: Vec<String>,
    /// The version of the documents, which change while the gateway runs.
    pub corpus: Arc<dyn Fn() -> Arc<str> + Send + Sync>,
}

impl Policy {
    /// The key of a question, or why it is not looked up.
    pub fn key(&self, call: &Call) -> Result<Key, &'static str> {
        if !self.settings.enabled {
            return Err("`cache.enabled` is off");
        }
        if !call.context.use_cache {
            return Err("the request does not take a stored answer");
        }
        if !self.repeatable(&call.chat) {
            return Err("the question has more than one answer: no `temperature: 0`, no `seed`");
        }
        let corpus = (self.corpus)();
        let mut versions: Vec<&str> = self.versions.iter().map(String::as_str).collect();
        versions.push(&corpus);
        Ok(Key::new(call.context.caller.tenant(), &versions, &call.chat))
    }

    /// Whether the question has one answer: asked again at a temperature, a model says something else.
    fn repeatable(&self, chat: &Request) -> bool {
        match self.settings.when {
            When::Always => true,
            When::Deterministic => {
                chat.temperature == Some(0.0)
                    || chat.seed.is_some()
                    || matches!(chat.purpose, Purpose::Embed { .. })
            }
        }
    }
}
