//! Reading a Chat Completions request: straight from bytes to [`Request`],
//! without a tree of values between. Only a request that cannot be read is
//! read a second time, slowly, to say what is wrong with it.
//!
//! <https://platform.openai.com/docs/api-reference/chat/create>
use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{complaint, content};
use crate::{
    chat::{Family, Format, Message, Part, Reasoning, Request, Role, Tool, ToolCall, ToolChoice},
    error::{Error, FieldError, Result},
};

/// A request, and what only its reply needs to know.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The chat.
    pub request: Request,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
}

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Parsed> {
    let wire = match serde_json::from_slice::<Wire>(body) {
        Ok(wire) => wire,
        Err(error) => return Err(complaint::about(body, &error, &complaint::CHAT)),
    };
    let mut problems = Vec::new();
    let mut wrong = |field: &str, message: &str| {
        problems.push(FieldError { field: field.to_owned(), message: message.to_owned() });
    };
    let Wire { mut request, include_usage, model, messages } = wire;
    if !model || request.model.is_empty() {
        wrong("model", "is required");
    }
    if !messages || request.messages.is_empty() {
        wrong("messages", "must hold at least one message");
    }
    check(&request, &mut wrong);
    if problems.is_empty() {
        request.family = Family::OpenAi;
        Ok(Parsed { request, include_usage })
    } else {
        Err(Error::Invalid(problems))
    }
}

/// Checks what the API bounds.
fn check(request: &Request, wrong: &mut impl FnMut(&str, &str)) {
    if request.max_tokens == Some(0) {
        wrong("max_tokens", "must be at least 1");
    }
    if request.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
        wrong("temperature", "must be 0 to 2");
    }
    if request.top_p.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        wrong("top_p", "must be 0 to 1");
    }
    if request.choices.is_some_and(|n| !(1..=128).contains(&n)) {
        wrong("n", "must be 1 to 128");
    }
    for (index, tool) in request.tools.iter().enumerate() {
        if let Tool::Function { name, .. } = tool
            && name.is_empty()
        {
            wrong(&format!("tools[{index}].function.name"), "is required");
        }
    }
    for (index, message) in request.messages.iter().enumerate() {
        let unanswered = message.role == Role::Tool
            && message.parts.iter().any(|part| matches!(part, Part::ToolResult { id, .. } if id.is_empty()));
        if unanswered {
            wrong(&format!("messages[{index}].tool_call_id"), "is required for the role `tool`");
        }
    }
}

/// What is read: the request, and whether what is required was there.
#[derive(Default)]
struct Wire {
    request: Request,
    include_usage: bool,
    model: bool,
    messages: bool,
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Wire;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Wire, A::Error> {
                let mut wire = Wire::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    wire.field(&key, &mut map)?;
                }
                Ok(wire)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Wire {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> std::result::Result<(), A::Error> {
        let request = &mut self.request;
        match key {
            "model" => {
                if std::mem::replace(&mut self.model, true) {
                    return Err(de::Error::duplicate_field("model"));
                }
                request.model = map.next_value()?;
            }
            "messages" => {
                if std::mem::replace(&mut self.messages, true) {
                    return Err(de::Error::duplicate_field("messages"));
                }
                request.messages = map.next_value::<Vec<WireMessage>>()?.into_iter().map(|m| m.0).collect();
            }
            "stream" => request.stream = map.next_value::<Option<bool>>()?.unwrap_or(false),
            "max_tokens" => request.max_tokens = map.next_value::<Option<u32>>()?.or(request.max_tokens),
            "max_completion_tokens" => {
                let most = map.next_value::<Option<u32>>()?;
                request.max_tokens = most.or(request.max_tokens);
                // Told apart from `max_tokens` on the way out: some models take only this one.
                request.rest.extend(most.map(|most| (key.to_owned(), most.into())));
            }
            "temperature" => request.temperature = map.next_value()?,
            "top_p" => request.top_p = map.next_value()?,
            "n" => request.choices = map.next_value()?,
            "seed" => request.seed = map.next_value()?,
            "user" => request.user = map.next_value()?,
            "parallel_tool_calls" => request.parallel_tool_calls = map.next_value()?,
            "stop" => {
                request.stop = match map.next_value::<Option<OneOrMany>>()? {
                    Some(OneOrMany::One(stop)) => vec![stop],
                    Some(OneOrMany::Many(stops)) => stops,
                    None => Vec::new(),
                }
            }
            "tools" => {
                let tools = map.next_value::<Option<Vec<Value>>>()?.unwrap_or_default();
                request.tools = tools.into_iter().map(content::tool).collect();
            }
            "tool_choice" => request.tool_choice = map.next_value::<Option<Value>>()?.map(tool_choice),
            "response_format" => {
                let format = map.next_value::<Option<Value>>()?;
                match format.map(format_of) {
                    Some(Ok(format)) => request.format = Some(format),
                    Some(Err(other)) => {
                        request.rest.insert(key.to_owned(), other);
                    }
                    None => {}
                }
            }
            "reasoning_effort" => {
                let effort = map.next_value::<Option<String>>()?;
                request.reasoning = effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() });
            }
            "stream_options" => {
                let options = map.next_value::<Option<Map<String, Value>>>()?.unwrap_or_default();
                self.include_usage = options.get("include_usage").and_then(Value::as_bool).unwrap_or(false);
            }
            _ => {
                let value = map.next_value()?;
                request.rest.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn tool_choice(value: Value) -> ToolChoice {
    match value.as_str() {
        Some("auto") => return ToolChoice::Auto,
        Some("none") => return ToolChoice::None,
        Some("required") => return ToolChoice::Required,
        Some(_) | None => {}
    }
    let named = value.pointer("/function/name").and_then(Value::as_str).map(str::to_owned);
    named.map_or(ToolChoice::Other(value), ToolChoice::Named)
}

fn format_of(value: Value) -> std::result::Result<Format, Value> {
    match value.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Json),
        Some("json_schema") => {
            let text = |at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
            Ok(Format::Schema {
                name: text("/json_schema/name").unwrap_or_else(|| "answer".into()),
                schema: value.pointer("/json_schema/schema").cloned().unwrap_or(Value::Object(Map::new())),
                description: text("/json_schema/description"),
                strict: value.pointer("/json_schema/strict").and_then(Value::as_bool),
            })
        }
        Some(_) | None => Err(value),
    }
}

struct WireMessage(Message);

impl<'de> Deserialize<'de> for WireMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = WireMessage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WireMessage, A::Error> {
                message(&mut map).map(WireMessage)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn message<'de, A: MapAccess<'de>>(map: &mut A) -> std::result::Result<Message, A::Error> {
    let mut role = None;
    let mut parts = Vec::new();
    let (mut name, mut answers, mut calls) = (None, String::new(), Vec::new());
    let (mut thought, mut refusal) = (None, None);
    while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
        match &*key {
            "role" => role = Some(map.next_value::<WireRole>()?.0),
            "content" => parts = map.next_value::<Content>()?.0,
            "name" => name = map.next_value()?,
            "tool_call_id" => answers = map.next_value::<Option<String>>()?.unwrap_or_default(),
            "tool_calls" => calls = map.next_value::<Option<Vec<WireCall>>>()?.unwrap_or_default(),
            "refusal" => refusal = map.next_value::<Option<String>>()?,
            "reasoning_content" | "reasoning" => thought = map.next_value::<Option<String>>().unwrap_or_default(),
            // What clients send back of our own replies (`annotations`, `audio` …) has no use upstream.
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    let role = role.ok_or_else(|| de::Error::missing_field("role"))?;
    if role == Role::Tool {
        parts = vec![Part::ToolResult { id: answers, parts, failed: false }];
    }
    if let Some(text) = thought.filter(|text: &String| !text.is_empty()) {
        parts.insert(0, Part::Reasoning { text, signature: None, redacted: None });
    }
    parts.extend(refusal.filter(|text| !text.is_empty()).map(Part::Refusal));
    parts.extend(calls.into_iter().map(|call| Part::ToolCall(call.into())));
    Ok(Message { role, parts, name })
}

struct WireRole(Role);

impl<'de> Deserialize<'de> for WireRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(Self(match &*name {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" | "function" => Role::Tool,
            other => return Err(de::Error::unknown_variant(other, &complaint::ROLES)),
        }))
    }
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    id: String,
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

impl From<WireCall> for ToolCall {
    fn from(call: WireCall) -> Self {
        Self { id: call.id, name: call.function.name, arguments: call.function.arguments }
    }
}

/// A message's content: nothing, a text, or parts.
struct Content(Vec<Part>);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Content, E> {
                self.visit_string(text.to_owned())
            }
            fn visit_string<E: de::Error>(self, text: String) -> std::result::Result<Content, E> {
                Ok(Content(vec![Part::Text { text, rest: Map::new() }]))
            }
            fn visit_unit<E: de::Error>(self) -> std::result::Result<Content, E> {
                Ok(Content(Vec::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element::<Map<String, Value>>()? {
                    parts.push(content::part(part).map_err(de::Error::custom)?);
                }
                Ok(Content(parts))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(body: &str) -> Vec<String> {
        match parse(body.as_bytes()) {
            Err(Error::Invalid(fields)) => fields.into_iter().map(|f| format!("{}: {}", f.field, f.message)).collect(),
            Err(other) => vec![other.to_string()],
            Ok(_) => vec![],
        }
    }

    #[test]
    fn all_that_the_api_has_is_read() {
        let body = r#"{"model":"m","messages":[{"role":"system","content":"be"},{"role":"user","content":[
            {"type":"text","text":"what"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA","detail":"low"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"c","content":"7"}],"max_completion_tokens":9,"stop":"x","stream":true,
            "stream_options":{"include_usage":true},"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],
            "tool_choice":{"type":"function","function":{"name":"f"}},"response_format":{"type":"json_object"},"logit_bias":{"1":2}}"#;
        let Parsed { request, include_usage } = parse(body.as_bytes()).unwrap();
        assert!(include_usage && request.stream);
        assert_eq!((request.max_tokens, request.stop.len()), (Some(9), 1));
        assert_eq!(request.tool_choice, Some(ToolChoice::Named("f".into())));
        assert_eq!(request.format, Some(Format::Json));
        assert!(request.rest.contains_key("logit_bias"));
        assert!(matches!(&request.messages[1].parts[1], Part::Image(_)));
        assert!(matches!(&request.messages[2].parts[0], Part::ToolCall(call) if call.name == "f"));
        assert!(matches!(&request.messages[3].parts[0], Part::ToolResult { id, .. } if id == "c"));
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(wrong(r#"{"messages":[{"role":"user","content":"x"}]}"#), ["model: is required"]);
        assert_eq!(wrong(r#"{"model":"m"}"#), ["messages: must hold at least one message"]);
        assert_eq!(wrong(r#"{"model":"m","messages":[]}"#), ["messages: must hold at least one message"]);
        assert!(wrong(r#"{"model":"m","messages":[{"role":"wizard","content":"x"}]}"#)[0].starts_with("messages[0].role: "));
        assert!(wrong(r#"{"model":"m","messages":[{"content":"x"}]}"#)[0].starts_with("messages[0].role: "));
        assert!(wrong(r#"{"model":"m","messages":[{"role":"user","content":5}]}"#)[0].starts_with("messages[0].content: "));
        assert!(wrong(r#"{"model":5,"messages":[{"role":"user","content":"x"}]}"#)[0].starts_with("model: "));
        let base = |more: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{more}}}"#);
        for (more, field) in [
            (r#""temperature":3"#, "temperature"),
            (r#""temperature":"hot""#, "temperature"),
            (r#""max_tokens":-1"#, "max_tokens"),
            (r#""max_tokens":0"#, "max_tokens"),
            (r#""max_tokens":1e99"#, "max_tokens"),
            (r#""n":0"#, "n"),
            (r#""stream":"yes""#, "stream"),
            (r#""tools":5"#, "tools"),
            (r#""stop":[1]"#, "stop"),
            (r#""seed":1.5"#, "seed"),
        ] {
            let told = wrong(&base(more));
            assert!(told.len() == 1 && told[0].starts_with(&format!("{field}: ")), "{more}: {told:?}");
        }
        assert!(wrong(r#"{"model":"m","model":"n","messages":[]}"#)[0].contains("duplicate"));
        assert!(wrong("{\"model\": \"m").iter().all(|told| told.contains("not valid JSON")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_json_makes_it_panic(role in "[a-z]{0,8}", content in "\\PC{0,20}", number in any::<f64>()) {
            let value = serde_json::json!({"model": content, "messages": [{"role": role, "content": content}], "n": number, "temperature": number});
            let _ = parse(value.to_string().as_bytes());
        }
    }
}
