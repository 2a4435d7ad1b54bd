//! A chat in Anthropic's JSON.
use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{
    ANSWER_TOOL,
    blocks::{Block, Rest, Turn, Turns, text_or_blocks},
    model::Abilities,
    thinking::{self, Plan, Thinking},
};
use crate::{
    chat::{Family, Format, Purpose, Request, Tool, ToolChoice},
    error::{Error, Result},
    provider::Outgoing,
    wire::{self, anthropic::VERSION},
};

/// What lets a chat name files that the provider holds.
const FILES_BETA: &str = "files-api-2025-04-14";
/// What asks for JSON where no schema does.
const JSON_PLEASE: &str = "Answer with a single JSON object and nothing else.";
/// What is written from the request's own fields, or as headers, and never copied from `rest`.
const WRITTEN: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    "betas",
    "max_tokens",
    "messages",
    "model",
    "output_config",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(serialize_with = "text_or_blocks", skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking<'a>>,
    #[serde(skip_serializing_if = "OutputConfig::is_empty")]
    output_config: OutputConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(flatten)]
    rest: Carried<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolJson<'a> {
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Cow<'a, Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
        #[serde(flatten)]
        rest: Rest<'a>,
    },
    Other(&'a Value),
}

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

/// The `output_config` object: ours, and what the caller put beside it.
struct OutputConfig<'a> {
    effort: Option<&'a str>,
    schema: Option<Value>,
    own: Option<&'a serde_json::Map<String, Value>>,
}

impl OutputConfig<'_> {
    fn is_empty(&self) -> bool {
        self.effort.is_none() && self.schema.is_none() && self.own.is_none_or(serde_json::Map::is_empty)
    }
}

impl Serialize for OutputConfig<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(effort) = self.effort {
            map.serialize_entry("effort", effort)?;
        }
        if let Some(schema) = &self.schema {
            map.serialize_entry("format", &json!({"type": "json_schema", "schema": schema}))?;
        }
        for (name, value) in self.own.into_iter().flatten() {
            let ours = name == "effort" && self.effort.is_some() || name == "format" && self.schema.is_some();
            if !ours {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// The parameters carried along, except those that only another API defines.
struct Carried<'a> {
    chat: &'a Request,
    able: Abilities,
}

impl Serialize for Carried<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { chat, able } = self;
        let ours = chat.family == Family::Anthropic;
        let kept = chat.rest.iter().filter(|(name, _)| match name.as_str() {
            "metadata" => ours && chat.user.is_none(),
            "thinking" => ours && chat.reasoning.is_none(),
            "top_k" => ours || able.sampling,
            "include" | "reasoning_effort" | "seed" | "n" | "user" => ours,
            name if WRITTEN.contains(&name) => false,
            name => {
                ours || !wire::openai::ONLY_HERE.contains(&name)
                    && !wire::openai::ONLY_RESPONSES.contains(&name)
            }
        });
        serializer.collect_map(kept)
    }
}

/// The request to send.
pub(super) fn encode(chat: &Request, model: &str) -> Result<Outgoing> {
    let unsupported =
        |what: &'static str| Error::Unsupported { model: chat.model.clone(), what: what.into() };
    if matches!(chat.purpose, Purpose::Embed { .. }) {
        return Err(unsupported("it does not make embeddings"));
    }
    if chat.choice_count() > 1 {
        return Err(unsupported("it gives one answer at a time (`n` has to be 1)"));
    }
    let ours = chat.family == Family::Anthropic;
    let able = Abilities::of(model);
    let Turns { mut system, list, has_files } = Turns::of(chat)?;
    let schema = match &chat.format {
        Some(Format::Schema { schema, .. }) => Some(schema),
        Some(Format::Json) => {
            system.push(Block::Text { text: JSON_PLEASE.into(), rest: Rest::NONE });
            None
        }
        Some(Format::Text) | None => None,
    };
    let (by_config, by_tool) = if able.schema { (schema, None) } else { (None, schema) };
    let mut tools = tools(chat, ours);
    let mut tool_choice = if tools.is_empty() { None } else { choice(chat) };
    if let Some(schema) = by_tool {
        tool_choice = Some(answer_choice(tools.is_empty()));
        tools.push(answer_tool(schema));
    }
    let forced = tool_choice.as_ref().is_some_and(|choice| matches!(choice.kind, "any" | "tool"));
    let Plan { thinking, effort, max_tokens, temperature, top_p } = thinking::plan(chat, able, forced);
    let own = chat.rest.get("output_config").filter(|_| ours).and_then(Value::as_object);
    let body = Body {
        model,
        max_tokens,
        system,
        messages: list,
        stream: chat.stream,
        temperature,
        top_p,
        // Elsewhere white space may be a stop text; here it is an error.
        stop_sequences: chat
            .stop
            .iter()
            .map(String::as_str)
            .filter(|s| ours || !s.trim().is_empty())
            .collect(),
        tools,
        tool_choice,
        thinking,
        output_config: OutputConfig { effort, schema: by_config.map(thinking::closed), own },
        metadata: chat.user.as_deref().map(|user_id| Metadata { user_id }),
        rest: Carried { chat, able },
    };
    let body = serde_json::to_vec(&body).map_err(Error::internal)?.into();
    Ok(Outgoing { path: Cow::Borrowed("/v1/messages"), headers: headers(chat, ours, has_files), body })
}

fn headers(chat: &Request, ours: bool, has_files: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(VERSION));
    let mut betas: Vec<&str> = Vec::new();
    for name in ["anthropic_beta", "betas"].into_iter().filter(|_| ours) {
        match chat.rest.get(name) {
            Some(Value::String(beta)) => betas.push(beta),
            Some(Value::Array(several)) => betas.extend(several.iter().filter_map(Value::as_str)),
            _ => {}
        }
    }
    if has_files && !betas.iter().any(|beta| beta.contains("files-api")) {
        betas.push(FILES_BETA);
    }
    // A value that no header may have can only be the caller's nonsense.
    if !betas.is_empty()
        && let Ok(value) = HeaderValue::from_str(&betas.join(","))
    {
        headers.insert(HeaderName::from_static("anthropic-beta"), value);
    }
    headers
}

fn tools(chat: &Request, ours: bool) -> Vec<ToolJson<'_>> {
    let tool = |tool| match tool {
        &Tool::Function { ref name, ref description, ref parameters, strict, ref rest } => {
            let nothing = || json!({"type": "object", "properties": {}});
            let input_schema =
                if parameters.is_object() { Cow::Borrowed(parameters) } else { Cow::Owned(nothing()) };
            // OpenAI's and Anthropic's rules for strict schemas differ.
            let (strict, rest) = (strict.filter(|_| ours), Rest::of(rest, ours));
            Some(ToolJson::Function { name, description: description.as_deref(), input_schema, strict, rest })
        }
        Tool::Other(value) => ours.then_some(ToolJson::Other(value)),
    };
    chat.tools.iter().filter_map(tool).collect()
}

fn choice(chat: &Request) -> Option<Choice<'_>> {
    let alone = chat.parallel_tool_calls == Some(false);
    let of = |kind, name| Choice { kind, name, disable_parallel_tool_use: alone && kind != "none" };
    match &chat.tool_choice {
        None => alone.then(|| of("auto", None)),
        Some(ToolChoice::Auto) => Some(of("auto", None)),
        Some(ToolChoice::None) => Some(of("none", None)),
        Some(ToolChoice::Required) => Some(of("any", None)),
        Some(ToolChoice::Named(name)) => Some(of("tool", Some(name))),
        // This API has no others; the model decides.
        Some(ToolChoice::Other(_)) => None,
    }
}

fn answer_tool(schema: &Value) -> ToolJson<'_> {
    ToolJson::Function {
        name: ANSWER_TOOL,
        description: Some("Gives the final answer in the form that is asked for."),
        input_schema: Cow::Borrowed(schema),
        strict: None,
        rest: Rest::NONE,
    }
}

/// Forces the answer's own tool, or, beside the caller's tools, some tool.
fn answer_choice(alone: bool) -> Choice<'static> {
    let (kind, name) = if alone { ("tool", Some(ANSWER_TOOL)) } else { ("any", None) };
    Choice { kind, name, disable_parallel_tool_use: true }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
