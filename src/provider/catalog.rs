//! The kinds of provider: three dialects, and compatible vendors as rows.
//!
//! A vendor that speaks a known dialect is one more row here.
use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// OpenAI's API.
    OpenAi,
    /// OpenAI's API, without the parameters that not everybody has.
    StrictOpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Nothing: it answers from the documents, within the gateway.
    Extractive,
    /// Nothing: it labels texts, within the gateway.
    Sentiment,
}

/// A kind of provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The name in the configuration.
    pub name: &'static str,
    /// Its dialect.
    pub speaks: Speaks,
    /// Where it is, unless the configuration says otherwise.
    pub base_url: &'static str,
    /// The environment variable that its key is in by custom; empty where it needs none.
    pub key_env: &'static str,
}

const fn row(name: &'static str, speaks: Speaks, base_url: &'static str, key_env: &'static str) -> Row {
    Row { name, speaks, base_url, key_env }
}

use Speaks::{Anthropic, Extractive, OpenAi, Sentiment, StrictOpenAi};

/// Every kind. The first is the default.
pub static ROWS: &[Row] = &[
    row("openai", OpenAi, "https://api.openai.com/v1", "OPENAI_API_KEY"),
    row("anthropic", Anthropic, "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    row("extractive", Extractive, "", ""),
    row("sentiment", Sentiment, "", ""),
    row("cerebras", OpenAi, "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    row("deepinfra", OpenAi, "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    row("deepseek", OpenAi, "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    row("fireworks", OpenAi, "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    row("gemini", OpenAi, "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    row("groq", OpenAi, "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    row("llamacpp", OpenAi, "http://127.0.0.1:8080/v1", ""),
    row("lmstudio", OpenAi, "http://127.0.0.1:1234/v1", ""),
    row("mistral", StrictOpenAi, "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    row("nvidia", OpenAi, "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    row("ollama", OpenAi, "http://127.0.0.1:11434/v1", ""),
    row("openrouter", OpenAi, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    row("perplexity", OpenAi, "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    row("together", OpenAi, "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    row("vllm", OpenAi, "http://127.0.0.1:8000/v1", ""),
    row("xai", OpenAi, "https://api.x.ai/v1", "XAI_API_KEY"),
];

/// The kind of a provider, by its name in [`ROWS`].
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind(&'static Row);

impl Kind {
    /// What is known of the kind.
    pub fn row(self) -> &'static Row {
        self.0
    }

    /// Whether it answers within the gateway.
    pub fn is_embedded(self) -> bool {
        matches!(self.0.speaks, Speaks::Extractive | Speaks::Sentiment)
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self(&ROWS[0])
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let names = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
        let row = ROWS.iter().find(|row| row.name == name);
        row.map(Self).ok_or_else(|| format!("`{name}` is not a kind of provider; known: {}", names()))
    }
}

impl TryFrom<String> for Kind {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.to_string()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({self})")
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::transport;

    #[test]
    fn every_row_can_be_named_and_reached() {
        for row in ROWS {
            assert_eq!(row.name.parse::<Kind>().unwrap().row(), row);
            if !row.name.parse::<Kind>().unwrap().is_embedded() {
                transport::base_url(row.base_url).unwrap();
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_told_the_known_ones() {
        let error = "opnai".parse::<Kind>().unwrap_err();
        assert!(error.contains("`opnai`") && error.contains("openai, anthropic, extractive"), "{error}");
    }
}
