//! A chat in OpenAI's JSON, written straight from the request without a tree between.
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value};

use super::content::Messages;
use crate::{
    chat::{Family, Format, Part, Purpose, Request, Source, Tool, ToolChoice},
    error::{Error, Result},
    provider::foreign,
    wire,
};

/// What is written from the request's own fields and never copied from `rest`.
const WRITTEN: &[&str] = &[
    "dimensions",
    "encoding_format",
    "input",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

/// Fails for what the API has no words for.
pub(super) fn check(chat: &Request) -> Result<()> {
    let by_reference =
        |part: &Part| matches!(part, Part::Audio(media) if !matches!(media.source, Source::Base64(_)));
    // Texts to embed may be given as numbers.
    let foreign = chat.family != Family::OpenAi && chat.purpose == Purpose::Chat;
    for part in chat.messages.iter().flat_map(|message| &message.parts) {
        match part {
            Part::Other(value) if foreign => foreign::part(chat, value)?,
            part if by_reference(part) => {
                let what = "audio has to be sent along, in base64".into();
                return Err(Error::Unsupported { model: chat.model.clone(), what });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The body of `/chat/completions`.
pub(super) struct ChatBody<'a> {
    pub(super) chat: &'a Request,
    pub(super) model: &'a str,
    pub(super) strict: bool,
}

impl Serialize for ChatBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { chat, model, strict } = *self;
        let ours = chat.family == Family::OpenAi;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", model)?;
        map.serialize_entry("messages", &Messages { chat, ours })?;
        if chat.stream {
            map.serialize_entry("stream", &true)?;
            if !strict {
                map.serialize_entry("stream_options", &StreamOptions(chat))?;
            }
        }
        if let Some(most) = chat.max_tokens {
            let newer = is_reasoning(model) || ours && chat.rest.contains_key("max_completion_tokens");
            let name = if newer && !strict { "max_completion_tokens" } else { "max_tokens" };
            map.serialize_entry(name, &most)?;
        }
        entry(&mut map, "temperature", chat.temperature)?;
        entry(&mut map, "top_p", chat.top_p)?;
        if !chat.stop.is_empty() {
            map.serialize_entry("stop", &chat.stop)?;
        }
        entry(&mut map, if strict { "random_seed" } else { "seed" }, chat.seed)?;
        entry(&mut map, "n", chat.choices.filter(|n| *n != 1))?;
        tools(&mut map, chat, ours)?;
        if let Some(format) = &chat.format {
            map.serialize_entry("response_format", &ResponseFormat(format))?;
        }
        entry(&mut map, "reasoning_effort", effort(chat, model))?;
        if !strict {
            entry(&mut map, "user", chat.user.as_deref())?;
        }
        rest(&mut map, chat)?;
        map.end()
    }
}

/// The body of `/embeddings`.
pub(super) struct EmbedBody<'a> {
    pub(super) chat: &'a Request,
    pub(super) model: &'a str,
    pub(super) dimensions: Option<u32>,
    pub(super) strict: bool,
}

impl Serialize for EmbedBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("input", &Inputs(self.chat))?;
        entry(&mut map, "dimensions", self.dimensions)?;
        if !self.strict {
            // A quarter of the size of decimal numbers. Servers that do not know it send those.
            map.serialize_entry("encoding_format", "base64")?;
            entry(&mut map, "user", self.chat.user.as_deref())?;
        }
        rest(&mut map, self.chat)?;
        map.end()
    }
}

struct Inputs<'a>(&'a Request);

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.messages.iter().map(crate::chat::Message::text))
    }
}

/// Always asks for usage; the rest of the caller's own options follows.
struct StreamOptions<'a>(&'a Request);

impl Serialize for StreamOptions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.0.rest.get("stream_options").filter(|_| self.0.family == Family::OpenAi);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("include_usage", &true)?;
        for (name, value) in own.and_then(Value::as_object).into_iter().flatten() {
            if name != "include_usage" {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

fn tools<M: SerializeMap>(map: &mut M, chat: &Request, ours: bool) -> Result<(), M::Error> {
    let some = chat.tools.iter().any(|tool| ours || matches!(tool, Tool::Function { .. }));
    if some {
        map.serialize_entry("tools", &Tools(&chat.tools, ours))?;
    }
    // Without tools the API refuses both; a caller of ours is told so by the provider.
    if some || ours {
        match &chat.tool_choice {
            Some(ToolChoice::Auto) => map.serialize_entry("tool_choice", "auto")?,
            Some(ToolChoice::None) => map.serialize_entry("tool_choice", "none")?,
            Some(ToolChoice::Required) => map.serialize_entry("tool_choice", "required")?,
            Some(ToolChoice::Named(name)) => {
                map.serialize_entry("tool_choice", &Function(NameOnly { name }))?;
            }
            Some(ToolChoice::Other(value)) if ours => map.serialize_entry("tool_choice", value)?,
            None | Some(ToolChoice::Other(_)) => {}
        }
        entry(map, "parallel_tool_calls", chat.parallel_tool_calls)?;
    }
    Ok(())
}

struct Tools<'a>(&'a [Tool], bool);

impl Serialize for Tools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for tool in self.0 {
            match tool {
                Tool::Function { name, description, parameters, strict, rest } => {
                    let description = description.as_deref();
                    let function = ToolFunction { name, description, parameters, strict: *strict };
                    let rest = self.1.then_some(rest);
                    seq.serialize_element(&FunctionTool { kind: "function", function, rest })?;
                }
                Tool::Other(value) if self.1 => seq.serialize_element(value)?,
                Tool::Other(_) => {}
            }
        }
        seq.end()
    }
}

#[derive(Serialize)]
struct FunctionTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: ToolFunction<'a>,
    #[serde(flatten)]
    rest: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Value::is_null")]
    parameters: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// `{"type": "function", "function": …}`.
struct Function<T>(T);

impl<T: Serialize> Serialize for Function<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", "function")?;
        map.serialize_entry("function", &self.0)?;
        map.end()
    }
}

#[derive(Serialize)]
struct NameOnly<'a> {
    name: &'a str,
}

struct ResponseFormat<'a>(&'a Format);

impl Serialize for ResponseFormat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Format::Text => map.serialize_entry("type", "text")?,
            Format::Json => map.serialize_entry("type", "json_object")?,
            Format::Schema { name, schema, description, strict } => {
                let description = description.as_deref();
                map.serialize_entry("type", "json_schema")?;
                map.serialize_entry(
                    "json_schema",
                    &NamedSchema { name, description, schema, strict: *strict },
                )?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The effort asked for; from a budget only for models that may know the word.
fn effort<'a>(chat: &'a Request, model: &str) -> Option<&'a str> {
    let reasoning = chat.reasoning.as_ref()?;
    let from_budget = || {
        let budget = reasoning.budget.filter(|budget| *budget > 0)?;
        let name = bare(model);
        let old = ["gpt-3", "gpt-4", "chatgpt"].iter().any(|prefix| name.starts_with(prefix));
        (!old).then(|| wire::effort_of(budget))
    };
    reasoning.effort.as_deref().or_else(from_budget)
}

/// Whether this is a model of OpenAI's that takes only `max_completion_tokens`.
fn is_reasoning(model: &str) -> bool {
    let name = bare(model);
    let number = |prefix| name.strip_prefix(prefix).and_then(|rest: &str| rest.chars().next()?.to_digit(10));
    number("o").is_some() || number("gpt-").is_some_and(|version| version >= 5)
}

/// The model's name without the vendor's before it, as OpenRouter writes it.
fn bare(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

/// The parameters carried along, except those that only another API defines.
fn rest<M: SerializeMap>(map: &mut M, chat: &Request) -> Result<(), M::Error> {
    let foreign: &[&str] = match chat.family {
        Family::Native | Family::OpenAi => &[],
        Family::Responses => wire::openai::ONLY_RESPONSES,
        Family::Anthropic => wire::anthropic::ONLY_HERE,
    };
    for (name, value) in &chat.rest {
        if !WRITTEN.contains(&name.as_str()) && !foreign.contains(&name.as_str()) {
            map.serialize_entry(name, value)?;
        }
    }
    Ok(())
}

fn entry<M: SerializeMap>(map: &mut M, name: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        chat::{Message, Reasoning, Role},
        provider::{Dialect, openai::OpenAi},
    };

    fn encoded(chat: &Request, model: &str, strict: bool) -> Value {
        serde_json::from_slice(&OpenAi { strict }.encode(chat, model).unwrap().body).unwrap()
    }

    fn asking() -> Request {
        let messages = vec![Message::new(Role::User, "hi")];
        Request { messages, stream: true, max_tokens: Some(9), seed: Some(1), ..Request::default() }
    }

    #[test]
    fn a_small_chat_has_nothing_to_spare() {
        assert_eq!(
            encoded(&asking(), "gpt-4o", false),
            json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                "stream_options": {"include_usage": true}, "max_tokens": 9, "seed": 1})
        );
        assert_eq!(
            encoded(&asking(), "mistral-small", true),
            json!({"model": "mistral-small", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                "max_tokens": 9, "random_seed": 1})
        );
    }

    #[test]
    fn reasoning_models_get_their_own_name_of_the_limit() {
        for (model, name) in [
            ("o3-mini", "max_completion_tokens"),
            ("openai/gpt-5.1", "max_completion_tokens"),
            ("gpt-4.1", "max_tokens"),
            ("olmo-2", "max_tokens"),
        ] {
            assert_eq!(encoded(&asking(), model, false)[name], 9, "{model}");
        }
        let mut chat = asking();
        chat.family = Family::OpenAi;
        chat.rest.insert("max_completion_tokens".into(), json!(9));
        let body = encoded(&chat, "llama", false);
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(9), None));
    }

    #[test]
    fn parameters_of_another_api_stay_behind_and_unknown_ones_go_on() {
        let mut chat = asking();
        chat.rest = json!({"logit_bias": {}, "thinking": {}, "min_p": 0.1, "model": "x", "metadata": {},
            "stream_options": {"include_usage": false, "include_obfuscation": false}})
        .as_object()
        .cloned()
        .unwrap();
        chat.family = Family::OpenAi;
        let body = encoded(&chat, "m", false);
        assert_eq!(body["stream_options"], json!({"include_usage": true, "include_obfuscation": false}));
        assert_eq!(
            (&body["model"], &body["min_p"], &body["metadata"]),
            (&json!("m"), &json!(0.1), &json!({}))
        );
        chat.family = Family::Anthropic;
        let body = encoded(&chat, "m", false);
        assert_eq!(body["stream_options"], json!({"include_usage": true}));
        assert_eq!((&body["min_p"], body.get("metadata"), body.get("thinking")), (&json!(0.1), None, None));
    }

    #[test]
    fn tools_format_and_effort_are_written() {
        let mut chat = asking();
        chat.tools = vec![Tool::Function {
            name: "f".into(),
            description: None,
            parameters: json!({"type": "object"}),
            strict: Some(true),
            rest: Map::new(),
        }];
        chat.tool_choice = Some(ToolChoice::Named("f".into()));
        chat.parallel_tool_calls = Some(false);
        chat.choices = Some(2);
        chat.format =
            Some(Format::Schema { name: "s".into(), schema: json!({}), description: None, strict: None });
        chat.reasoning = Some(Reasoning { budget: Some(20_000), ..Reasoning::default() });
        let body = encoded(&chat, "o3", false);
        assert_eq!(
            body["tools"],
            json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}])
        );
        assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
        assert_eq!(
            body["response_format"],
            json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {}}})
        );
        assert_eq!((&body["parallel_tool_calls"], &body["n"]), (&json!(false), &json!(2)));
        assert_eq!(body["reasoning_effort"], "high");
        assert_eq!(encoded(&chat, "gpt-4o", false).get("reasoning_effort"), None);
    }

    #[test]
    fn provider_tools_of_another_api_leave_no_choice_behind() {
        let mut chat = asking();
        chat.family = Family::Anthropic;
        chat.tools = vec![Tool::Other(json!({"type": "web_search_20250305"}))];
        chat.tool_choice = Some(ToolChoice::Auto);
        let body = encoded(&chat, "m", false);
        assert_eq!((body.get("tools"), body.get("tool_choice")), (None, None));
    }

    #[test]
    fn embeddings_are_asked_for_one_a_message() {
        let mut chat = asking();
        chat.messages.push(Message::new(Role::User, "ho"));
        chat.purpose = crate::chat::Purpose::Embed { dimensions: Some(3) };
        let sent = OpenAi::default().encode(&chat, "e").unwrap();
        let body: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(sent.path, "/embeddings");
        assert_eq!(
            body,
            json!({"model": "e", "input": ["hi", "ho"], "dimensions": 3, "encoding_format": "base64"})
        );
    }
}
