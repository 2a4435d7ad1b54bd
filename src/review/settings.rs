//! The review queue, as it is written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Span;

/// Which answers wait for a person.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Answers whose confidence is below this, 0 to 1; 0: none for that.
    #[garde(range(min = 0.0, max = 1.0))]
    pub low_confidence: f64,
    /// The share of all other answers, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// How long an item is the reviewer's who claimed it.
    #[garde(skip)]
    pub claim: Span,
    /// The most items of a tenant that are open at the same time; further ones are only counted.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_open: u32,
    /// Whether an answer that was approved or edited is given to equal questions of its tenant, by the cache.
    #[garde(skip)]
    pub cache: bool,
    /// For how long after the decision.
    #[garde(skip)]
    pub cache_ttl: Span,
    /// How long items and feedback are kept. What was approved or edited stays.
    #[garde(skip)]
    pub retention: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            low_confidence: 0.4,
            sample: 0.0,
            claim: Span::secs(15 * 60),
            max_open: 10_000,
            cache: false,
            cache_ttl: Span::secs(24 * 3600),
            retention: Span::secs(90 * 24 * 3600),
        }
    }
}
