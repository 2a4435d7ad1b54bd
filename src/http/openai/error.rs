//! OpenAI's errors: <https://platform.openai.com/docs/guides/error-codes>.
use serde_json::json;

use crate::error::Error;

/// The body of an error.
pub fn error_body(error: &Error) -> Vec<u8> {
    json!({"error": error_object(error)}).to_string().into_bytes()
}

/// What an error's body and a broken stream say.
pub(super) fn error_object(error: &Error) -> serde_json::Value {
    let facts = error.facts();
    let (param, code) = match error {
        Error::Invalid(fields) => (fields.first().map(|field| field.field.clone()), facts.code.to_owned()),
        Error::UnknownModel(_) => (Some("model".to_owned()), facts.code.to_owned()),
        Error::Refused { param, code, .. } => {
            (param.clone(), code.clone().unwrap_or_else(|| facts.code.to_owned()))
        }
        _ => (None, facts.code.to_owned()),
    };
    let message = match error {
        Error::Invalid(fields) if !fields.is_empty() => {
            let told = fields.iter().map(|field| format!("`{}`: {}", field.field, field.message));
            told.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    };
    json!({"message": message, "type": facts.kind, "param": param, "code": code})
}
