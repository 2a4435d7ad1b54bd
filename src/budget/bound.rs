//! The most that a call can take, in tokens, before it is made.
//!
//! A true bound, not an estimate: tokenizers that work on bytes make at most
//! one token of a byte. What cannot be bounded is refused.
use serde_json::Value;

use super::Settings;
use crate::{
    chat::{Event, Format, Message, Part, Purpose, Request, Source, Tool, ToolChoice},
    error::{Error, Result},
};

/// What a vendor's template may put around a conversation.
const PER_CALL: u64 = 64;
/// What it may put around a message: roles, separators.
const PER_MESSAGE: u64 = 16;
/// What it may put around a piece of a message.
const PER_PART: u64 = 16;
/// The instructions that vendors add where there are tools or a schema.
const WITH_TOOLS: u64 = 2048;
/// How much longer a schema becomes when a vendor writes it in its own way.
const RESPELLED: u64 = 2;

/// The most tokens of the question, and of the answers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Tokens read.
    pub input: u64,
    /// Tokens written, thoughts included.
    pub output: u64,
}

impl Bound {
    /// The bound of a call. Fails where there is none, naming the field.
    pub fn of(chat: &Request, settings: &Settings) -> Result<Self> {
        let mut input = PER_CALL;
        for (index, message) in chat.messages.iter().enumerate() {
            // Texts to embed are messages to us, and `input` to who asks.
            let told = |what| match chat.purpose {
                Purpose::Embed { .. } => Error::invalid("input", what),
                Purpose::Chat => Error::invalid(format!("messages[{index}]"), what),
            };
            input += this_message(message, settings).map_err(told)?;
        }
        if !chat.tools.is_empty() || chat.format.is_some() {
            input += WITH_TOOLS;
        }
        for (index, tool) in chat.tools.iter().enumerate() {
            input += this_tool(tool).map_err(|what| Error::invalid(format!("tools[{index}]"), what))?;
        }
        if let Some(Format::Schema { name, schema, description, .. }) = &chat.format {
            let words = name.len() + description.as_deref().map_or(0, str::len);
            input += words as u64 + json(schema) * RESPELLED;
        }
        if let Some(ToolChoice::Other(value)) = &chat.tool_choice {
            input += json(value);
        }
        for (name, value) in &chat.rest {
            if !value.is_null() && settings.refuse_parameters.contains(name) && !is_ordinary(name, value) {
                return Err(Error::invalid(
                    name.as_str(),
                    "may not be used where a budget applies: it makes a call cost more than can be told before",
                ));
            }
            input += name.len() as u64 + json(value);
        }
        let output = match chat.purpose {
            Purpose::Embed { .. } => 0,
            Purpose::Chat => {
                let most = chat.max_tokens.unwrap_or(settings.default_max_tokens);
                u64::from(most) * u64::from(chat.choice_count())
            }
        };
        Ok(Self { input, output })
    }
}

/// The values that change nothing.
fn is_ordinary(name: &str, value: &Value) -> bool {
    match name {
        "service_tier" => matches!(value.as_str(), Some("auto" | "default" | "flex" | "standard_only")),
        "speed" => value == "standard",
        "modalities" => value.as_array().is_some_and(|all| all.iter().all(|one| one == "text")),
        "background" => value == false,
        _ => value.as_array().is_some_and(Vec::is_empty),
    }
}

fn this_message(message: &Message, settings: &Settings) -> Result<u64, &'static str> {
    let name = message.name.as_deref().map_or(0, str::len);
    let parts = message.parts.iter().map(|part| this_part(part, settings)).sum::<Result<u64, _>>()?;
    Ok(PER_MESSAGE + name as u64 + parts)
}

fn this_part(part: &Part, settings: &Settings) -> Result<u64, &'static str> {
    let size = |texts: &[&str]| texts.iter().map(|text| text.len() as u64).sum::<u64>();
    let tokens = match part {
        Part::Text { text, .. } | Part::Refusal(text) => size(&[text]),
        Part::Reasoning { text, signature, redacted } => {
            let of = |text: &Option<String>| text.as_deref().map_or(0, str::len) as u64;
            size(&[text]) + of(signature) + of(redacted)
        }
        Part::Image(_) => settings.image_tokens,
        // No recording has as many tokens as bytes.
        Part::Audio(media) => match &media.source {
            Source::Base64(bytes) => size(&[bytes]),
            _ => {
                return Err(
                    "a recording elsewhere may not be used where a budget applies: its length is not known",
                );
            }
        },
        Part::File(media) => match (&media.source, settings.file_tokens) {
            (Source::Text(text), _) => size(&[text]) + size(&[media.name.as_deref().unwrap_or_default()]),
            (_, Some(most)) => most,
            _ => {
                return Err(
                    "a document may not be used where a budget applies, as its length is not known; `budget.file_tokens` allows it",
                );
            }
        },
        Part::ToolCall(call) => size(&[&call.name, &call.arguments]) * RESPELLED,
        Part::ToolResult { id, parts, .. } => {
            size(&[id]) + parts.iter().map(|part| this_part(part, settings)).sum::<Result<u64, _>>()?
        }
        Part::Other(_) => {
            return Err(
                "this kind of content may not be used where a budget applies: what it costs is not known before",
            );
        }
    };
    Ok(PER_PART + tokens)
}

fn this_tool(tool: &Tool) -> Result<u64, &'static str> {
    match tool {
        Tool::Function { name, description, parameters, rest, .. } => {
            let words = name.len() + description.as_deref().map_or(0, str::len);
            let rest: u64 = rest.values().map(json).sum();
            Ok(PER_PART + (words as u64 + json(parameters)) * RESPELLED + rest)
        }
        // Described in full, and run by the caller.
        Tool::Other(value) if value["type"] == "custom" => Ok(PER_PART + json(value) * RESPELLED),
        Tool::Other(_) => Err(
            "a tool that the provider runs itself may not be used where a budget applies: what it costs is not known before",
        ),
    }
}

/// About the length of a value as JSON, in bytes, and rather more.
fn json(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 25,
        Value::String(text) => text.len() as u64 + 2,
        Value::Array(all) => 2 + all.iter().map(|one| json(one) + 1).sum::<u64>(),
        Value::Object(all) => {
            2 + all.iter().map(|(name, one)| name.len() as u64 + 4 + json(one)).sum::<u64>()
        }
    }
}

/// Counts the tokens that a text has at least, piece by piece as it comes: a word of letters is
/// never joined with the next one, nor are figures in threes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AtLeast {
    tokens: u64,
    run: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Other,
    Letter,
    Digit,
}

/// No token has more letters.
const LETTERS: u32 = 32;
/// No token has more figures.
const DIGITS: u32 = 3;

impl AtLeast {
    /// More of the text.
    pub fn read(&mut self, text: &str) {
        for letter in text.chars() {
            let (kind, most) = if letter.is_ascii_digit() {
                (Kind::Digit, DIGITS)
            } else if letter.is_alphabetic() {
                (Kind::Letter, LETTERS)
            } else {
                (Kind::Other, u32::MAX)
            };
            self.run = if kind == self.kind { self.run + 1 } else { 1 };
            self.kind = kind;
            // The first of a run, and the first past each longest token.
            if kind != Kind::Other && self.run % most == 1 {
                self.tokens += 1;
            }
        }
    }

    /// The tokens that it has at least.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// Ends an answer that is longer than its provider was asked for.
#[derive(Debug)]
pub struct Cut {
    most: u64,
    /// Each text of the answer by itself: which answer, which of its tool calls, what kind.
    texts: Vec<((u32, u32, u8), AtLeast)>,
    total: u64,
}

/// More texts at once are not told apart: then they are not counted.
const MOST_TEXTS: usize = 64;

impl Cut {
    /// After so many tokens.
    pub fn after(most: u64) -> Self {
        Self { most, texts: Vec::with_capacity(1), total: 0 }
    }

    /// Reads what goes by, and objects to what is too much.
    pub fn read(&mut self, event: &Event) -> Result<()> {
        let (name, text) = match event {
            Event::Text { choice, text } => ((*choice, 0, 0), text),
            Event::Reasoning { choice, text, .. } => ((*choice, 0, 1), text),
            Event::Refusal { choice, text } => ((*choice, 0, 2), text),
            Event::ToolCall { choice, index, arguments, .. } => ((*choice, *index, 3), arguments),
            _ => return Ok(()),
        };
        let at = self.texts.iter().position(|(known, _)| *known == name).or_else(|| {
            self.texts.push((name, AtLeast::default()));
            (self.texts.len() <= MOST_TEXTS).then_some(self.texts.len() - 1)
        });
        let Some(at) = at else {
            self.texts.truncate(MOST_TEXTS);
            return Ok(());
        };
        let counter = &mut self.texts[at].1;
        let before = counter.tokens();
        counter.read(text);
        self.total += counter.tokens() - before;
        if self.total > self.most { Err(Error::OverReservation) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{chat::Role, tokens};

    fn chat(text: &str) -> Request {
        Request { messages: vec![Message::new(Role::User, text)], max_tokens: Some(7), ..Request::default() }
    }

    fn bound(chat: &Request) -> Result<Bound> {
        Bound::of(chat, &Settings::default())
    }

    #[test]
    fn what_cannot_be_bounded_is_refused_by_name() {
        let mut ask = chat("hi");
        ask.choices = Some(3);
        assert_eq!(bound(&ask).unwrap().output, 21);
        ask.tools = vec![Tool::Other(json!({"type": "web_search"}))];
        assert!(bound(&ask).unwrap_err().to_string().starts_with("`tools[0]`: a tool that the provider"));
        ask.tools = vec![Tool::Other(json!({"type": "custom", "name": "x"}))];
        bound(&ask).unwrap();
        ask.rest.insert("service_tier".into(), json!("auto"));
        bound(&ask).unwrap();
        ask.rest.insert("service_tier".into(), json!("priority"));
        assert!(bound(&ask).unwrap_err().to_string().starts_with("`service_tier`: may not be used"));
        let mut ask = chat("hi");
        ask.messages[0].parts.push(Part::File(crate::chat::Media::default()));
        assert!(bound(&ask).unwrap_err().to_string().starts_with("`messages[0]`: a document"));
        let settings = Settings { file_tokens: Some(1000), ..Settings::default() };
        assert!(Bound::of(&ask, &settings).unwrap().input > 1000);
        ask.purpose = Purpose::Embed { dimensions: None };
        assert_eq!(Bound::of(&ask, &settings).unwrap().output, 0);
    }

    proptest! {
        #[test]
        fn no_text_has_more_tokens_than_the_bound(text in ".{0,200}") {
            let usage = tokens::estimate(&chat(&text), "", None);
            prop_assert!(bound(&chat(&text)).unwrap().input >= usage.input);
        }

        #[test]
        fn no_text_has_fewer_tokens_than_it_has_at_least(
            text in "([a-z]{1,12}[ ,.]|[0-9]{1,7} |[äßé中文字]{1,3} |[A-Z]{1,40}|\\n){0,30}", cut in 0_usize..200,
        ) {
            let mut least = AtLeast::default();
            let cut = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
            least.read(&text[..cut]);
            least.read(&text[cut..]);
            prop_assert!(least.tokens() <= tokens::count(&text), "{} of {}", least.tokens(), tokens::count(&text));
        }
    }
}
