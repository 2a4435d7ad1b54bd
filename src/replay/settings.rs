//! Repeats and lost connections, as they are written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Size, Span};

/// What becomes of requests that are sent twice with one `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// Whether `Idempotency-Key` is heeded.
    #[garde(skip)]
    pub enabled: bool,
    /// How long a reply is kept.
    #[garde(skip)]
    pub keep: Span,
    /// The largest reply that is kept. A larger one is given, and a repeat of it is answered anew.
    #[garde(skip)]
    pub max_reply: Size,
    /// How much memory the replies may take; the oldest make room.
    #[garde(skip)]
    pub max_bytes: Size,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self {
            enabled: true,
            keep: Span::secs(24 * 3600),
            max_reply: Size(1 << 20),
            max_bytes: Size(64 << 20),
        }
    }
}

/// What becomes of a native stream whose reader lost the connection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Resume {
    /// Whether what streams say is kept, so that a reader can go on with `Last-Event-ID`.
    #[garde(skip)]
    pub enabled: bool,
    /// Whether every stream goes on while its reader is away, not only those that ask for it.
    #[garde(skip)]
    pub always: bool,
    /// How long a stream goes on while its reader is away.
    #[garde(skip)]
    pub grace: Span,
    /// How long what a stream said is kept after its end.
    #[garde(skip)]
    pub keep: Span,
    /// How much is kept of one stream; of a longer one, the end.
    #[garde(skip)]
    pub max_stream: Size,
    /// How much memory all streams may take; the oldest that have ended make room.
    #[garde(skip)]
    pub max_bytes: Size,
}

impl Default for Resume {
    fn default() -> Self {
        Self {
            enabled: true,
            always: false,
            grace: Span::secs(30),
            keep: Span::secs(300),
            max_stream: Size(1 << 20),
            max_bytes: Size(32 << 20),
        }
    }
}
