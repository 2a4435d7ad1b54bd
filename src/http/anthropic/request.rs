//! A request of Anthropic's Messages, read: <https://docs.anthropic.com/en/api/messages>.
use std::fmt;

use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::{Map, Value};

use super::blocks::parts;
use crate::{
    chat::{Family, Format, Message, Reasoning, Request, Role, Tool, ToolChoice},
    error::Result,
    guard,
    http::forms::Form,
    http::read::{
        self, At, Checks, Object, TextOr, maybe_flag, maybe_object, maybe_text, no_arguments, take, text,
    },
};

/// The name of an answer's schema, which this API does not give one.
const SCHEMA_NAME: &str = "answer";

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Object<RawMessage>>>,
    system: Option<TextOr<Map<String, Value>>>,
    max_tokens: Option<i64>,
    stream: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop_sequences: Option<Vec<String>>,
    tools: Option<Vec<Map<String, Value>>>,
    tool_choice: Option<Map<String, Value>>,
    thinking: Option<Map<String, Value>>,
    output_config: Option<Map<String, Value>>,
    /// The older name of `output_config.format`.
    output_format: Option<Map<String, Value>>,
    metadata: Option<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawMessage {
    role: RoleName,
    content: Option<TextOr<Map<String, Value>>>,
}

struct RoleName(Role);

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = RoleName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`user` or `assistant` (instructions go into `system`)")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<RoleName, E> {
                match name {
                    "user" => Ok(RoleName(Role::User)),
                    "assistant" => Ok(RoleName(Role::Assistant)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(name), &self)),
                }
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

/// What is passed on unread, and its form.
const FORMS: [(&str, Form); 2] = [("top_k", Form::Count), ("service_tier", Form::Text)];

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Request> {
    let body: Body = read::body(body)?;
    let mut rest = body.rest;
    let mut checks = Checks::default();
    let model = checks.name("model", body.model);
    if body.max_tokens.is_none() {
        checks.wrong("max_tokens", "is required");
    }
    let max_tokens = checks.count("max_tokens", body.max_tokens, u32::MAX);
    let temperature = checks.within("temperature", body.temperature, 0.0..=1.0);
    let top_p = checks.within("top_p", body.top_p, 0.0..=1.0);
    checks.forms(&rest, &FORMS);
    match &body.messages {
        None => checks.wrong("messages", "is required"),
        Some(list) if list.is_empty() => checks.wrong("messages", "must have at least one message"),
        Some(_) => {}
    }
    checks.done()?;
    let messages = messages(body.system, body.messages.unwrap_or_default())?;
    let (tool_choice, parallel_tool_calls) =
        body.tool_choice.map(tool_choice).transpose()?.unwrap_or_default();
    let mut reasoning = body.thinking.map(thinking).transpose()?;
    let (effort, format, unread) = output_config(body.output_config.unwrap_or_default(), body.output_format)?;
    if effort.is_some() {
        reasoning.get_or_insert_default().effort = effort;
    }
    if !unread.is_empty() {
        rest.insert("output_config".to_owned(), unread.into());
    }
    let mut user = None;
    if let Some(mut metadata) = body.metadata {
        user = maybe_text(&mut metadata, "user_id", &At::field("metadata"))?;
        if !metadata.is_empty() {
            rest.insert("metadata".to_owned(), metadata.into());
        }
    }
    let raw_tools = body.tools.unwrap_or_default().into_iter().enumerate();
    let tools = raw_tools.map(|(index, map)| tool(map, &At::item("tools", index))).collect::<Result<_>>()?;
    Ok(Request {
        model,
        messages,
        stream: body.stream.unwrap_or_default(),
        max_tokens,
        temperature,
        top_p,
        stop: body.stop_sequences.unwrap_or_default(),
        tools,
        tool_choice,
        parallel_tool_calls,
        format,
        reasoning,
        user,
        family: Family::Anthropic,
        rest,
        ..Request::default()
    })
}

fn messages(
    system: Option<TextOr<Map<String, Value>>>,
    raw: Vec<Object<RawMessage>>,
) -> Result<Vec<Message>> {
    let mut messages = Vec::with_capacity(raw.len() + 1);
    if let Some(system) = system {
        let parts = match system {
            TextOr::Text(text) => Message::new(Role::System, text).parts,
            TextOr::List(list) => {
                let blocks = list.into_iter().enumerate();
                blocks
                    .map(|(index, map)| super::blocks::part(map, &At::item("system", index)))
                    .collect::<Result<_>>()?
            }
        };
        // No instructions are not empty ones.
        if !parts.is_empty() {
            messages.push(Message { role: Role::System, parts, name: None });
        }
    }
    for (index, Object(RawMessage { role: RoleName(role), content })) in raw.into_iter().enumerate() {
        let at = At::item("messages", index);
        let content = content.ok_or_else(|| at.then("content").missing())?;
        messages.push(Message { role, parts: parts(content, &at, "content")?, name: None });
    }
    Ok(messages)
}

fn tool(mut map: Map<String, Value>, at: &At<'_>) -> Result<Tool> {
    match map.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind == "custom" => {}
        Some(Value::String(_)) => return Ok(Tool::Other(Value::Object(map))),
        Some(_) => return Err(at.then("type").wrong("must be a string")),
    }
    map.shift_remove("type");
    Ok(Tool::Function {
        name: text(&mut map, "name", at)?,
        description: maybe_text(&mut map, "description", at)?,
        parameters: maybe_object(&mut map, "input_schema", at)?.map_or_else(no_arguments, Value::Object),
        strict: maybe_flag(&mut map, "strict", at)?,
        rest: map,
    })
}

/// The choice, and whether several tools may be called in one turn.
fn tool_choice(mut map: Map<String, Value>) -> Result<(Option<ToolChoice>, Option<bool>)> {
    let at = At::field("tool_choice");
    let parallel = maybe_flag(&mut map, "disable_parallel_tool_use", &at)?.map(|disabled| !disabled);
    let choice = match text(&mut map, "type", &at)?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(text(&mut map, "name", &at)?),
        _ => return Err(at.then("type").wrong("must be `auto`, `any`, `tool` or `none`")),
    };
    Ok((Some(choice), parallel))
}

fn thinking(mut map: Map<String, Value>) -> Result<Reasoning> {
    let at = At::field("thinking");
    let budget = match map.get("type").and_then(Value::as_str) {
        Some("enabled") => Some(budget(&mut map, &at)?),
        Some("disabled") => Some(0),
        // Such as `adaptive`: the model decides. What is said about it goes on as it is.
        Some(_) => return Ok(Reasoning { rest: map, ..Reasoning::default() }),
        None => return Err(at.then("type").missing()),
    };
    map.shift_remove("type");
    Ok(Reasoning { effort: None, budget, rest: map })
}

fn budget(map: &mut Map<String, Value>, at: &At<'_>) -> Result<u32> {
    let value = take(map, "budget_tokens").ok_or_else(|| at.then("budget_tokens").missing())?;
    let budget = value.as_u64().and_then(|budget| u32::try_from(budget).ok()).filter(|budget| *budget > 0);
    budget.ok_or_else(|| at.then("budget_tokens").wrong("must be a whole number of at least 1"))
}

/// The effort, the form of the answer, and what else there is.
#[allow(clippy::type_complexity, reason = "three parts of one object, named where they are used")]
fn output_config(
    mut map: Map<String, Value>,
    older: Option<Map<String, Value>>,
) -> Result<(Option<String>, Option<Format>, Map<String, Value>)> {
    let at = At::field("output_config");
    let effort = maybe_text(&mut map, "effort", &at)?;
    let (newer, old) = (maybe_object(&mut map, "format", &at)?, At::field("output_format"));
    if older.is_some() && newer.is_some() && older != newer {
        return Err(
            old.wrong("is the older name of `output_config.format`, and says something else; leave it out")
        );
    }
    let format = match (newer, older) {
        (Some(newer), _) => Some(schema(newer, &at.then("format"))?),
        (None, older) => older.map(|older| schema(older, &old)).transpose()?,
    };
    Ok((effort, format, map))
}

/// The form that the answer has to have.
fn schema(mut format: Map<String, Value>, at: &At<'_>) -> Result<Format> {
    match text(&mut format, "type", at)?.as_str() {
        "json_schema" => {
            let place = at.then("schema");
            let schema = take(&mut format, "schema").ok_or_else(|| place.missing())?;
            guard::schema::check(&schema).map_err(|why| place.wrong(why))?;
            Ok(Format::Schema { name: SCHEMA_NAME.to_owned(), schema, description: None, strict: None })
        }
        _ => Err(at.then("type").wrong("must be `json_schema`")),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
