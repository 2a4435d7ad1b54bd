//! The documents, as they are written down.
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The documents that answers rest on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder with Markdown and text files. Where the usual one is absent, Sluice's own
    /// handbook takes its place.
    #[garde(skip)]
    pub path: PathBuf,
    /// How many passages a question is answered from.
    #[garde(range(min = 1, max = 50))]
    pub passages: usize,
    /// About how long a passage is, in characters.
    #[garde(range(min = 100, max = 20_000))]
    pub chunk_chars: usize,
    /// Whether a change in the folder is noticed by itself; SIGHUP always is.
    #[garde(skip)]
    pub watch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: "config/knowledge".into(), passages: 3, chunk_chars: 1200, watch: true }
    }
}
