//! Counts tokens where a provider does not report them. Slow to load and not
//! cheap to run: only ever called on a thread that may block. Only [`about`]
//! and [`guess`] are cheap, and no more than guesses.
use std::fmt::{self, Write};

use crate::chat::{Message, Part, Purpose, Request, Tool, Usage};

/// What the wrapping of one message takes, by OpenAI's own recipe for counting.
const PER_MESSAGE: u64 = 4;
/// A token of English text or of code has about so many bytes.
const BYTES_A_TOKEN: u64 = 4;
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

/// What a call may take, guessed by the length of its texts: what is asked, and
/// for each answer its `max_tokens`, `longest_answer` where that is less or absent.
pub fn about(chat: &Request, longest_answer: u32) -> u64 {
    let mut length = Length(0);
    // A length takes any text.
    let _ = spell(chat, &mut length);
    let question = length.0 / BYTES_A_TOKEN + PER_MESSAGE * chat.messages.len() as u64;
    let answers = match chat.purpose {
        Purpose::Embed { .. } => 0,
        Purpose::Chat => {
            let longest = chat.max_tokens.map_or(longest_answer, |most| most.min(longest_answer));
            u64::from(longest) * u64::from(chat.choice_count())
        }
    };
    question + answers
}

/// The tokens of a text, guessed by its length.
pub fn guess(text: &str) -> u64 {
    text.len() as u64 / BYTES_A_TOKEN + 1
}

/// Holds no text but its length, in bytes.
struct Length(u64);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

fn prompt(chat: &Request) -> u64 {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = spell(chat, &mut text);
    count(&text) + PER_MESSAGE * chat.messages.len() as u64
}

fn spell(chat: &Request, text: &mut impl Write) -> fmt::Result {
    for Message { parts, name, .. } in &chat.messages {
        text.write_str(name.as_deref().unwrap_or_default())?;
        parts.iter().try_for_each(|part| spell_part(part, text))?;
        text.write_char('\n')?;
    }
    for tool in &chat.tools {
        match tool {
            Tool::Function { name, description, parameters, .. } => {
                write!(text, "{name} {} {parameters}", description.as_deref().unwrap_or_default())?;
            }
            Tool::Other(value) => write!(text, "{value}")?,
        }
    }
    Ok(())
}

fn spell_part(part: &Part, text: &mut impl Write) -> fmt::Result {
    match part {
        Part::Text { text: said, .. } | Part::Refusal(said) | Part::Reasoning { text: said, .. } => {
            text.write_str(said)
        }
        Part::ToolCall(call) => {
            text.write_str(&call.name)?;
            text.write_str(&call.arguments)
        }
        Part::ToolResult { parts, .. } => parts.iter().try_for_each(|part| spell_part(part, text)),
        // Pictures and recordings are not counted by their bytes.
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => Ok(()),
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

    #[test]
    fn a_guess_is_the_length_of_the_texts_and_a_bounded_answer() {
        let messages = vec![Message::new(Role::User, "x".repeat(399))];
        let chat = Request { messages, ..Request::default() };
        assert_eq!(about(&chat, 1000), 104 + 1000);
        assert_eq!(
            about(&Request { max_tokens: Some(10), choices: Some(3), ..chat.clone() }, 1000),
            104 + 30
        );
        assert_eq!(about(&Request { max_tokens: Some(9999), ..chat.clone() }, 1000), 104 + 1000);
        assert_eq!(about(&Request { purpose: Purpose::Embed { dimensions: None }, ..chat }, 1000), 104);
    }
}
