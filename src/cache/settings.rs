//! The cache, as it is written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Size, Span};

/// How answers are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether answers are kept at all.
    #[garde(skip)]
    pub enabled: bool,
    /// Which questions: `deterministic` (temperature 0, a seed, or embeddings), or `always`.
    #[garde(skip)]
    pub when: When,
    /// How much memory the answers may take.
    #[garde(skip)]
    pub max_bytes: Size,
    /// How long an answer is good.
    #[garde(skip)]
    pub ttl: Span,
    /// How long an answer of `/predict` is good.
    #[garde(skip)]
    pub predict_ttl: Span,
}

/// Which questions' answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Those that have one answer: temperature 0, a seed, or embeddings.
    #[default]
    Deterministic,
    /// All.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            when: When::Deterministic,
            max_bytes: Size(64 << 20),
            ttl: Span::secs(300),
            predict_ttl: Span::secs(3600),
        }
    }
}
