//! Counts tokens where a provider does not report them. Slow to load and not
//! cheap to run: only ever called on a thread that may block.
use std::fmt::Write;

use crate::chat::{Message, Part, Request, Tool, Usage};

/// What the wrapping of one message takes, by OpenAI's own recipe for counting.
const PER_MESSAGE: u64 = 4;
/// Longer texts are counted by their beginning.
const LONGEST: usize = 1 << 20;

/// The number of tokens of a text, by OpenAI's `o200k_base`. Other vendors'
/// counts differ by some ten percent.
pub fn count(text: &str) -> u64 {
    let mut cut = text.len().min(LONGEST);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    if cut == 0 {
        return 0;
    }
    let counted = tiktoken_rs::o200k_base_singleton().encode_ordinary(&text[..cut]).len() as u64;
    counted * text.len() as u64 / cut as u64
}

/// What a chat and its answer take, by our own count. What the provider did
/// report is kept.
pub fn estimate(chat: &Request, output: &str, known: Option<Usage>) -> Usage {
    let known = known.unwrap_or_default();
    let input = if known.input > 0 { known.input } else { prompt(chat) };
    Usage { input, output: known.output.max(count(output)), estimated: true, ..known }
}

fn prompt(chat: &Request) -> u64 {
    let mut text = String::new();
    for message in &chat.messages {
        let Message { parts, name, .. } = message;
        text.push_str(name.as_deref().unwrap_or_default());
        parts.iter().for_each(|part| spell(part, &mut text));
        text.push('\n');
    }
    for tool in &chat.tools {
        // Writing to a string cannot fail.
        let _ = match tool {
            Tool::Function { name, description, parameters, .. } => {
                write!(text, "{name} {} {parameters}", description.as_deref().unwrap_or_default())
            }
            Tool::Other(value) => write!(text, "{value}"),
        };
    }
    count(&text) + PER_MESSAGE * chat.messages.len() as u64
}

fn spell(part: &Part, text: &mut String) {
    match part {
        Part::Text { text: said, .. } | Part::Refusal(said) | Part::Reasoning { text: said, .. } => {
            text.push_str(said);
        }
        Part::ToolCall(call) => {
            text.push_str(&call.name);
            text.push_str(&call.arguments);
        }
        Part::ToolResult { parts, .. } => parts.iter().for_each(|part| spell(part, text)),
        // Pictures and recordings are not counted by their bytes.
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    #[test]
    fn a_text_is_counted_and_what_is_known_is_kept() {
        assert_eq!(count(""), 0);
        assert_eq!(count("The capital of France is Paris."), 7);
        let chat = Request { messages: vec![Message::new(Role::User, "hello world")], ..Request::default() };
        let usage = estimate(&chat, "hi", None);
        assert_eq!((usage.input, usage.output, usage.estimated), (7, 1, true));
        let known = Usage { input: 40, ..Usage::default() };
        assert_eq!(estimate(&chat, "hi", Some(known)).input, 40);
    }
}
