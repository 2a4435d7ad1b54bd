//! OpenAI's words for what every API has.
use serde::{Deserialize, Deserializer, Serialize};

use crate::chat::{self, Finish, Role};

/// Parameters that only OpenAI's Chat Completions API defines: other vendors
/// refuse them or mean something else by them.
pub const ONLY_HERE: &[&str] = &[
    "audio",
    "encoding_format",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "metadata",
    "modalities",
    "moderation",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "top_logprobs",
    "verbosity",
    "web_search_options",
];

/// Parameters that only OpenAI's Responses API defines.
pub const ONLY_RESPONSES: &[&str] = &[
    "background",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "prompt",
    "stream_options",
    "text",
    "top_logprobs",
    "truncation",
];

/// The name of a role.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// The `finish_reason` of an end.
pub fn finish_name(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::Filtered | Finish::Refusal => "content_filter",
    }
}

/// The end that a `finish_reason` means. Compatible servers have words of
/// their own; one that we do not know is an ordinary end.
pub fn finish_of(name: &str) -> Finish {
    match name {
        "length" | "max_tokens" | "model_length" => Finish::Length,
        "tool_calls" | "function_call" | "tool_use" => Finish::ToolCalls,
        "content_filter" | "safety" | "SAFETY" => Finish::Filtered,
        _ => Finish::Stop,
    }
}

/// The `usage` object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens read.
    #[serde(deserialize_with = "nullable")]
    pub prompt_tokens: u64,
    /// Tokens written; embeddings have none.
    #[serde(deserialize_with = "nullable")]
    pub completion_tokens: u64,
    /// All tokens.
    #[serde(deserialize_with = "nullable")]
    pub total_tokens: u64,
    /// Of those read.
    #[serde(deserialize_with = "nullable")]
    pub prompt_tokens_details: PromptDetails,
    /// Of those written.
    #[serde(deserialize_with = "nullable")]
    pub completion_tokens_details: CompletionDetails,
    /// DeepSeek's name for cached tokens.
    #[serde(skip_serializing, deserialize_with = "nullable")]
    pub prompt_cache_hit_tokens: u64,
}

/// What became of the tokens read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptDetails {
    /// Read from the cache.
    #[serde(deserialize_with = "nullable")]
    pub cached_tokens: u64,
    /// Written to the cache (OpenRouter).
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub cache_write_tokens: u64,
}

/// What became of the tokens written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompletionDetails {
    /// Spent on thinking.
    #[serde(deserialize_with = "nullable")]
    pub reasoning_tokens: u64,
}

impl From<Usage> for chat::Usage {
    fn from(usage: Usage) -> Self {
        let input = usage.prompt_tokens;
        // A server that counts only the whole (some for embeddings) has read it all.
        let input = if input == 0 && usage.completion_tokens == 0 { usage.total_tokens } else { input };
        Self {
            input,
            output: usage.completion_tokens,
            cached: usage.prompt_tokens_details.cached_tokens.max(usage.prompt_cache_hit_tokens).min(input),
            cache_write: usage.prompt_tokens_details.cache_write_tokens.min(input),
            reasoning: usage.completion_tokens_details.reasoning_tokens.min(usage.completion_tokens),
            estimated: false,
            cost: None,
        }
    }
}

impl From<&chat::Usage> for Usage {
    fn from(usage: &chat::Usage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached,
                cache_write_tokens: usage.cache_write,
            },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning },
            prompt_cache_hit_tokens: 0,
        }
    }
}

/// `null` where a value is expected is its default.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_whatever_is_missing_or_null() {
        let json = r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":null,"prompt_tokens_details":null,
            "completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":0},"prompt_cache_hit_tokens":2,"cost":0.1}"#;
        let usage: chat::Usage = serde_json::from_str::<Usage>(json).unwrap().into();
        assert_eq!(
            usage,
            chat::Usage { input: 9, output: 4, cached: 2, reasoning: 3, ..chat::Usage::default() }
        );
    }

    #[test]
    fn usage_survives_the_way_there_and_back() {
        let usage = chat::Usage { input: 9, output: 4, cached: 2, reasoning: 3, ..chat::Usage::default() };
        assert_eq!(chat::Usage::from(Usage::from(&usage)), usage);
    }

    #[test]
    fn ends_survive_the_way_there_and_back() {
        for finish in [Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::Filtered] {
            assert_eq!(finish_of(finish_name(&finish)), finish);
        }
    }
}
