//! What a provider's error means for the caller.
//!
//! The vendors' error bodies differ little; one reader serves them all. What
//! a provider says reaches a caller only through [`scrub`].
use std::{sync::LazyLock, time::Duration};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use jiff::{Timestamp, fmt::rfc2822};
use regex::Regex;
use serde_json::{Value, value::RawValue};

use super::bounds::{self, TOO_MANY};
use crate::error::{Cause, Error, NO_MODEL};

/// Nobody is made to wait longer than this by a provider's word.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Longer words of a provider are cut.
const LONGEST_MESSAGE: usize = 2000;

/// What a reply with an error status means.
pub(crate) fn of_reply(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let said = serde_json::from_slice(body).map(|body: Value| Said::read(&body)).unwrap_or_default();
    said.error(status.as_u16(), wait(headers, Timestamp::now()))
}

/// A larger error says nothing that could be told, in bytes. Read into values it takes many times as much.
const LARGEST: usize = 64 << 10;

/// What an error within an answer of status 200 means.
pub(crate) fn of_stream(body: &RawValue) -> Error {
    let body = Some(body.get()).filter(|body| body.len() <= LARGEST);
    let body = body.and_then(|body| serde_json::from_str(body).ok());
    let said = body.map(|body: Value| Said::read(&body)).unwrap_or_default();
    let status = said.status();
    said.error(status, None)
}

/// JSON that is not what it should be. The cause names a place, never the words there.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
pub(crate) fn unreadable(error: serde_json::Error) -> Error {
    if error.is_data() && error.to_string().starts_with(TOO_MANY) {
        return bounds::too_many();
    }
    let (kind, line, column) = (error.classify(), error.line(), error.column());
    Error::broken(format!("the provider's JSON is not readable ({kind:?} error at {line}:{column})"))
}

/// A tool call without a name: nobody could run it, and no answer to it would be one.
pub(crate) fn nameless() -> Error {
    Error::broken("the provider called a tool without its name")
}

/// What a provider said of its error.
#[derive(Debug, Default)]
struct Said {
    message: String,
    kind: String,
    code: String,
    param: Option<String>,
}

impl Said {
    /// Reads `{"error": {…}}`, `{"error": "…"}` and objects without the envelope.
    fn read(body: &Value) -> Self {
        let inner = body.get("error").unwrap_or(body);
        let text = |name: &str| match inner.get(name) {
            Some(Value::String(text)) if is_name(text) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let mut message = [inner.get("message"), inner.get("detail"), Some(inner)].into_iter().flatten();
        let message = message.find_map(Value::as_str).map(scrub).unwrap_or_default();
        let param = Some(text("param")).filter(|param| !param.is_empty());
        Self { message, kind: text("type"), code: text("code"), param }
    }

    /// The status that the error would have had, had it come before the stream.
    fn status(&self) -> u16 {
        let number = self.code.parse().ok().filter(|code| (400..600).contains(code));
        number.unwrap_or_else(|| {
            let any = |words: &[&str]| words.iter().any(|word| self.kind == *word || self.code == *word);
            if any(&["overloaded_error", "overloaded"]) {
                529
            } else if any(&[
                "rate_limit_error",
                "rate_limit_exceeded",
                "insufficient_quota",
                "tokens",
                "requests",
            ]) {
                429
            } else if any(&["authentication_error", "invalid_api_key"]) {
                401
            } else if any(&["permission_error"]) {
                403
            } else if any(&["billing_error"]) {
                402
            } else if any(&["not_found_error", "model_not_found"]) {
                404
            } else if any(&["request_too_large"]) {
                413
            } else if any(&["invalid_request_error", "context_length_exceeded", "invalid_prompt"]) {
                400
            } else if any(&["timeout_error"]) {
                504
            } else {
                500
            }
        })
    }

    /// The one table from a provider's status to what the caller can do.
    fn error(self, status: u16, retry_after: Option<Duration>) -> Error {
        match status {
            429 if self.out_of_money() => Error::UpstreamRejected { status, source: self.cause() },
            429 | 503 | 529 => Error::UpstreamBusy { status, retry_after, source: self.cause() },
            // Some vendors say 400 of our key or account; the caller cannot help that.
            400 if self.out_of_money() || self.bad_key() => {
                Error::UpstreamRejected { status, source: self.cause() }
            }
            401..=403 => Error::UpstreamRejected { status, source: self.cause() },
            400 | 404 | 413 | 422 => self.refused(status),
            // A wrong method or a redirect speaks of a wrong base URL, not of the caller.
            408 | 409 | 425 | 405 | ..400 | 500.. => {
                Error::UpstreamFailed { status, retry_after, source: self.cause() }
            }
            406.. => self.refused(400),
        }
    }

    fn refused(self, status: u16) -> Error {
        let message = match (self.message.is_empty(), status) {
            (false, _) => self.message,
            (true, 404) => NO_MODEL.to_owned(),
            (true, 413) => "the request is too large for the provider".to_owned(),
            (true, _) => "the provider finds the request not valid".to_owned(),
        };
        // Numbers and Anthropic's general types are no codes that a caller could use.
        let code = Some(self.code).filter(|code| !code.is_empty() && code.parse::<u16>().is_err());
        Error::Refused { status, message, param: self.param, code }
    }

    fn out_of_money(&self) -> bool {
        self.kind == "insufficient_quota"
            || self.code == "insufficient_quota"
            || self.kind == "billing_error"
            || self.message.contains("credit balance is too low")
    }

    fn bad_key(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.code == "invalid_api_key"
            || ["incorrect api key", "invalid api key", "api key not valid"]
                .iter()
                .any(|t| message.contains(t))
    }

    fn cause(self) -> Option<Cause> {
        let words = [self.kind, self.code, self.message];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        (!words.is_empty()).then(|| words.join(": ").into())
    }
}

/// Longer names of a kind, a code or a parameter are none, in bytes.
const LONGEST_NAME: usize = 128;

/// Whether a provider's word is the name of a kind, a code or a parameter, and tells nothing else: callers compare
/// them, so that one is told whole or not at all.
fn is_name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]$/' ".contains(&byte);
    word.len() <= LONGEST_NAME && word.bytes().all(plain) && scrub(word) == word
}

/// A provider's words without addresses, keys and account names.
pub(crate) fn scrub(words: &str) -> String {
    static SECRET: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"https?://[^\s)>\]]+",
            r"|[Bb]earer\s+\S+",
            r"|\b(?:sk|pk|rk|gsk|xai|hf|r8|nvapi|fw|pplx|tgp|csk|key|org|proj)[-_][A-Za-z0-9*._-]{6,}",
            r"|\bAIza[A-Za-z0-9_-]{20,}",
            r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
        ))
        .expect("the pattern is fixed")
    });
    let end = words.char_indices().nth(LONGEST_MESSAGE).map_or(words.len(), |(at, _)| at);
    SECRET.replace_all(&words[..end], "[…]").into_owned()
}

/// How long the provider asks us to wait.
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let millis = header("retry-after-ms").and_then(|text| text.parse::<f64>().ok()).map(|ms| ms / 1000.0);
    let secs = millis.or_else(|| {
        let text = header(RETRY_AFTER.as_str())?;
        text.parse().ok().or_else(|| {
            let then = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Some(then.duration_since(now).as_secs_f64())
        })
    })?;
    // A date in the past, or nonsense, says that there is nothing to wait for.
    let secs = if secs.is_finite() { secs.max(0.0) } else { return None };
    Some(Duration::from_secs_f64(secs.min(LONGEST_WAIT.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(status: u16, body: &Value) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        of_reply(status, &HeaderMap::new(), body.to_string().as_bytes()).facts().code
    }

    #[test]
    fn every_status_says_who_can_help() {
        let none = json!({});
        for (status, expected) in [
            (301, "upstream_failed"),
            (400, "invalid_value"),
            (401, "upstream_rejected"),
            (402, "upstream_rejected"),
            (403, "upstream_rejected"),
            (404, "model_not_found"),
            (405, "upstream_failed"),
            (408, "upstream_failed"),
            (409, "upstream_failed"),
            (413, "request_too_large"),
            (415, "invalid_value"),
            (422, "invalid_value"),
            (425, "upstream_failed"),
            (429, "upstream_rate_limited"),
            (500, "upstream_failed"),
            (502, "upstream_failed"),
            (503, "upstream_overloaded"),
            (529, "upstream_overloaded"),
        ] {
            assert_eq!(code(status, &none), expected, "{status}");
        }
    }

    #[test]
    fn an_empty_account_is_no_rate_limit() {
        let quota =
            json!({"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}});
        assert_eq!(code(429, &quota), "upstream_rejected");
        let credit = json!({"type": "error", "error": {"type": "invalid_request_error",
            "message": "Your credit balance is too low to access the API."}});
        assert_eq!(code(400, &credit), "upstream_rejected");
        assert_eq!(code(400, &json!({"error": "Incorrect API key provided"})), "upstream_rejected");
    }

    #[test]
    fn the_caller_hears_what_is_wrong_but_no_secret() {
        let body = json!({"error": {"message": "Bad `model`, key sk-proj-abc123DEF456, see https://x.test/docs (now).",
            "type": "invalid_request_error", "param": "model", "code": "bad_model"}});
        let error = of_reply(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.to_string().as_bytes());
        let Error::Refused { status: 400, message, param, code } = error else { panic!("{error:?}") };
        assert_eq!(message, "Bad `model`, key […], see […] (now).");
        assert_eq!((param.as_deref(), code.as_deref()), (Some("model"), Some("bad_model")));
    }

    #[test]
    fn a_name_is_told_whole_or_not_at_all() {
        let told = |param: &str, code: &str| {
            let body = json!({"error": {"message": "no", "param": param, "code": code}}).to_string();
            match of_reply(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes()) {
                Error::Refused { param, code, .. } => (param, code),
                error => panic!("{error:?}"),
            }
        };
        for name in
            ["messages[0].content[1].image_url", "tools.0.input_schema", "response_format", "InvalidValue"]
        {
            assert_eq!(told(name, name), (Some(name.to_owned()), Some(name.to_owned())));
        }
        for secret in [
            "sk-proj-abc123DEF456ghi",
            "http://10.0.0.7:8000/v1",
            "Bearer abcdef",
            "jane@acme.org",
            "<b>\u{7}</b>",
            &"x".repeat(LONGEST_NAME + 1),
        ] {
            assert_eq!(told(secret, secret), (None, None), "{secret}");
        }
    }

    #[test]
    fn bodies_without_an_envelope_are_read() {
        for body in [
            json!({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}),
            json!({"detail": "too long"}),
            json!({"error": "too long"}),
        ] {
            let error = of_reply(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.to_string().as_bytes());
            let Error::Refused { message, code: None, .. } = error else { panic!("{error:?}") };
            assert_eq!(message, "too long");
        }
        let error = of_reply(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>");
        assert!(matches!(error, Error::UpstreamFailed { status: 502, source: None, .. }));
    }

    #[test]
    fn an_error_within_a_stream_has_the_status_that_it_names() {
        for (kind, code, expected) in [
            ("overloaded_error", json!(null), "upstream_overloaded"),
            ("rate_limit_error", json!(null), "upstream_rate_limited"),
            ("api_error", json!(null), "upstream_failed"),
            ("", json!(429), "upstream_rate_limited"),
            ("", json!(502), "upstream_failed"),
            ("", json!("context_length_exceeded"), "invalid_value"),
            ("insufficient_quota", json!(null), "upstream_rejected"),
        ] {
            let body = json!({"error": {"type": kind, "code": code, "message": "x"}});
            let raw = RawValue::from_string(body.to_string()).unwrap();
            assert_eq!(of_stream(&raw).facts().code, expected, "{body}");
        }
    }

    #[test]
    fn the_wait_is_read_in_all_its_spellings() {
        let now = rfc2822::DateTimeParser::new().parse_timestamp("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        for (name, value, expected) in [
            ("retry-after", "2", Some(2000)),
            ("retry-after", "0.5", Some(500)),
            ("retry-after-ms", "1500", Some(1500)),
            ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT", Some(30_000)),
            ("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
            ("retry-after", "9999999999", Some(3_600_000)),
            ("retry-after", "-1", Some(0)),
            ("retry-after", "nan", None),
            ("retry-after", "soon", None),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(wait(&headers, now), expected.map(Duration::from_millis), "{name}: {value}");
        }
    }
}
