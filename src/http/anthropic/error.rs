//! Anthropic's errors: <https://docs.anthropic.com/en/api/errors>.
use serde_json::{Value, json};

use crate::error::Error;

/// The body of an error.
pub fn error_body(error: &Error, id: &str) -> Vec<u8> {
    json!({"type": "error", "error": error_object(error), "request_id": id}).to_string().into_bytes()
}

/// What an error's body and a broken stream say.
pub fn error_object(error: &Error) -> Value {
    let kind = match error.facts().status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let message = match error {
        Error::Invalid(fields) if !fields.is_empty() => {
            let told = fields.iter().map(|field| format!("{}: {}", field.field, field.message));
            told.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    };
    json!({"type": kind, "message": message})
}
