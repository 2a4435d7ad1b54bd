//! The `response` object: its items, and what stands around them.
use bytes::{BufMut, BytesMut};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    chat::{self, Finish, Format, Request, Tool, ToolChoice},
    error::Error,
    http::{json, openai::chat_reply::model},
    reply::Head,
};

/// What stands around the items. It is the same in every event of a stream that has it.
pub(super) struct Shell {
    id: String,
    model: String,
    created: u64,
    /// The parameters that the request came with, as JSON.
    echo: Option<Box<RawValue>>,
}

/// What an answer is at.
#[derive(Clone, Copy)]
pub(super) enum State<'a> {
    /// It is being written.
    Running,
    /// It has ended.
    Ended(&'a Finish),
    /// It has broken off.
    Failed(&'a Error),
}

impl State<'_> {
    /// The `status`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Running => "in_progress",
            Self::Ended(Finish::Length | Finish::Filtered) => "incomplete",
            Self::Ended(_) => "completed",
            Self::Failed(_) => "failed",
        }
    }

    fn incomplete(self) -> Option<Incomplete> {
        match self {
            Self::Ended(Finish::Length) => Some(Incomplete { reason: "max_output_tokens" }),
            Self::Ended(Finish::Filtered) => Some(Incomplete { reason: "content_filter" }),
            _ => None,
        }
    }

    fn error(self) -> Option<Failure> {
        match self {
            Self::Failed(error) => Some(Failure { code: failure_code(error), message: error.to_string() }),
            _ => None,
        }
    }
}

/// The few codes that the API has for a failed answer.
pub(super) fn failure_code(error: &Error) -> &'static str {
    match error.facts().kind {
        "rate_limit_error" => "rate_limit_exceeded",
        "invalid_request_error" => "invalid_prompt",
        _ => "server_error",
    }
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Failure {
    code: &'static str,
    message: String,
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// What is thought. The signature stands where OpenAI puts what it encrypts.
    Reasoning { id: String, text: String, proof: Option<String> },
    /// What is said.
    Message { id: String, text: String, refusal: String },
    /// A function that is called.
    Call { id: String, call_id: String, name: String, arguments: String },
}

/// An item at a stage of its writing.
pub(super) struct ItemJson<'a> {
    pub(super) item: &'a Item,
    pub(super) status: &'static str,
}

impl Serialize for ItemJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.item {
            Item::Reasoning { id, text, proof } => {
                map.serialize_entry("id", id)?;
                map.serialize_entry("type", "reasoning")?;
                map.serialize_entry("status", self.status)?;
                let part = (!text.is_empty()).then_some(PartJson::SummaryText { text });
                map.serialize_entry("summary", part.as_slice())?;
                if let Some(proof) = proof {
                    map.serialize_entry("encrypted_content", proof)?;
                }
            }
            Item::Message { id, text, refusal } => {
                map.serialize_entry("id", id)?;
                map.serialize_entry("type", "message")?;
                map.serialize_entry("status", self.status)?;
                map.serialize_entry("role", "assistant")?;
                let said = (!text.is_empty()).then_some(PartJson::text(text));
                let refused = (!refusal.is_empty()).then_some(PartJson::Refusal { refusal });
                map.serialize_entry("content", &said.into_iter().chain(refused).collect::<Vec<_>>())?;
            }
            Item::Call { id, call_id, name, arguments } => {
                map.serialize_entry("id", id)?;
                map.serialize_entry("type", "function_call")?;
                map.serialize_entry("status", self.status)?;
                map.serialize_entry("call_id", call_id)?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("arguments", arguments)?;
            }
        }
        map.end()
    }
}

/// A part of an item.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum PartJson<'a> {
    /// Of a message: what is said.
    OutputText { text: &'a str, annotations: [(); 0], logprobs: [(); 0] },
    /// Of a message: the words of refusal.
    Refusal { refusal: &'a str },
    /// Of a thought.
    SummaryText { text: &'a str },
}

impl<'a> PartJson<'a> {
    /// What is said.
    pub(super) fn text(text: &'a str) -> Self {
        Self::OutputText { text, annotations: [], logprobs: [] }
    }
}

#[derive(Serialize)]
struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: Option<Failure>,
    incomplete_details: Option<Incomplete>,
    model: &'a str,
    output: Vec<ItemJson<'a>>,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<chat::Usage> for Usage {
    fn from(usage: chat::Usage) -> Self {
        Self {
            input_tokens: usage.input,
            input_tokens_details: InputDetails { cached_tokens: usage.cached },
            output_tokens: usage.output,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning },
            total_tokens: usage.total(),
        }
    }
}

impl Shell {
    /// A shell. `id` is the request's, `created` in seconds since 1970.
    pub(super) fn new(head: &Head, chat: &Request, id: &str, created: u64) -> Self {
        let own = head.id.as_deref().filter(|id| id.starts_with("resp_"));
        let id = own.map_or_else(|| format!("resp_{}", id.replace('-', "")), str::to_owned);
        let echo = serde_json::value::to_raw_value(&echo(chat)).ok();
        Self { id, model: model(head, chat).to_owned(), created, echo }
    }

    /// The id of an item.
    pub(super) fn item_id(&self, kind: &str, index: usize) -> String {
        format!("{kind}_{}_{index}", self.id.trim_start_matches("resp_"))
    }

    /// Writes the object.
    pub(super) fn put(
        &self,
        items: &[Item],
        state: State<'_>,
        usage: Option<chat::Usage>,
        out: &mut BytesMut,
    ) {
        let status = match state {
            State::Running => "in_progress",
            State::Ended(_) => "completed",
            State::Failed(_) => "incomplete",
        };
        let ended = !matches!(state, State::Running);
        json::put(
            out,
            &Response {
                id: &self.id,
                object: "response",
                created_at: self.created,
                status: state.name(),
                error: state.error(),
                incomplete_details: state.incomplete(),
                model: &self.model,
                output: items.iter().map(|item| ItemJson { item, status }).collect(),
                usage: usage.filter(|_| ended).map(Usage::from),
            },
        );
        if let Some(echo) = &self.echo {
            // Both are objects: the one goes on where the other ends.
            out.truncate(out.len() - 1);
            out.put_u8(b',');
            out.put_slice(&echo.get().as_bytes()[1..]);
        }
    }
}

/// The request's parameters, as the answer repeats them.
fn echo(chat: &Request) -> Value {
    let format = match &chat.format {
        None | Some(Format::Text) => json!({"type": "text"}),
        Some(Format::Json) => json!({"type": "json_object"}),
        Some(Format::Schema { name, schema, description, strict }) => json!({
            "type": "json_schema", "name": name, "schema": schema, "description": description, "strict": strict
        }),
    };
    let mut text = chat.rest.get("text").and_then(Value::as_object).cloned().unwrap_or_default();
    text.insert("format".to_owned(), format);
    let tool_choice = match &chat.tool_choice {
        None | Some(ToolChoice::Auto) => json!("auto"),
        Some(ToolChoice::None) => json!("none"),
        Some(ToolChoice::Required) => json!("required"),
        Some(ToolChoice::Named(name)) => json!({"type": "function", "name": name}),
        Some(ToolChoice::Other(value)) => value.clone(),
    };
    let tools: Vec<Value> = chat.tools.iter().map(tool).collect();
    let mut reasoning =
        Map::from_iter([("effort".to_owned(), Value::Null), ("summary".to_owned(), Value::Null)]);
    if let Some(asked) = &chat.reasoning {
        reasoning.extend(asked.rest.clone());
        reasoning.insert("effort".to_owned(), asked.effort.clone().into());
    }
    json!({
        "background": false,
        "instructions": null,
        "max_output_tokens": chat.max_tokens,
        "metadata": chat.rest.get("metadata").unwrap_or(&json!({})),
        "parallel_tool_calls": chat.parallel_tool_calls.unwrap_or(true),
        "previous_response_id": null,
        "reasoning": reasoning,
        "service_tier": "default",
        "store": false,
        "temperature": chat.temperature.unwrap_or(1.0),
        "text": text,
        "tool_choice": tool_choice,
        "tools": tools,
        "top_p": chat.top_p.unwrap_or(1.0),
        "truncation": "disabled",
        "user": chat.user,
    })
}

fn tool(tool: &Tool) -> Value {
    match tool {
        Tool::Function { name, description, parameters, strict, .. } => json!({
            "type": "function", "name": name, "description": description, "parameters": parameters, "strict": strict
        }),
        Tool::Other(value) => value.clone(),
    }
}
