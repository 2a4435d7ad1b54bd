//! One step of an answer.
use std::sync::Arc;

use super::Usage;

/// One step of an answer, whole or streamed. `choice` is the index of the
/// answer it belongs to where several were asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// More of the answer's text.
    Text {
        /// Which answer.
        choice: u32,
        /// The text; may be cut anywhere between two characters.
        text: String,
    },
    /// More of what the model thinks.
    Reasoning {
        /// Which answer.
        choice: u32,
        /// The thought; empty where only a signature or a redacted block arrives.
        text: String,
        /// The provider's proof of authorship, at the end of a thought.
        signature: Option<String>,
        /// An opaque, encrypted thought.
        redacted: Option<String>,
    },
    /// More of the model's words of refusal.
    Refusal {
        /// Which answer.
        choice: u32,
        /// The words.
        text: String,
    },
    /// The beginning or a further piece of a tool call.
    ToolCall {
        /// Which answer.
        choice: u32,
        /// Which of the answer's tool calls.
        index: u32,
        /// Its id, with the first piece.
        id: Option<String>,
        /// The tool's name, with the first piece.
        name: Option<String>,
        /// A piece of the arguments' JSON text.
        arguments: String,
    },
    /// One input's vector.
    Embedding {
        /// Which input.
        index: u32,
        /// The vector.
        vector: Arc<[f32]>,
    },
    /// Which documents the answer rests on, and how well.
    Grounded {
        /// The places that support it, best first.
        citations: Arc<[Citation]>,
        /// How far the answer can be relied on, 0 to 1.
        confidence: f64,
    },
    /// What the answer has taken so far. The last one counts.
    Usage(Usage),
    /// From here on another target goes on with an answer that broke off.
    Continued {
        /// Its version's name.
        by: Arc<str>,
    },
    /// Why the model stopped.
    Finish {
        /// Which answer.
        choice: u32,
        /// Why.
        reason: Finish,
    },
}

impl Event {
    /// Whether a client would see the answer begin with this.
    pub fn is_content(&self) -> bool {
        match self {
            Self::Text { text, .. } | Self::Refusal { text, .. } => !text.is_empty(),
            Self::Reasoning { text, signature, redacted, .. } => {
                !text.is_empty() || signature.is_some() || redacted.is_some()
            }
            Self::ToolCall { .. } | Self::Embedding { .. } | Self::Finish { .. } => true,
            Self::Grounded { .. } | Self::Usage(_) | Self::Continued { .. } => false,
        }
    }

    /// Text of the first answer.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { choice: 0, text: text.into() }
    }

    /// The end of the first answer.
    pub fn finish(reason: Finish) -> Self {
        Self::Finish { choice: 0, reason }
    }
}

/// Why a model stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It had said all.
    Stop,
    /// A stop text came; Anthropic says which.
    StopSequence(Option<String>),
    /// The answer reached its longest length.
    Length,
    /// It waits for a tool.
    ToolCalls,
    /// A guard, ours or the provider's, ended it.
    Filtered,
    /// It refused.
    Refusal,
    /// A long turn was interrupted and may be continued (Anthropic's `pause_turn`).
    Pause,
}

/// A place in a document that supports an answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Citation {
    /// The document's path within the knowledge folder.
    pub document: Arc<str>,
    /// The headings above the place.
    pub heading: Arc<str>,
    /// The supporting words.
    pub span: String,
    /// How well they support it, 0 to 1.
    pub score: f64,
}
