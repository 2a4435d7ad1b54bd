//! Vendors that speak an API which is known: a row each.
use super::settings::Settings;

/// What a vendor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Nothing: it runs in the gateway itself and answers from the documents.
    Extractive,
    /// Nothing: it runs in the gateway itself and labels texts.
    Sentiment,
}

/// One vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vendor {
    /// The name under `kind`.
    pub name: &'static str,
    /// What it speaks.
    pub speaks: Speaks,
    /// Where it is.
    pub base_url: &'static str,
}

const fn row(name: &'static str, speaks: Speaks, base_url: &'static str) -> Vendor {
    Vendor { name, speaks, base_url }
}

const VENDORS: &[Vendor] = &[
    row("openai", Speaks::OpenAi, "https://api.openai.com/v1"),
    row("anthropic", Speaks::Anthropic, "https://api.anthropic.com"),
    row("extractive", Speaks::Extractive, ""),
    row("sentiment", Speaks::Sentiment, ""),
    row("deepseek", Speaks::OpenAi, "https://api.deepseek.com/v1"),
    row("fireworks", Speaks::OpenAi, "https://api.fireworks.ai/inference/v1"),
    row("groq", Speaks::OpenAi, "https://api.groq.com/openai/v1"),
    row("llamacpp", Speaks::OpenAi, "http://127.0.0.1:8080/v1"),
    row("mistral", Speaks::OpenAi, "https://api.mistral.ai/v1"),
    row("ollama", Speaks::OpenAi, "http://127.0.0.1:11434/v1"),
    row("openrouter", Speaks::OpenAi, "https://openrouter.ai/api/v1"),
    row("together", Speaks::OpenAi, "https://api.together.xyz/v1"),
    row("vllm", Speaks::OpenAi, "http://127.0.0.1:8000/v1"),
    row("xai", Speaks::OpenAi, "https://api.x.ai/v1"),
];

/// The vendor of a `kind`.
pub fn find(kind: &str) -> Option<Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == kind).copied()
}

/// All names.
pub fn names() -> Vec<&'static str> {
    VENDORS.iter().map(|vendor| vendor.name).collect()
}

/// Where a provider is: as configured, else where its vendor is.
pub fn base_url(vendor: Vendor, settings: &Settings) -> String {
    settings.base_url.clone().unwrap_or_else(|| vendor.base_url.to_owned())
}
