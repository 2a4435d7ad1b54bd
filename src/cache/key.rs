//! What makes two questions equal.
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::chat::{Format, Grounding, Media, Part, Purpose, Reasoning, Request, Source, Tool, ToolChoice};

/// A digest of all that an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a chat for a tenant. `versions` are those of prompt,
    /// documents and policy: an answer is never served across a change.
    pub fn new(tenant: &str, versions: &[&str], chat: &Request) -> Self {
        let mut hash = Fields(Sha256::new());
        hash.text(tenant);
        hash.number(versions.len() as u64);
        versions.iter().for_each(|version| hash.text(version));
        hash.request(chat);
        let digest: [u8; 32] = hash.0.finalize().into();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }

    /// The key that these bytes are.
    pub fn of(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Feeds fields so that no two lists of them look the same: each says its length.
struct Fields(Sha256);

impl Fields {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn maybe(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.number(u64::MAX),
        }
    }

    fn float(&mut self, number: Option<f64>) {
        self.number(number.map_or(u64::MAX, f64::to_bits));
    }

    fn json(&mut self, value: &Value) {
        // A `Value` always has a spelling; one that had none would equal only itself.
        self.text(&serde_json::to_string(value).unwrap_or_default());
    }

    fn map(&mut self, map: &serde_json::Map<String, Value>) {
        self.number(map.len() as u64);
        for (name, value) in map {
            self.text(name);
            self.json(value);
        }
    }

    fn request(&mut self, chat: &Request) {
        // Named one by one, so that a new field makes the compiler ask whether answers depend on it.
        let Request {
            model,
            messages,
            purpose,
            mode,
            stream: _, // the same answer either way
            max_tokens,
            temperature,
            top_p,
            stop,
            seed,
            choices,
            tools,
            tool_choice,
            parallel_tool_calls,
            format,
            reasoning,
            user: _, // a name for the provider's abuse desk
            grounding,
            family,
            rest,
        } = chat;
        self.text(model);
        match purpose {
            Purpose::Chat => self.number(0),
            Purpose::Embed { dimensions } => {
                self.number(1 + dimensions.map_or(0, |length| 1 + u64::from(length)));
            }
        }
        self.number(*mode as u64);
        self.number(*family as u64);
        self.number(messages.len() as u64);
        for message in messages {
            self.number(message.role as u64);
            self.maybe(message.name.as_deref());
            self.parts(&message.parts);
        }
        self.number(max_tokens.map_or(u64::MAX, u64::from));
        self.float(*temperature);
        self.float(*top_p);
        self.number(stop.len() as u64);
        stop.iter().for_each(|text| self.text(text));
        self.number(u64::from(seed.is_some()));
        self.number(seed.unwrap_or_default().cast_unsigned());
        self.number(choices.map_or(u64::MAX, u64::from));
        self.number(parallel_tool_calls.map_or(2, u64::from));
        self.number(u64::from(reasoning.is_some()));
        if let Some(Reasoning { effort, budget, rest }) = reasoning {
            self.maybe(effort.as_deref());
            self.number(budget.map_or(u64::MAX, u64::from));
            self.map(rest);
        }
        self.number(tools.len() as u64);
        tools.iter().for_each(|tool| self.tool(tool));
        match tool_choice {
            None => self.number(0),
            Some(ToolChoice::Auto) => self.number(1),
            Some(ToolChoice::None) => self.number(2),
            Some(ToolChoice::Required) => self.number(3),
            Some(ToolChoice::Named(name)) => self.text(name),
            Some(ToolChoice::Other(value)) => self.json(value),
        }
        match format {
            None => self.number(0),
            Some(Format::Text) => self.number(1),
            Some(Format::Json) => self.number(2),
            Some(Format::Schema { name, schema, description, strict }) => {
                self.text(name);
                self.json(schema);
                self.maybe(description.as_deref());
                self.number(strict.map_or(2, u64::from));
            }
        }
        self.grounding(grounding.as_deref());
        self.map(rest);
    }

    fn grounding(&mut self, grounding: Option<&Grounding>) {
        let Some(Grounding { question, passages }) = grounding else { return self.number(0) };
        self.text(question);
        self.number(passages.len() as u64);
        passages.iter().for_each(|passage| self.text(&passage.text));
    }

    fn tool(&mut self, tool: &Tool) {
        match tool {
            Tool::Function { name, description, parameters, strict, rest } => {
                self.text(name);
                self.maybe(description.as_deref());
                self.json(parameters);
                self.number(strict.map_or(2, u64::from));
                self.map(rest);
            }
            Tool::Other(value) => self.json(value),
        }
    }

    fn parts(&mut self, parts: &[Part]) {
        self.number(parts.len() as u64);
        for part in parts {
            match part {
                Part::Text { text, rest } => {
                    self.number(0);
                    self.text(text);
                    self.map(rest);
                }
                Part::Image(media) => self.media(1, media),
                Part::File(media) => self.media(2, media),
                Part::Audio(media) => self.media(3, media),
                Part::Reasoning { text, signature, redacted } => {
                    self.number(4);
                    self.text(text);
                    self.maybe(signature.as_deref());
                    self.maybe(redacted.as_deref());
                }
                Part::ToolCall(call) => {
                    self.number(5);
                    self.text(&call.id);
                    self.text(&call.name);
                    self.text(&call.arguments);
                    self.map(&call.rest);
                }
                Part::ToolResult { id, parts, failed, rest } => {
                    self.number(6 + u64::from(*failed));
                    self.text(id);
                    self.parts(parts);
                    self.map(rest);
                }
                Part::Refusal(text) => {
                    self.number(8);
                    self.text(text);
                }
                Part::Other(value) => {
                    self.number(9);
                    self.json(value);
                }
            }
        }
    }

    fn media(&mut self, kind: u64, media: &Media) {
        self.number(kind);
        let (kind, text) = match &media.source {
            Source::Base64(text) => (0, text),
            Source::Url(text) => (1, text),
            Source::Id(text) => (2, text),
            Source::Text(text) => (3, text),
        };
        self.number(kind);
        self.text(text);
        self.maybe(media.mime.as_deref());
        self.maybe(media.name.as_deref());
        self.map(&media.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};

    fn chat(text: &str) -> Request {
        Request { model: "m".into(), messages: vec![Message::new(Role::User, text)], ..Request::default() }
    }

    #[test]
    fn all_that_matters_is_in_the_key_and_nothing_else() {
        let key = |tenant: &str, chat: &Request| Key::new(tenant, &["v1"], chat);
        let base = key("t", &chat("q"));
        assert_eq!(base, key("t", &Request { stream: true, user: Some("u".into()), ..chat("q") }));
        assert_ne!(base, key("other tenant", &chat("q")));
        assert_ne!(base, Key::new("t", &["v2"], &chat("q")));
        assert_ne!(base, key("t", &chat("Q")));
        assert_ne!(base, key("t", &Request { temperature: Some(0.5), ..chat("q") }));
        assert_ne!(base, key("t", &Request { seed: Some(1), ..chat("q") }));
        assert_ne!(base, key("t", &Request { model: "n".into(), ..chat("q") }));
        let mut rest = chat("q");
        rest.rest.insert("top_k".into(), 1.into());
        assert_ne!(base, key("t", &rest));
        let mut split = chat("ab");
        split.messages = vec![Message::new(Role::User, "a"), Message::new(Role::User, "b")];
        assert_ne!(key("t", &chat("ab")), key("t", &split));
    }
}
