//! The messages of a chat in OpenAI's JSON.
use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value};

use crate::{
    chat::{Media, Message, Part, Request, Role, Source, ToolCall},
    wire::openai::role_name,
};

/// All messages. One of ours may become several: each tool's result is its own.
pub(super) struct Messages<'a> {
    pub(super) chat: &'a Request,
    /// Whether the caller spoke this API, so that what it carried is understood here.
    pub(super) ours: bool,
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ours = self.ours;
        let mut seq = serializer.serialize_seq(None)?;
        for message in &self.chat.messages {
            let mut results = 0;
            for part in &message.parts {
                if let Part::ToolResult { id, parts, .. } = part {
                    results += 1;
                    let (role, content) = ("tool", ToolText(parts));
                    seq.serialize_element(&ToolMessage { role, tool_call_id: id, content })?;
                }
            }
            let spoken = Spoken { message, ours };
            if results == 0 || spoken.parts().next().is_some() {
                seq.serialize_element(&spoken)?;
            }
        }
        seq.end()
    }
}

#[derive(Serialize)]
struct ToolMessage<'a> {
    role: &'static str,
    tool_call_id: &'a str,
    content: ToolText<'a>,
}

/// A tool's result as one text, the only form that every server takes.
struct ToolText<'a>(&'a [Part]);

impl fmt::Display for ToolText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for part in self.0 {
            let line = if std::mem::take(&mut first) { "" } else { "\n" };
            match part {
                Part::Text { text, .. } => write!(f, "{line}{text}")?,
                Part::Other(value) => write!(f, "{line}{value}")?,
                // Pictures and documents follow in a user's message; see `Spoken::parts`.
                _ => first = line.is_empty(),
            }
        }
        Ok(())
    }
}

impl Serialize for ToolText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            [Part::Text { text, .. }] => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

/// A message without its tools' results.
struct Spoken<'a> {
    message: &'a Message,
    ours: bool,
}

impl<'a> Spoken<'a> {
    /// What goes into `content`: what tools have shown, which the API does not
    /// take as their result, and then what is said.
    fn parts(&self) -> impl Iterator<Item = &'a Part> + Clone + use<'a> {
        let ours = self.ours;
        let shown = self.message.parts.iter().flat_map(|part| match part {
            Part::ToolResult { parts, .. } => parts.as_slice(),
            _ => &[],
        });
        let shown = shown.filter(|part| matches!(part, Part::Image(_) | Part::File(_)));
        let said = self.message.parts.iter().filter(move |part| match part {
            Part::Text { .. } | Part::Image(_) | Part::File(_) | Part::Audio(_) => true,
            Part::Other(_) => ours,
            Part::Reasoning { .. } | Part::ToolCall(_) | Part::ToolResult { .. } | Part::Refusal(_) => false,
        });
        shown.chain(said)
    }

    fn calls(&self) -> impl Iterator<Item = &'a ToolCall> + use<'a> {
        self.message.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}

impl Serialize for Spoken<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let role = match self.message.role {
            // What a message of tools' results says beside them is said by the user.
            Role::Tool => Role::User,
            role => role,
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", role_name(role))?;
        if let Some(name) = &self.message.name {
            map.serialize_entry("name", name)?;
        }
        let refusal = self.message.parts.iter().find_map(|part| match part {
            Part::Refusal(text) => Some(text),
            _ => None,
        });
        let called = self.calls().next().is_some();
        if self.parts().next().is_none() && (called || refusal.is_some()) {
            map.serialize_entry("content", &())?;
        } else {
            map.serialize_entry("content", &Content(self))?;
        }
        if let Some(refusal) = refusal {
            map.serialize_entry("refusal", refusal)?;
        }
        if called {
            map.serialize_entry("tool_calls", &Calls(self))?;
        }
        map.end()
    }
}

struct Content<'a>(&'a Spoken<'a>);

impl Content<'_> {
    fn is_plain(&self, part: &Part) -> bool {
        matches!(part, Part::Text { rest, .. } if rest.is_empty() || !self.0.ours)
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = self.0.parts();
        match (parts.next(), parts.next()) {
            (None, _) => serializer.serialize_str(""),
            (Some(Part::Text { text, rest }), None) if rest.is_empty() || !self.0.ours => {
                serializer.serialize_str(text)
            }
            // Many servers take a list only where there are pictures.
            _ if !self.0.ours && self.0.parts().all(|part| self.is_plain(part)) => {
                serializer.collect_str(&Joined(self.0))
            }
            _ => serializer.collect_seq(self.0.parts().map(|part| ContentPart { part, ours: self.0.ours })),
        }
    }
}

struct Joined<'a>(&'a Spoken<'a>);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.parts().enumerate() {
            if let Part::Text { text, .. } = part {
                write!(f, "{}{text}", if index == 0 { "" } else { "\n\n" })?;
            }
        }
        Ok(())
    }
}

/// What makes a part what it is: written from its own fields and never copied from `rest`.
const WRITTEN: &[&str] = &["detail", "file", "image_url", "input_audio", "text", "type"];

struct ContentPart<'a> {
    part: &'a Part,
    ours: bool,
}

impl Serialize for ContentPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut rest = None;
        match self.part {
            Part::Text { text, rest: own } => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", text)?;
                rest = Some(own);
            }
            Part::Image(media) | Part::File(media) | Part::Audio(media)
                if matches!(media.source, Source::Text(_)) =>
            {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("text", &Address(media))?;
            }
            Part::Image(media) if !matches!(media.source, Source::Id(_)) => {
                map.serialize_entry("type", "image_url")?;
                let detail = media.rest.get("detail").filter(|_| self.ours);
                map.serialize_entry("image_url", &ImageUrl { url: Address(media), detail })?;
                rest = Some(&media.rest);
            }
            Part::Audio(media) => {
                map.serialize_entry("type", "input_audio")?;
                let audio = InputAudio { data: Bare(media), format: audio_format(media) };
                map.serialize_entry("input_audio", &audio)?;
                rest = Some(&media.rest);
            }
            Part::Image(media) | Part::File(media) => {
                map.serialize_entry("type", "file")?;
                map.serialize_entry("file", &File(media))?;
                rest = Some(&media.rest);
            }
            Part::Other(Value::Object(own)) => rest = Some(own),
            // Not content; `Spoken::parts` leaves them out.
            Part::Other(_)
            | Part::Reasoning { .. }
            | Part::ToolCall(_)
            | Part::ToolResult { .. }
            | Part::Refusal(_) => {}
        }
        let ours = !matches!(self.part, Part::Other(_));
        for (name, value) in rest.filter(|_| self.ours).into_iter().flat_map(Map::iter) {
            // What stands twice is read by the second by some: by another part than was judged.
            if !(ours && WRITTEN.contains(&name.as_str())) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Address<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a Value>,
}

#[derive(Serialize)]
struct InputAudio<'a> {
    data: Bare<'a>,
    format: &'a str,
}

/// The word for an audio format, from its MIME type.
fn audio_format(media: &Media) -> &str {
    let mime = media.mime.as_deref().unwrap_or("audio/wav");
    match mime.rsplit('/').next().unwrap_or(mime) {
        "mpeg" | "mp3" => "mp3",
        "wav" | "x-wav" | "wave" => "wav",
        other => other,
    }
}

struct File<'a>(&'a Media);

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Source::Id(id) = &self.0.source {
            map.serialize_entry("file_id", id)?;
        } else {
            map.serialize_entry("file_data", &Address(self.0))?;
        }
        if let Some(name) = &self.0.name {
            map.serialize_entry("filename", name)?;
        } else if matches!(self.0.source, Source::Base64(_)) {
            // The API refuses bytes without a name.
            map.serialize_entry("filename", "document")?;
        }
        map.end()
    }
}

/// A medium as an address: its own, or its bytes as a `data:` URL.
struct Address<'a>(&'a Media);

impl Serialize for Address<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.source {
            Source::Base64(bytes) => {
                let mime = self.0.mime.as_deref().unwrap_or("application/octet-stream");
                serializer.collect_str(&format_args!("data:{mime};base64,{bytes}"))
            }
            Source::Url(text) | Source::Id(text) | Source::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// A medium's bytes or address, as they are.
struct Bare<'a>(&'a Media);

impl Serialize for Bare<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.source {
            Source::Base64(text) | Source::Url(text) | Source::Id(text) | Source::Text(text) => {
                serializer.serialize_str(text)
            }
        }
    }
}

struct Calls<'a>(&'a Spoken<'a>);

impl Serialize for Calls<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.calls().map(|call| Call {
            id: &call.id,
            kind: "function",
            function: CallFunction {
                name: &call.name,
                // Templates of open models read the arguments as JSON, which nothing is not.
                arguments: if call.arguments.is_empty() { "{}" } else { &call.arguments },
            },
        }))
    }
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CallFunction<'a>,
}

#[derive(Serialize)]
struct CallFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(messages: Vec<Message>, ours: bool) -> Value {
        let chat = Request { messages, ..Request::default() };
        serde_json::to_value(Messages { chat: &chat, ours }).unwrap()
    }

    fn message(role: Role, parts: Vec<Part>) -> Message {
        Message { role, parts, name: None }
    }

    fn text(text: &str) -> Part {
        let rest = json!({"cache_control": {"type": "ephemeral"}}).as_object().cloned().unwrap();
        Part::Text { text: text.into(), rest }
    }

    fn media(source: Source, mime: &str) -> Media {
        let rest = json!({"detail": "low"}).as_object().cloned().unwrap();
        Media { source, mime: Some(mime.into()), name: None, rest }
    }

    #[test]
    fn a_conversation_with_tools_keeps_its_order() {
        let call = ToolCall { id: "c1".into(), name: "f".into(), ..ToolCall::default() };
        let thought = Part::Reasoning { text: "hm".into(), signature: None, redacted: None };
        let picture = Part::Image(media(Source::Base64("AAAA".into()), "image/png"));
        let results = vec![
            Part::ToolResult {
                id: "c1".into(),
                parts: vec![text("one"), picture, text("two")],
                failed: false,
                rest: Map::new(),
            },
            text("and?"),
        ];
        let messages = vec![
            Message::new(Role::Developer, "be kind"),
            message(Role::Assistant, vec![thought, Part::ToolCall(call)]),
            message(Role::User, results),
            message(Role::Assistant, vec![Part::Refusal("no".into())]),
        ];
        assert_eq!(
            written(messages, false),
            json!([
                {"role": "developer", "content": "be kind"},
                {"role": "assistant", "content": null,
                 "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "one\ntwo"},
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "text", "text": "and?"}]},
                {"role": "assistant", "content": null, "refusal": "no"}
            ])
        );
    }

    #[test]
    fn what_a_part_carries_goes_to_its_own_api_only() {
        let parts = || vec![text("a"), text("b")];
        assert_eq!(written(vec![message(Role::User, parts())], false)[0]["content"], "a\n\nb");
        let kept = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
        assert_eq!(written(vec![message(Role::User, parts())], true)[0]["content"][0], kept);
        let other = || vec![text("a"), Part::Other(json!({"type": "video_url", "video_url": {}}))];
        assert_eq!(written(vec![message(Role::User, other())], false)[0]["content"], "a");
        assert_eq!(written(vec![message(Role::User, other())], true)[0]["content"][1]["type"], "video_url");
    }

    #[test]
    fn what_a_part_carries_makes_no_other_part_of_it() {
        let rest =
            json!({"type": "text", "text": "obey", "image_url": {"url": "b"}, "x": 1, "detail": "low"});
        let media =
            Media { rest: rest.as_object().cloned().unwrap(), ..media(Source::Url("a".into()), "image/png") };
        let chat =
            Request { messages: vec![message(Role::User, vec![Part::Image(media)])], ..Request::default() };
        let json = serde_json::to_string(&Messages { chat: &chat, ours: true }).unwrap();
        let part = r#"{"type":"image_url","image_url":{"url":"a","detail":"low"},"x":1}"#;
        assert_eq!(json, format!(r#"[{{"role":"user","content":[{part}]}}]"#));
    }

    #[test]
    fn media_are_written_in_their_own_words() {
        let parts = vec![
            Part::Image(media(Source::Url("https://a.test/b.png".into()), "image/png")),
            Part::Audio(media(Source::Base64("AAAA".into()), "audio/mpeg")),
            Part::File(media(Source::Base64("AAAA".into()), "application/pdf")),
            Part::File(media(Source::Id("file-1".into()), "application/pdf")),
            Part::File(media(Source::Text("plain".into()), "text/plain")),
        ];
        assert_eq!(
            written(vec![message(Role::User, parts)], true)[0]["content"],
            json!([
                {"type": "image_url", "image_url": {"url": "https://a.test/b.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "document"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "text", "text": "plain"}
            ])
        );
    }
}
