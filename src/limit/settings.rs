//! The limits, as they are written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a caller may ask for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Requests a minute, for each scope; `null` is no limit.
    #[garde(dive)]
    pub requests_per_minute: PerMinute,
    /// How many keys, users and addresses are counted at a time. Who has long
    /// not been seen makes room.
    #[garde(range(min = 1, max = 100_000_000))]
    pub max_tracked: usize,
}

/// Requests a minute; `null` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct PerMinute {
    /// For one key, unless the key has a limit of its own.
    #[garde(range(min = 1))]
    pub key: Option<u32>,
    /// For one user: `user_id` of the native API, `user` of the others.
    #[garde(range(min = 1))]
    pub user: Option<u32>,
    /// For one client address.
    #[garde(range(min = 1))]
    pub address: Option<u32>,
    /// For all together.
    #[garde(range(min = 1))]
    pub global: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { requests_per_minute: PerMinute::default(), max_tracked: 100_000 }
    }
}

impl Default for PerMinute {
    fn default() -> Self {
        Self { key: None, user: Some(60), address: Some(600), global: None }
    }
}
