//! What becomes of questions that guards object to.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{injection, remote};

/// What becomes of a question that looks like prompt injection or a jailbreak.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Injection {
    /// off: nobody looks; log: findings are counted and noted; block: they are refused.
    #[garde(skip)]
    pub mode: Mode,
    /// From which score on a text counts, 0 to 1. A higher one finds less and is wrong less often.
    #[garde(range(min = 0.01, max = 1.0))]
    pub threshold: f32,
    /// A classifier of one's own, asked besides.
    #[garde(dive)]
    pub classifier: remote::Settings,
}

impl Default for Injection {
    fn default() -> Self {
        Self { mode: Mode::Log, threshold: injection::THRESHOLD, classifier: remote::Settings::default() }
    }
}

/// What a finding leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nobody looks.
    Off,
    /// The finding is counted and noted.
    #[default]
    Log,
    /// The question is refused.
    Block,
}
