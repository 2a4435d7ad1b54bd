//! The turns of a chat in Anthropic's JSON, borrowed from the request.
use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    chat::{Family, Media, Part, Request, Role, Source, ToolCall},
    error::{Error, Result},
    provider::foreign,
    wire::data_url,
};

/// The conversation, with its instructions apart.
#[derive(Debug, Default)]
pub(super) struct Turns<'a> {
    pub(super) system: Vec<Block<'a>>,
    pub(super) list: Vec<Turn<'a>>,
    /// Some part is a file that the provider holds, which is a beta there.
    pub(super) has_files: bool,
}

/// All that one side says until the other speaks.
#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    pub(super) role: &'static str,
    #[serde(serialize_with = "text_or_blocks")]
    pub(super) content: Vec<Block<'a>>,
}

/// A piece of a turn.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    Image {
        source: SourceJson<'a>,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    Document {
        source: SourceJson<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Input<'a>,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(serialize_with = "text_or_blocks", skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    #[serde(untagged)]
    Other(&'a Value),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum SourceJson<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    File { file_id: &'a str },
    Text { media_type: &'static str, data: Cow<'a, str> },
}

/// What a tool is called with: an object, whatever the model wrote.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(json) => json.serialize(serializer),
            Self::Text("") => serializer.serialize_map(Some(0))?.end(),
            Self::Text(text) => serializer.collect_map([("arguments", text)]),
        }
    }
}

/// What else a part carried: all of it from a caller of this API, else only
/// the wish to be cached, which callers of other APIs spell the same way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a> {
    map: Option<&'a Map<String, Value>>,
    ours: bool,
}

impl<'a> Rest<'a> {
    pub(super) const NONE: Rest<'static> = Rest { map: None, ours: false };

    pub(super) fn of(map: &'a Map<String, Value>, ours: bool) -> Self {
        Self { map: Some(map), ours }
    }

    fn kept(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let ours = self.ours;
        self.map.into_iter().flatten().filter(move |(name, _)| ours || *name == "cache_control")
    }
}

impl Serialize for Rest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.kept())
    }
}

/// A single plain text is written as such, as people do.
pub(super) fn text_or_blocks<S: Serializer>(blocks: &[Block<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    match blocks {
        [Block::Text { text, rest }] if rest.kept().next().is_none() => serializer.serialize_str(text),
        blocks => serializer.collect_seq(blocks),
    }
}

impl<'a> Turns<'a> {
    /// Reads the messages of `chat`.
    pub(super) fn of(chat: &'a Request) -> Result<Self> {
        let mut all = Self::default();
        let reader = Reader { chat, ours: chat.family == Family::Anthropic };
        for message in &chat.messages {
            let mut blocks = Vec::with_capacity(message.parts.len());
            for part in &message.parts {
                blocks.extend(reader.block(part)?);
            }
            all.has_files |= blocks.iter().any(Block::is_file);
            let role = match message.role {
                Role::System | Role::Developer => {
                    all.system.append(&mut blocks);
                    continue;
                }
                Role::User | Role::Tool => "user",
                Role::Assistant => "assistant",
            };
            match all.list.last_mut() {
                _ if blocks.is_empty() => {}
                Some(last) if last.role == role => last.content.append(&mut blocks),
                _ => all.list.push(Turn { role, content: blocks }),
            }
        }
        all.settle();
        Ok(all)
    }

    /// Keeps to what the API demands of the first and the last turn.
    fn settle(&mut self) {
        if self.list.is_empty() && !self.system.is_empty() {
            let content = std::mem::take(&mut self.system);
            self.list.push(Turn { role: "user", content });
        }
        // The beginning of an answer must not end in white space.
        if let Some(Turn { role: "assistant", content }) = self.list.last_mut()
            && let Some(Block::Text { text, .. }) = content.last_mut()
            && text.ends_with(char::is_whitespace)
        {
            *text = text.trim_end().to_owned().into();
            if text.is_empty() {
                content.pop();
            }
        }
        self.list.retain(|turn| !turn.content.is_empty());
    }
}

impl Block<'_> {
    fn is_file(&self) -> bool {
        match self {
            Self::Image { source, .. } | Self::Document { source, .. } => {
                matches!(source, SourceJson::File { .. })
            }
            Self::ToolResult { content, .. } => content.iter().any(Block::is_file),
            _ => false,
        }
    }
}

struct Reader<'a> {
    chat: &'a Request,
    ours: bool,
}

impl Reader<'_> {
    /// A part as a block; `None` where the API has no use for it.
    fn block<'a>(&self, part: &'a Part) -> Result<Option<Block<'a>>> {
        Ok(Some(match part {
            // The API refuses empty texts.
            Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => return Ok(None),
            Part::Text { text, rest } => Block::Text { text: text.into(), rest: Rest::of(rest, self.ours) },
            Part::Refusal(text) => Block::Text { text: text.into(), rest: Rest::NONE },
            Part::Image(media) => Block::Image {
                source: self.source(media, "image/png")?,
                rest: Rest::of(&media.rest, self.ours),
            },
            Part::File(media) => Block::Document {
                source: self.source(media, "application/pdf")?,
                title: media.name.as_deref(),
                rest: Rest::of(&media.rest, self.ours),
            },
            Part::Audio(_) => return Err(self.unsupported("it does not listen to audio")),
            Part::Reasoning { redacted: Some(data), .. } => Block::RedactedThinking { data },
            Part::Reasoning { text, signature: Some(signature), .. } => {
                Block::Thinking { thinking: text, signature }
            }
            Part::ToolCall(ToolCall { id, name, arguments, rest }) => {
                let rest = Rest::of(rest, self.ours);
                Block::ToolUse { id: safe_id(id), name, input: input(arguments), rest }
            }
            Part::ToolResult { id, parts, failed, rest } => {
                let content: Result<Vec<_>> =
                    parts.iter().filter_map(|part| self.block(part).transpose()).collect();
                let (tool_use_id, is_error, rest) = (safe_id(id), *failed, Rest::of(rest, self.ours));
                Block::ToolResult { tool_use_id, content: content?, is_error, rest }
            }
            Part::Other(value) if self.ours => Block::Other(value),
            Part::Other(value) => {
                foreign::part(self.chat, value)?;
                return Ok(None);
            }
            // A thought without proof of its author is refused.
            Part::Reasoning { .. } => return Ok(None),
        }))
    }

    fn source<'a>(&self, media: &'a Media, mime: &'a str) -> Result<SourceJson<'a>> {
        let mime = media.mime.as_deref().unwrap_or(mime);
        Ok(match &media.source {
            Source::Base64(data) if mime.starts_with("text/") => {
                let bytes = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let text =
                    bytes.ok_or_else(|| self.unsupported("a text document has to be UTF-8 in base64"))?;
                SourceJson::Text { media_type: "text/plain", data: text.into() }
            }
            Source::Base64(data) => SourceJson::Base64 { media_type: mime, data },
            Source::Url(url) => match data_url(url) {
                Some((media_type, data)) => SourceJson::Base64 { media_type, data },
                None => SourceJson::Url { url },
            },
            Source::Id(file_id) => SourceJson::File { file_id },
            Source::Text(text) => SourceJson::Text { media_type: "text/plain", data: text.into() },
        })
    }

    fn unsupported(&self, what: &'static str) -> Error {
        Error::Unsupported { model: self.chat.model.clone(), what: what.into() }
    }
}

fn input(arguments: &str) -> Input<'_> {
    let json = serde_json::from_str::<&RawValue>(arguments).ok();
    let object = json.filter(|json| json.get().starts_with('{'));
    object.map_or(Input::Text(arguments.trim()), Input::Json)
}

/// An id of a tool call that the API takes; other vendors' may have dots and colons.
fn safe_id(id: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if id.chars().all(safe) { id.into() } else { id.replace(|c| !safe(c), "_").into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::Message;

    fn turns(messages: Vec<Message>, family: Family) -> Value {
        let chat = Request { messages, family, ..Request::default() };
        let all = Turns::of(&chat).unwrap();
        json!({"system": all.system, "turns": all.list, "files": all.has_files})
    }

    fn message(role: Role, parts: Vec<Part>) -> Message {
        Message { role, parts, name: None }
    }

    fn rest() -> Map<String, Value> {
        json!({"cache_control": {"type": "ephemeral"}, "citations": {}}).as_object().cloned().unwrap()
    }

    fn result(id: &str, parts: Vec<Part>, failed: bool) -> Part {
        // Failed or not, its wish to be cached goes along.
        let rest = rest().into_iter().filter(|(name, _)| failed && name == "cache_control").collect();
        Part::ToolResult { id: id.into(), parts, failed, rest }
    }

    fn text(text: &str) -> Part {
        Part::Text { text: text.into(), rest: Map::new() }
    }

    #[test]
    fn a_conversation_with_tools_becomes_turns() {
        let call = |id: &str, arguments: &str| {
            let rest = if id == "b" { rest() } else { Map::new() };
            Part::ToolCall(ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), rest })
        };
        let messages = vec![
            Message::new(Role::System, "be kind"),
            Message::new(Role::User, "hi"),
            Message::new(Role::User, "there"),
            message(
                Role::Assistant,
                vec![text(""), call("f:0", r#"{"a": 1}"#), call("b", ""), call("c", "oops")],
            ),
            message(Role::Tool, vec![result("f:0", vec![text("one")], false)]),
            message(Role::Tool, vec![result("b", vec![], true)]),
            Message::new(Role::User, "and?"),
            Message::new(Role::Assistant, "Well, "),
        ];
        let expected = json!({
            "system": [{"type": "text", "text": "be kind"}],
            "files": false,
            "turns": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "f_0", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "b", "name": "f", "input": {}, "cache_control": {"type": "ephemeral"}},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"arguments": "oops"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "f_0", "content": "one"},
                    {"type": "tool_result", "tool_use_id": "b", "is_error": true, "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "and?"}]},
                {"role": "assistant", "content": "Well,"}
            ]
        });
        assert_eq!(turns(messages, Family::OpenAi), expected);
    }

    #[test]
    fn only_a_proven_thought_is_given_back() {
        let thought = |text: &str, signature: Option<&str>, redacted: Option<&str>| Part::Reasoning {
            text: text.into(),
            signature: signature.map(Into::into),
            redacted: redacted.map(Into::into),
        };
        let parts =
            vec![thought("a", None, None), thought("b", Some("s"), None), thought("", None, Some("x"))];
        let read = turns(vec![message(Role::Assistant, parts)], Family::Anthropic);
        let expected = json!([{"type": "thinking", "thinking": "b", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"}]);
        assert_eq!(read["turns"][0]["content"], expected);
    }

    #[test]
    fn media_are_written_in_their_own_words() {
        let media =
            |source: Source, mime: &str| Media { source, mime: Some(mime.into()), name: None, rest: rest() };
        let parts = vec![
            Part::Image(media(Source::Url("data:image/gif;base64,AAAA".into()), "image/gif")),
            Part::Image(media(Source::Url("https://a.test/b.png".into()), "image/png")),
            Part::File(media(Source::Base64("aGk=".into()), "text/markdown")),
            Part::File(media(Source::Id("file_1".into()), "application/pdf")),
        ];
        let read = turns(vec![message(Role::User, parts)], Family::OpenAi);
        let cached = json!({"type": "ephemeral"});
        let expected = json!([
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA"}, "cache_control": cached},
            {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}, "cache_control": cached},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}, "cache_control": cached},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "cache_control": cached}
        ]);
        assert_eq!((&read["turns"][0]["content"], &read["files"]), (&expected, &json!(true)));
    }

    #[test]
    fn what_a_part_carries_is_kept_for_its_own_api() {
        let parts = || vec![Part::Text { text: "a".into(), rest: rest() }, Part::Other(json!({"type": "x"}))];
        let ours = turns(vec![message(Role::User, parts())], Family::Anthropic);
        let expected = json!([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "citations": {}},
            {"type": "x"}]);
        assert_eq!(ours["turns"][0]["content"], expected);
        let mut theirs = parts();
        theirs[1] = Part::Other(json!({"type": "web_search_tool_result"}));
        let theirs = turns(vec![message(Role::User, theirs)], Family::OpenAi);
        let expected = json!([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]);
        assert_eq!(theirs["turns"][0]["content"], expected);
        // What nobody would see is refused.
        let messages = vec![message(Role::User, parts())];
        let chat = Request { messages, family: Family::OpenAi, ..Request::default() };
        assert!(matches!(Turns::of(&chat), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn instructions_alone_are_asked_by_the_user() {
        let read = turns(vec![Message::new(Role::System, "say hi")], Family::OpenAi);
        assert_eq!(
            read,
            json!({"system": [], "turns": [{"role": "user", "content": "say hi"}], "files": false})
        );
    }
}
