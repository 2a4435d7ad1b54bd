//! A request of Responses, read:
//! <https://platform.openai.com/docs/api-reference/responses/create>.
use serde::Deserialize;
use serde_json::{Map, Value};

use super::input;
use crate::{
    chat::{Family, Format, Message, Reasoning, Request, Role},
    error::Result,
    http::{
        forms::Form,
        openai::tools::{self, Spelling},
        read::{self, At, Checks, TextOr, maybe_object, maybe_text},
    },
};

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<TextOr<Map<String, Value>>>,
    instructions: Option<String>,
    max_output_tokens: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stream: Option<bool>,
    tools: Option<Vec<Map<String, Value>>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<Map<String, Value>>,
    reasoning: Option<Map<String, Value>>,
    user: Option<String>,
    previous_response_id: Option<Value>,
    conversation: Option<Value>,
    prompt: Option<Value>,
    background: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is passed on unread, and its form.
const FORMS: [(&str, Form); 5] = [
    ("metadata", Form::Object),
    ("store", Form::Flag),
    ("service_tier", Form::Text),
    ("top_logprobs", Form::Count),
    ("truncation", Form::Text),
];

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Request> {
    let body: Body = read::body(body)?;
    let mut rest = body.rest;
    let mut checks = Checks::default();
    let model = checks.name("model", body.model);
    let max_tokens = checks.count("max_output_tokens", body.max_output_tokens, u32::MAX);
    let temperature = checks.within("temperature", body.temperature, 0.0..=2.0);
    let top_p = checks.within("top_p", body.top_p, 0.0..=1.0);
    checks.forms(&rest, &FORMS);
    checks.stream_options(body.stream, rest.get("stream_options").is_some_and(|options| !options.is_null()));
    match &body.input {
        None => checks.wrong("input", "is required"),
        Some(TextOr::List(list)) if list.is_empty() => checks.wrong("input", "must have at least one item"),
        Some(_) => {}
    }
    if body.previous_response_id.is_some() {
        checks.wrong("previous_response_id", "answers are not stored here; send the conversation as `input`");
    }
    if body.conversation.is_some() {
        checks.wrong("conversation", "conversations are not stored here; send the conversation as `input`");
    }
    if body.prompt.is_some() {
        checks.wrong("prompt", "prompts are not stored here; send the text as `instructions`");
    }
    if body.background == Some(true) {
        checks
            .wrong("background", "answers are not stored here, so none can be fetched later; must be false");
    }
    checks.done()?;
    let mut messages = Vec::new();
    if let Some(instructions) = body.instructions {
        messages.push(Message::new(Role::System, instructions));
    }
    if let Some(said) = body.input {
        input::append(said, &mut messages)?;
    }
    let mut format = None;
    if let Some(mut text) = body.text {
        format = text_format(&mut text)?;
        if !text.is_empty() {
            rest.insert("text".to_owned(), text.into());
        }
    }
    Ok(Request {
        model,
        messages,
        stream: body.stream.unwrap_or_default(),
        max_tokens,
        temperature,
        top_p,
        tools: tools::tools(body.tools.unwrap_or_default(), Spelling::Flat)?,
        tool_choice: body.tool_choice.map(|value| tools::tool_choice(value, Spelling::Flat)).transpose()?,
        parallel_tool_calls: body.parallel_tool_calls,
        format,
        reasoning: body.reasoning.map(reasoning).transpose()?,
        user: body.user,
        family: Family::Responses,
        rest,
        ..Request::default()
    })
}

fn text_format(text: &mut Map<String, Value>) -> Result<Option<Format>> {
    let at = At::field("text");
    let format = maybe_object(text, "format", &at)?;
    format.map(|map| tools::format(map, &at.then("format"), Spelling::Flat)).transpose()
}

fn reasoning(mut map: Map<String, Value>) -> Result<Reasoning> {
    let effort = maybe_text(&mut map, "effort", &At::field("reasoning"))?;
    map.retain(|_, value| !value.is_null());
    Ok(Reasoning { effort, budget: None, rest: map })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
