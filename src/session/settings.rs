//! Conversations, as they are written down.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Span;

/// What is remembered of a conversation, and for how long.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether what was said under a `session_id` is given to the next question of the same session.
    #[garde(skip)]
    pub enabled: bool,
    /// How long a conversation is kept after its last turn.
    #[garde(skip)]
    pub ttl: Span,
    /// How much of a conversation a question is given along, in tokens, guessed by its length.
    #[garde(range(min = 100, max = 1_000_000))]
    pub max_tokens: u32,
    /// How many turns of it, a question and its answer each.
    #[garde(range(min = 1, max = 1000))]
    pub max_turns: u32,
    /// How many of the last turns a summary leaves as they are.
    #[garde(range(min = 1, max = 100))]
    pub keep_turns: u32,
    /// The route of the model that sums up what is over the bounds; `null`: the oldest turns are dropped.
    #[garde(skip)]
    pub summary_model: Option<String>,
    /// What becomes of a question while its conversation cannot be read: `continue` without it, or `refuse` with 503.
    #[garde(skip)]
    pub on_failure: OnFailure,
    /// How long a question waits for its conversation, and an answer for its turn to be kept.
    #[garde(skip)]
    pub timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Span::secs(24 * 3600),
            max_tokens: 4000,
            max_turns: 50,
            keep_turns: 4,
            summary_model: None,
            on_failure: OnFailure::Continue,
            timeout: Span::millis(50),
        }
    }
}

/// What becomes of a question whose conversation cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is asked without.
    Continue,
    /// It is refused with 503.
    Refuse,
}
