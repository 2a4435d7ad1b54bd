//! Anthropic's words for what every API has.
use serde::{Deserialize, Serialize};

use super::openai::nullable;
use crate::chat::{self, Finish};

/// The version of the API that we speak.
pub const VERSION: &str = "2023-06-01";

/// Parameters that only Anthropic's Messages API defines.
pub const ONLY_HERE: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    "betas",
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "mcp_servers",
    "metadata",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "system",
    "thinking",
];

/// The `stop_reason` of an end.
pub fn stop_name(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(None) => "end_turn",
        Finish::StopSequence(Some(_)) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::Filtered | Finish::Refusal => "refusal",
        Finish::Pause => "pause_turn",
    }
}

/// The end that a `stop_reason` and its `stop_sequence` mean.
pub fn finish_of(reason: &str, sequence: Option<String>) -> Finish {
    match reason {
        "stop_sequence" => Finish::StopSequence(sequence),
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "pause_turn" => Finish::Pause,
        "refusal" => Finish::Refusal,
        _ => Finish::Stop,
    }
}

/// The `usage` object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens read, without those that the cache knew or got.
    #[serde(deserialize_with = "nullable")]
    pub input_tokens: u64,
    /// Tokens written to the cache.
    #[serde(deserialize_with = "nullable")]
    pub cache_creation_input_tokens: u64,
    /// Tokens read from the cache.
    #[serde(deserialize_with = "nullable")]
    pub cache_read_input_tokens: u64,
    /// Tokens written.
    #[serde(deserialize_with = "nullable")]
    pub output_tokens: u64,
}

impl From<Usage> for chat::Usage {
    fn from(usage: Usage) -> Self {
        let (cached, cache_write) = (usage.cache_read_input_tokens, usage.cache_creation_input_tokens);
        let input = usage.input_tokens.saturating_add(cached).saturating_add(cache_write);
        Self { input, output: usage.output_tokens, cached, cache_write, ..Self::default() }
    }
}

impl From<&chat::Usage> for Usage {
    fn from(usage: &chat::Usage) -> Self {
        Self {
            input_tokens: usage.input.saturating_sub(usage.cached).saturating_sub(usage.cache_write),
            cache_creation_input_tokens: usage.cache_write,
            cache_read_input_tokens: usage.cached,
            output_tokens: usage.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_count_as_read() {
        let usage =
            chat::Usage { input: 100, output: 7, cached: 60, cache_write: 30, ..chat::Usage::default() };
        let wire = Usage::from(&usage);
        assert_eq!(wire.input_tokens, 10);
        assert_eq!(chat::Usage::from(wire), usage);
    }

    #[test]
    fn ends_survive_the_way_there_and_back() {
        for finish in [Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::Pause, Finish::Refusal] {
            assert_eq!(finish_of(stop_name(&finish), None), finish);
        }
        let stopped = Finish::StopSequence(Some("END".into()));
        assert_eq!(finish_of(stop_name(&stopped), Some("END".into())), stopped);
    }
}
