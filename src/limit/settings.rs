//! The limits, as they are written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a caller may ask for. A key and a tenant may have limits of their own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Requests a minute, for each scope; `null` is no limit.
    #[garde(dive)]
    pub requests_per_minute: PerMinute,
    /// Requests that may come at once; `null`: a whole minute's.
    #[garde(dive)]
    pub burst: PerScope,
    /// Tokens a minute, questions and answers together; `null` is no limit.
    #[garde(dive)]
    pub tokens_per_minute: PerScope,
    /// Calls at the same time, streams to their end included; `null` is no limit.
    #[garde(dive)]
    pub in_flight: PerScope,
    /// What a token limit sets aside for an answer that is still to come, unless
    /// `max_tokens` is less. What it truly took counts when it has ended.
    #[garde(range(min = 0, max = 10_000_000))]
    pub answer_tokens: u32,
    /// How many keys, users, addresses, tenants and models are counted at a
    /// time; at least 16. Who has its whole limit left makes room first.
    #[garde(range(min = 1, max = 100_000_000))]
    pub max_tracked: usize,
}

/// Requests a minute; `null` is no limit. Not a [`PerScope`], because its defaults are others: who writes
/// down one of these numbers keeps the rest of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct PerMinute {
    /// For one key, unless the key has a limit of its own.
    #[garde(range(min = 1))]
    pub key: Option<u32>,
    /// For one user: `user_id` of the native API, `user` of the others.
    #[garde(range(min = 1))]
    pub user: Option<u32>,
    /// For one client address; of IPv6, for one network of 64 bits.
    #[garde(range(min = 1))]
    pub address: Option<u32>,
    /// For all keys of one tenant, unless the tenant has a limit of its own.
    #[garde(range(min = 1))]
    pub tenant: Option<u32>,
    /// For one model, by its route's name.
    #[garde(range(min = 1))]
    pub model: Option<u32>,
    /// For all together.
    #[garde(range(min = 1))]
    pub global: Option<u32>,
}

/// One number for each scope; `null` as the setting says that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct PerScope {
    /// For one key, unless the key has a number of its own.
    #[garde(range(min = 1))]
    pub key: Option<u32>,
    /// For one user: `user_id` of the native API, `user` of the others.
    #[garde(range(min = 1))]
    pub user: Option<u32>,
    /// For one client address; of IPv6, for one network of 64 bits.
    #[garde(range(min = 1))]
    pub address: Option<u32>,
    /// For all keys of one tenant, unless the tenant has a number of its own.
    #[garde(range(min = 1))]
    pub tenant: Option<u32>,
    /// For one model, by its route's name.
    #[garde(range(min = 1))]
    pub model: Option<u32>,
    /// For all together.
    #[garde(range(min = 1))]
    pub global: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            requests_per_minute: PerMinute::default(),
            burst: PerScope::default(),
            tokens_per_minute: PerScope::default(),
            in_flight: PerScope::default(),
            answer_tokens: 1000,
            max_tracked: 100_000,
        }
    }
}

impl Default for PerMinute {
    fn default() -> Self {
        Self { key: None, user: Some(60), address: Some(600), tenant: None, model: None, global: None }
    }
}
