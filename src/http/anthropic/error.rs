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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn errors_have_anthropics_shape() {
        let body = error_body(&Error::invalid("max_tokens", "is required"), "r1");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: is required"},"request_id":"r1"}"#
        );
    }

    #[test]
    fn the_type_follows_the_status() {
        let wait = Duration::from_secs(1);
        for (error, kind) in [
            (Error::Unauthenticated { by_header: false }, "authentication_error"),
            (Error::Forbidden("no".into()), "permission_error"),
            (Error::UnknownModel("m".into()), "not_found_error"),
            (Error::TooLarge { limit: 1 }, "request_too_large"),
            (Error::RateLimited { scope: "key", retry_after: wait }, "rate_limit_error"),
            (Error::Overloaded { retry_after: wait }, "overloaded_error"),
            (Error::Timeout { phase: "idle" }, "timeout_error"),
            (Error::internal("x"), "api_error"),
            (Error::broken("x"), "api_error"),
        ] {
            assert_eq!(error_object(&error)["type"], kind, "{error:?}");
        }
    }
}
