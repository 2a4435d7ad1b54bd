//! The settings of stages that have no mechanism of their own.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Span;

/// What a question may look like.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// The longest conversation, in characters.
    #[garde(range(min = 1))]
    pub max_chars: usize,
    /// The most messages in a conversation.
    #[garde(range(min = 1))]
    pub max_messages: usize,
    /// What happens to control characters and those that hide or turn text around.
    #[garde(skip)]
    pub control_characters: ControlRule,
    /// Whether text is brought into Unicode's composed form (NFC).
    #[garde(skip)]
    pub normalize: bool,
}

/// What happens to control characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlRule {
    /// They stay.
    Off,
    /// They are taken out.
    #[default]
    Strip,
    /// The question is refused.
    Block,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            max_chars: 4_000_000,
            max_messages: 4096,
            control_characters: ControlRule::Strip,
            normalize: true,
        }
    }
}

/// What becomes of an answer from documents that little speaks for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Confidence {
    /// Answers from documents with a confidence below this, 0 to 1, are not given; 0: all are.
    #[garde(range(min = 0.0, max = 1.0))]
    pub min: f64,
    /// What is said instead. A person gets to see the question.
    #[garde(length(min = 1, max = 2000))]
    pub answer: String,
}

impl Default for Confidence {
    fn default() -> Self {
        let answer = "I am not sure enough to answer that. Your query has been logged for manual review.";
        Self { min: 0.0, answer: answer.into() }
    }
}

/// How often, and how soon, a failed call is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts at one target, the first included.
    #[garde(range(min = 1, max = 10))]
    pub attempts: u32,
    /// The longest first wait; each further one is up to twice as long. The true wait is random below it.
    #[garde(skip)]
    pub base: Span,
    /// The longest wait. A provider that asks for a longer one is not waited for.
    #[garde(skip)]
    pub cap: Span,
    /// Retries as a share of the calls, in percent.
    #[garde(range(max = 100))]
    pub budget_percent: u32,
    /// Retries a second that are allowed besides.
    #[garde(range(max = 10_000))]
    pub budget_floor: u32,
    /// How often another target may go on with one streamed answer that broke off; 0: never.
    #[garde(range(max = 10))]
    pub continuations: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Span::millis(250),
            cap: Span::secs(8),
            budget_percent: 10,
            budget_floor: 3,
            continuations: 2,
        }
    }
}
