//! Whether an answer has the form that was asked for: JSON Schema.
//!
//! The schema comes from the caller, so nothing in it is trusted: a `$ref` to
//! elsewhere is never fetched, and patterns run in linear time.
use jsonschema::PatternOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What becomes of answers that have to follow a JSON Schema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether they are checked. A stream is held until it is known to follow it.
    #[garde(skip)]
    pub check: bool,
    /// Whether the model is told what was wrong, and asked once more.
    #[garde(skip)]
    pub repair: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { check: true, repair: true }
    }
}

/// What an answer is, against its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// It follows the schema.
    Right,
    /// It does, without what stands around the JSON: this is the JSON.
    Wrapped(String),
    /// It does not; why, in words for the model and the caller.
    Wrong(String),
    /// The schema itself cannot be used; why. Then nobody can say.
    Unknown(String),
}

/// More mistakes than this help nobody.
const MOST_MISTAKES: usize = 8;
/// The longest description of a mistake, in characters.
const LONGEST_MISTAKE: usize = 300;

/// Judges a text by a schema.
pub fn judge(schema: &Value, text: &str) -> Form {
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).offline();
    let validator = match options.build(schema) {
        Ok(validator) => validator,
        Err(why) => return Form::Unknown(shortened(&why.to_string())),
    };
    let mistakes = |text: &str| -> Result<(), String> {
        let value: Value = serde_json::from_str(text).map_err(|why| format!("it is not JSON: {why}"))?;
        let told: Vec<String> = validator
            .iter_errors(&value)
            .take(MOST_MISTAKES)
            .map(|mistake| {
                let at = mistake.instance_path().to_string();
                shortened(&format!("at `{}`: {mistake}", if at.is_empty() { "/" } else { &at }))
            })
            .collect();
        if told.is_empty() { Ok(()) } else { Err(told.join("; ")) }
    };
    let Err(why) = mistakes(text) else { return Form::Right };
    match unwrapped(text).filter(|json| mistakes(json).is_ok()) {
        Some(json) => Form::Wrapped(json.to_owned()),
        None => Form::Wrong(why),
    }
}

/// The JSON in a text that says something around it, such as a Markdown fence.
fn unwrapped(text: &str) -> Option<&str> {
    let begin = text.find(['{', '['])?;
    let close = if text[begin..].starts_with('{') { '}' } else { ']' };
    let end = text.rfind(close)?;
    text.get(begin..=end).filter(|json| json.len() < text.len())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_MISTAKE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn person() -> Value {
        json!({
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn an_answer_is_right_wrapped_or_wrong() {
        let judge = |text| judge(&person(), text);
        assert_eq!(judge(r#"{"name": "Ada", "age": 36}"#), Form::Right);
        let fenced = "Here you are:\n```json\n{\"name\": \"Ada\"}\n```";
        assert_eq!(judge(fenced), Form::Wrapped("{\"name\": \"Ada\"}".into()));
        let Form::Wrong(why) = judge(r#"{"age": -1, "x": 1}"#) else { panic!("it was right") };
        for part in ["name", "/age", "x"] {
            assert!(why.contains(part), "{why}");
        }
        let Form::Wrong(why) = judge("Ada is 36") else { panic!("it was right") };
        assert!(why.starts_with("it is not JSON"), "{why}");
    }

    #[test]
    fn nothing_is_fetched_and_no_pattern_takes_long() {
        let remote = json!({"$ref": "http://127.0.0.1:9/schema.json"});
        assert!(matches!(judge(&remote, "{}"), Form::Unknown(_)));
        let file = json!({"$ref": "file:///etc/passwd"});
        assert!(matches!(judge(&file, "{}"), Form::Unknown(_)));
        let slow = json!({"type": "string", "pattern": "^(a+)+$"});
        let text = format!("\"{}!\"", "a".repeat(5000));
        assert!(matches!(judge(&slow, &text), Form::Wrong(_)));
        assert!(matches!(judge(&json!({"type": "nonsense"}), "1"), Form::Unknown(_)));
    }
}
