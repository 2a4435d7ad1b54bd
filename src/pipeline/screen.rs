//! Checks and cleans the question: its size, its Unicode form, its control characters.
use std::borrow::Cow;

use serde_json::json;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::settings::{ControlRule, Input as Settings};
use crate::{
    call::Call,
    chat::{Message, Part},
    error::{Error, Result},
    reply::Reply,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct CheckInput {
    /// What it allows.
    pub settings: Settings,
}

impl Stage for CheckInput {
    async fn run<S: Answer>(&self, mut call: Call, next: Next<'_, S>) -> Result<Reply> {
        self.sizes(&call.chat.messages)?;
        let unclean = |text: &str| self.cleaned(text).is_some();
        // Nearly always there is nothing to do: the messages are copied only if there is.
        if call.chat.messages.iter().flat_map(|message| &message.parts).any(|part| any_text(part, &unclean)) {
            if self.settings.control_characters == ControlRule::Block
                && call.chat.messages.iter().flat_map(|m| &m.parts).any(|part| any_text(part, &has_control))
            {
                return Err(Error::Blocked { guard: "control_characters" });
            }
            for part in call.chat_mut().messages.iter_mut().flat_map(|message| &mut message.parts) {
                each_text(part, &mut |text| {
                    if let Some(clean) = self.cleaned(text) {
                        *text = clean;
                    }
                });
            }
            call.trail().note(|notes| notes.cleaned = true);
        }
        call.context.explain("screen", || {
            json!({
                "cleaned": call.trail().notes().cleaned,
                "control_characters": self.settings.control_characters,
                "normalize": self.settings.normalize,
            })
        });
        next.call(call).await
    }
}

impl CheckInput {
    fn sizes(&self, messages: &[Message]) -> Result<()> {
        if messages.len() > self.settings.max_messages {
            let most = self.settings.max_messages;
            return Err(Error::invalid("messages", format!("there are more than {most} messages")));
        }
        // Bytes are never fewer than characters: most conversations need no count.
        let bytes: usize =
            messages.iter().flat_map(|message| &message.parts).map(|part| size(part, &str::len)).sum();
        if bytes > self.settings.max_chars {
            let count = |text: &str| text.chars().count();
            let chars: usize =
                messages.iter().flat_map(|message| &message.parts).map(|part| size(part, &count)).sum();
            if chars > self.settings.max_chars {
                let most = self.settings.max_chars;
                return Err(Error::invalid(
                    "messages",
                    format!("the conversation is longer than {most} characters"),
                ));
            }
        }
        Ok(())
    }

    /// The clean form of a text; `None` where it is clean.
    fn cleaned(&self, text: &str) -> Option<String> {
        let strip = self.settings.control_characters != ControlRule::Off && has_control(text);
        let denormal =
            self.settings.normalize && !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes;
        if !strip && !denormal {
            return None;
        }
        let mut clean = Cow::Borrowed(text);
        if strip {
            clean = Cow::Owned(clean.chars().filter(|c| !is_unwanted(*c)).collect());
        }
        if denormal {
            clean = Cow::Owned(clean.nfc().collect());
        }
        (clean != text).then(|| clean.into_owned())
    }
}

fn has_control(text: &str) -> bool {
    // ASCII without control characters is the common case, and quick to tell.
    let ascii = text.bytes().all(|b| (0x20..0x7f).contains(&b) || matches!(b, b'\n' | b'\r' | b'\t'));
    !ascii && text.chars().any(is_unwanted)
}

/// Control characters besides white space, and characters that hide or turn
/// text around: bidirectional overrides, tag characters, the byte order mark.
fn is_unwanted(c: char) -> bool {
    match c {
        '\n' | '\r' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

fn any_text(part: &Part, test: &impl Fn(&str) -> bool) -> bool {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => test(text),
        Part::ToolResult { parts, .. } => parts.iter().any(|part| any_text(part, test)),
        // Escapes keep the JSON of arguments free of control characters; thoughts are signed to the letter.
        Part::ToolCall(_) | Part::Reasoning { .. } => false,
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => false,
    }
}

fn each_text(part: &mut Part, change: &mut impl FnMut(&mut String)) {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => change(text),
        Part::ToolResult { parts, .. } => parts.iter_mut().for_each(|part| each_text(part, change)),
        Part::ToolCall(_) | Part::Reasoning { .. } => {}
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => {}
    }
}

fn size(part: &Part, measure: &impl Fn(&str) -> usize) -> usize {
    match part {
        Part::Text { text, .. } | Part::Refusal(text) => measure(text),
        Part::ToolResult { parts, .. } => parts.iter().map(|part| size(part, measure)).sum(),
        Part::ToolCall(call) => measure(&call.arguments),
        Part::Reasoning { text, .. } => measure(text),
        // Bounded by the size of the body.
        Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::Other(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> Option<String> {
        CheckInput { settings: Settings::default() }.cleaned(text)
    }

    #[test]
    fn clean_text_is_left_alone() {
        for text in ["", "plain", "two\nlines\tand a tab", "naïve — 東京 🙂 👨‍👩‍👧"] {
            assert_eq!(clean(text), None, "{text}");
        }
    }

    #[test]
    fn hidden_and_control_characters_go_and_accents_are_composed() {
        assert_eq!(clean("a\u{0}b\u{202e}c\u{e0041}").as_deref(), Some("abc"));
        assert_eq!(clean("e\u{301}").as_deref(), Some("é"));
    }
}
