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
        // The word that clients of OpenAI's API know for it.
        Error::Blocked { .. } => (None, "content_filter".to_owned()),
        Error::UnknownModel(_) => (Some("model".to_owned()), facts.code.to_owned()),
        Error::Refused { param, code, .. } => {
            (param.clone(), code.clone().unwrap_or_else(|| facts.code.to_owned()))
        }
        _ => (None, facts.code.to_owned()),
    };
    json!({"message": error.to_string(), "type": facts.kind, "param": param, "code": code})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(error: &Error) -> String {
        String::from_utf8(error_body(error)).unwrap()
    }

    #[test]
    fn errors_have_openais_shape_and_name_the_parameter() {
        assert_eq!(
            body(&Error::invalid("messages[0].role", "is required")),
            r#"{"error":{"message":"`messages[0].role`: is required","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}}"#
        );
        assert_eq!(
            body(&Error::Unauthenticated { by_header: false }),
            r#"{"error":{"message":"Invalid API key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#
        );
        assert!(
            body(&Error::UnknownModel("x".into())).contains(r#""param":"model","code":"model_not_found""#)
        );
    }

    #[test]
    fn a_providers_own_words_are_passed_on() {
        let code = Some("context_length_exceeded".to_owned());
        let error = Error::Refused { status: 400, message: "too long".into(), param: None, code };
        assert_eq!(
            body(&error),
            r#"{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#
        );
    }
}
