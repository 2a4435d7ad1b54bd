//! The stores, as they are written down.
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{SecretFrom, Span};

/// Where the embedded database is, if nothing else is said.
pub(super) const SQLITE: &str = "data/sluice.db";

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The file of the embedded database; its folder is made. `:memory:` keeps nothing. Not used where Postgres is.
    #[garde(skip)]
    pub sqlite: PathBuf,
    /// Where the URL of a Postgres is (`postgres://user:password@host/database`), which several gateways share.
    #[garde(skip)]
    pub postgres: Option<SecretFrom>,
    /// Connections to Postgres at the same time.
    #[garde(range(min = 1, max = 1000))]
    pub connections: u32,
    /// How long the database may take. Only requests with an Idempotency-Key wait for it, up to 500ms.
    #[garde(skip)]
    pub timeout: Span,
    /// Where the URL of a Redis is (`redis://host:6379` or `rediss://…`), which several gateways share.
    #[garde(skip)]
    pub redis: Option<SecretFrom>,
    /// How long Redis may take before a request goes on without it.
    #[garde(skip)]
    pub redis_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sqlite: SQLITE.into(),
            postgres: None,
            connections: 8,
            timeout: Span::secs(5),
            redis: None,
            redis_timeout: Span::millis(50),
        }
    }
}
