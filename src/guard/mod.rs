//! Rules that a text must keep. Pure and quick: bytes in, findings out.
mod numbers;

pub use numbers::{CARD, SSN};

/// What a finding leads to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The text is not looked at.
    Off,
    /// The finding is counted and noted.
    Log,
    /// The text does not leave.
    #[default]
    Block,
}

/// A pattern that is looked for in what a model writes.
#[derive(Debug)]
pub struct Guard {
    /// Its name, in settings, metrics and records.
    pub name: &'static str,
    /// Finds the first match in `text` that ends after the byte `from`, as
    /// byte positions. A match that ends with the text counts only if `ended`:
    /// the next piece might prolong it.
    pub find: fn(text: &str, from: usize, ended: bool) -> Option<std::ops::Range<usize>>,
    /// Whether a character may be part of a match: what a stream holds back.
    pub may_match: fn(u8) -> bool,
    /// The longest match, in bytes.
    pub longest: usize,
}
