//! Says what is wrong with a body that could not be read. Slow, and only run then.
use serde_json::Value;

use crate::error::{Error, FieldError};

/// The roles of a message.
pub(crate) const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// What a field must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A number.
    Number,
    /// A whole number of at most 32 bits.
    Count,
    /// A whole number.
    Integer,
    /// A list.
    List,
    /// An object.
    Object,
    /// A text or a list of texts.
    Texts,
}

/// The fields of an API, those that must be there marked with `true`.
pub(crate) type Fields = [(&'static str, Kind, bool)];

/// Those of Chat Completions.
pub(crate) const CHAT: [(&str, Kind, bool); 16] = [
    ("model", Kind::Text, true),
    ("messages", Kind::List, true),
    ("stream", Kind::Flag, false),
    ("max_tokens", Kind::Count, false),
    ("max_completion_tokens", Kind::Count, false),
    ("temperature", Kind::Number, false),
    ("top_p", Kind::Number, false),
    ("n", Kind::Count, false),
    ("seed", Kind::Integer, false),
    ("user", Kind::Text, false),
    ("parallel_tool_calls", Kind::Flag, false),
    ("stop", Kind::Texts, false),
    ("tools", Kind::List, false),
    ("stream_options", Kind::Object, false),
    ("reasoning_effort", Kind::Text, false),
    ("response_format", Kind::Object, false),
];

/// What is wrong with a body, by its fields where they are to blame.
pub(crate) fn about(body: &[u8], error: &serde_json::Error, fields: &Fields) -> Error {
    let value = match serde_json::from_slice::<Value>(body) {
        Ok(value) => value,
        Err(error) => return Error::NotJson(error.to_string()),
    };
    let Value::Object(map) = &value else {
        return Error::invalid("body", format!("must be an object, not {}", name_of(&value)));
    };
    let mut problems = Vec::new();
    for (name, kind, required) in fields {
        match map.get(*name) {
            None | Some(Value::Null) if *required => problems.push(problem(name, "is required")),
            None | Some(Value::Null) => {}
            Some(value) if !kind.fits(value) => {
                problems.push(problem(name, format!("must be {}, not {}", kind.words(), name_of(value))));
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() && let Some(Value::Array(messages)) = map.get("messages") {
        messages.iter().enumerate().for_each(|(index, message)| about_message(index, message, &mut problems));
    }
    if problems.is_empty() {
        // Such as a field that is there twice, or a part whose type is not known.
        problems.push(problem("body", error.to_string()));
    }
    Error::Invalid(problems)
}

fn about_message(index: usize, message: &Value, problems: &mut Vec<FieldError>) {
    let at = |field: &str| format!("messages[{index}]{field}");
    let Value::Object(message) = message else {
        return problems.push(problem(&at(""), format!("must be an object, not {}", name_of(message))));
    };
    match message.get("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) || role == "function" => {}
        _ => problems.push(problem(&at(".role"), format!("must be one of `{}`", ROLES.join("`, `")))),
    }
    match message.get("content") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            for (part, value) in parts.iter().enumerate() {
                let known = value.as_object().cloned().map(super::content::part);
                let field = format!(".content[{part}]");
                match known {
                    None => problems.push(problem(&at(&field), "must be an object with a `type`")),
                    Some(Err(why)) => problems.push(problem(&at(&field), why)),
                    Some(Ok(_)) => {}
                }
            }
        }
        Some(other) => {
            let told = format!("must be a text or a list of parts, not {}", name_of(other));
            problems.push(problem(&at(".content"), told));
        }
    }
    for (name, kind) in [("name", Kind::Text), ("tool_call_id", Kind::Text), ("tool_calls", Kind::List)] {
        if let Some(value) = message.get(name).filter(|value| !value.is_null() && !kind.fits(value)) {
            let told = format!("must be {}, not {}", kind.words(), name_of(value));
            problems.push(problem(&at(&format!(".{name}")), told));
        }
    }
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    for (call, value) in calls.enumerate() {
        if value.pointer("/function/name").is_none_or(|name| !name.is_string()) {
            problems.push(problem(&at(&format!(".tool_calls[{call}].function.name")), "is required"));
        }
    }
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Number => value.is_number(),
            Self::Count => value.as_u64().is_some_and(|count| u32::try_from(count).is_ok()),
            Self::Integer => value.is_i64(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
            Self::Texts => {
                value.is_string() || value.as_array().is_some_and(|texts| texts.iter().all(Value::is_string))
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Count => "a whole number from 0 to 4294967295",
            Self::Integer => "a whole number",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Texts => "a text or a list of texts",
        }
    }
}

fn problem(field: &str, message: impl Into<String>) -> FieldError {
    FieldError { field: field.to_owned(), message: message.into() }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction or out of range",
        Value::Number(_) => "such a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
