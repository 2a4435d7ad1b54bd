//! A request of Chat Completions, read:
//! <https://platform.openai.com/docs/api-reference/chat/create>.
use std::fmt;

use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::{Map, Value};

use super::{content::chat_part, tools, tools::Spelling};
use crate::{
    chat::{Family, Message, Part, Reasoning, Request, Role, ToolCall},
    error::Result,
    http::forms::Form,
    http::read::{self, At, Checks, Object, TextOr},
};

/// What a request asks.
#[derive(Debug)]
pub struct Parsed {
    /// The chat.
    pub chat: Request,
    /// Whether a stream is to end with what it took.
    pub include_usage: bool,
}

/// What is passed on unread, and its form.
const FORMS: [(&str, Form); 11] = [
    ("frequency_penalty", Form::Number),
    ("presence_penalty", Form::Number),
    ("logit_bias", Form::Numbers),
    ("logprobs", Form::Flag),
    ("top_logprobs", Form::Count),
    ("metadata", Form::Object),
    ("store", Form::Flag),
    ("service_tier", Form::Text),
    ("verbosity", Form::Text),
    ("prediction", Form::Object),
    ("prompt_cache_key", Form::Text),
];

/// How many answers may be asked for at once.
const MOST_CHOICES: u32 = 128;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Object<RawMessage>>>,
    stream: Option<bool>,
    stream_options: Option<Map<String, Value>>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Option<TextOr<String>>,
    seed: Option<i64>,
    n: Option<i64>,
    tools: Option<Vec<Map<String, Value>>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<Map<String, Value>>,
    reasoning_effort: Option<String>,
    user: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawMessage {
    role: RoleName,
    content: Option<TextOr<Map<String, Value>>>,
    name: Option<String>,
    tool_call_id: Option<String>,
    tool_calls: Option<Vec<Object<RawCall>>>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct RawCall {
    id: String,
    function: Object<RawFunction>,
}

#[derive(Deserialize)]
struct RawFunction {
    name: String,
    arguments: Option<String>,
}

struct RoleName(Role);

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = RoleName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of `system`, `developer`, `user`, `assistant` and `tool`")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<RoleName, E> {
                role(name)
                    .map(RoleName)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(name), &self))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

/// The role of a name.
pub(super) fn role(name: &str) -> Option<Role> {
    Some(match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return None,
    })
}

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Parsed> {
    let body: Body = read::body(body)?;
    let mut rest = body.rest;
    let mut checks = Checks::default();
    let model = checks.name("model", body.model);
    let max_tokens = checks.count("max_tokens", body.max_tokens, u32::MAX);
    let newer = checks.count("max_completion_tokens", body.max_completion_tokens, u32::MAX);
    if let Some(most) = newer {
        // Under this name too, so that a provider of the same API gets the name that the caller used.
        rest.insert("max_completion_tokens".to_owned(), most.into());
    }
    let temperature = checks.within("temperature", body.temperature, 0.0..=2.0);
    let top_p = checks.within("top_p", body.top_p, 0.0..=1.0);
    let choices = checks.count("n", body.n, MOST_CHOICES);
    checks.forms(&rest, &FORMS);
    checks.stream_options(body.stream, body.stream_options.is_some());
    let include_usage = match body.stream_options.as_ref().and_then(|options| options.get("include_usage")) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            checks.wrong("stream_options.include_usage", "must be true or false");
            false
        }
    };
    match &body.messages {
        None => checks.wrong("messages", "is required"),
        Some(list) if list.is_empty() => checks.wrong("messages", "must have at least one message"),
        Some(_) => {}
    }
    checks.done()?;
    if let Some(options) = body.stream_options {
        rest.insert("stream_options".to_owned(), options.into());
    }
    let raw = body.messages.unwrap_or_default().into_iter().enumerate();
    let messages = raw.map(|(index, Object(raw))| message(raw, &At::item("messages", index)));
    let chat = Request {
        model,
        messages: messages.collect::<Result<_>>()?,
        stream: body.stream.unwrap_or_default(),
        max_tokens: newer.or(max_tokens),
        temperature,
        top_p,
        stop: tools::stop(body.stop),
        seed: body.seed,
        choices,
        tools: tools::tools(body.tools.unwrap_or_default(), Spelling::Deep)?,
        tool_choice: body.tool_choice.map(|value| tools::tool_choice(value, Spelling::Deep)).transpose()?,
        parallel_tool_calls: body.parallel_tool_calls,
        format: body
            .response_format
            .map(|map| tools::format(map, &At::field("response_format"), Spelling::Deep))
            .transpose()?,
        reasoning: body
            .reasoning_effort
            .map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }),
        user: body.user,
        family: Family::OpenAi,
        rest,
        ..Request::default()
    };
    Ok(Parsed { chat, include_usage })
}

fn message(raw: RawMessage, at: &At<'_>) -> Result<Message> {
    let RoleName(role) = raw.role;
    // Nearly always there is one, and it is held for as long as the answer takes.
    let mut parts = Vec::with_capacity(1);
    if let Some(text) = raw.reasoning_content.filter(|text| !text.is_empty() && role == Role::Assistant) {
        parts.push(Part::Reasoning { text, signature: None, redacted: None });
    }
    match raw.content {
        Some(TextOr::Text(text)) => parts.push(Part::Text { text, rest: Map::new() }),
        Some(TextOr::List(list)) if list.is_empty() && role != Role::Assistant => {
            return Err(at.then("content").wrong("must have at least one part"));
        }
        Some(TextOr::List(list)) => {
            parts.reserve(list.len());
            for (index, part) in list.into_iter().enumerate() {
                parts.push(chat_part(part, &at.then_item("content", index))?);
            }
        }
        // An answer may have been nothing but a call or a refusal.
        None if role == Role::Assistant => {}
        None => return Err(at.then("content").missing()),
    }
    if role == Role::Tool {
        let id = raw.tool_call_id.ok_or_else(|| at.then("tool_call_id").missing())?;
        parts = vec![Part::ToolResult { id, parts, failed: false, rest: Map::new() }];
    }
    if role == Role::Assistant {
        parts.extend(raw.refusal.map(Part::Refusal));
        parts.extend(raw.tool_calls.into_iter().flatten().map(|Object(call)| {
            let Object(RawFunction { name, arguments }) = call.function;
            let (arguments, rest) = (arguments.unwrap_or_default(), Map::new());
            Part::ToolCall(ToolCall { id: call.id, name, arguments, rest })
        }));
    }
    Ok(Message { role, parts, name: raw.name })
}

#[cfg(test)]
#[path = "chat_request_tests.rs"]
mod tests;
