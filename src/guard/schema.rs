//! Whether an answer has the form that was asked for: JSON Schema.
//!
//! The schema comes from the caller, so nothing in it is trusted: a `$ref` to
//! elsewhere is never fetched, patterns run in linear time, and a schema that
//! says much in few words, by references to references, is refused.
use std::collections::HashMap;

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
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

/// The most values in a schema, and in what its references stand for.
const LARGEST: usize = 10_000;
const MOST_REFERRED: usize = 50_000;
/// How deep it may be, with what its references stand for.
const DEEPEST: usize = 128;
/// A schema that refers to itself more than once may double with each level of an answer: so much of that is checked.
const MOST_BRANCHES: f64 = 50_000.0;

/// Whether a schema can be used; else why not, in words for who sent it. What is right but beyond this program
/// (patterns that look around, dialects of one's own) passes, and is not checked.
pub fn check(schema: &Value) -> Result<(), String> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err("must be a JSON Schema: an object".into());
    }
    Size::of(schema).map_err(|why| format!("must be a JSON Schema that can be used: {why}"))?;
    let Err(first) = build(schema, PatternOptions::regex()) else { return Ok(()) };
    // A pattern may need an engine that goes back and forth: it is right, but nothing that runs here.
    let Err(wrong) = build(schema, PatternOptions::fancy_regex()) else {
        tracing::debug!(why = %first, "a caller's schema has patterns that are not checked");
        return Ok(());
    };
    match wrong.kind() {
        ValidationErrorKind::Referencing(jsonschema::ReferencingError::UnknownSpecification { .. }) => Ok(()),
        ValidationErrorKind::Referencing(why) => {
            Err(shortened(&format!("must be a valid JSON Schema: a reference in it leads nowhere: {why}")))
        }
        _ => {
            let place = wrong.instance_path().to_string();
            let place = if place.is_empty() { "/" } else { &place };
            Err(shortened(&format!(
                "must be a valid JSON Schema: at `{place}`, this is not valid: {}",
                wrong.instance()
            )))
        }
    }
}

fn build<E>(schema: &Value, patterns: PatternOptions<E>) -> Result<Validator, ValidationError<'static>> {
    jsonschema::options().with_pattern_options(patterns).offline().build(schema)
}

/// Judges a text by a schema.
pub fn judge(schema: &Value, text: &str) -> Form {
    let size = match Size::of(schema) {
        Ok(size) => size,
        Err(why) => return Form::Unknown(why.into()),
    };
    let validator = match build(schema, PatternOptions::regex()) {
        Ok(validator) => validator,
        Err(why) => return Form::Unknown(shortened(&why.to_string())),
    };
    let mistakes = |text: &str| -> Result<Option<String>, String> {
        let value: Value = serde_json::from_str(text).map_err(|why| {
            format!("it is not JSON (wrong from line {}, column {} on)", why.line(), why.column())
        })?;
        if !size.allows(depth(&value)) {
            return Ok(Some("the answer is too deep for a schema that refers to itself so often".into()));
        }
        let told: Vec<String> = validator
            .iter_errors(&value)
            .take(MOST_MISTAKES)
            .map(|mistake| {
                let at = mistake.instance_path().to_string();
                shortened(&format!("at `{}`: {mistake}", if at.is_empty() { "/" } else { &at }))
            })
            .collect();
        if told.is_empty() { Ok(None) } else { Err(told.join("; ")) }
    };
    let why = match mistakes(text) {
        Ok(None) => return Form::Right,
        Ok(Some(why)) => return Form::Unknown(why),
        Err(why) => why,
    };
    match unwrapped(text).filter(|json| matches!(mistakes(json), Ok(None))) {
        Some(json) => Form::Wrapped(json.to_owned()),
        None => Form::Wrong(why),
    }
}

/// How much a schema is, once its references are put in place.
struct Size {
    /// References to what they are part of: each time an answer is a level deeper, so many more come.
    recursions: usize,
}

impl Size {
    /// The size of a schema that is not too large; else in what it is.
    fn of(schema: &Value) -> Result<Self, &'static str> {
        let names = HashMap::new();
        let mut all = Walk { schema, names, values: 0, referred: 0, recursions: 0, within: vec![schema] };
        all.values(schema, 0)?;
        all.referred(schema, 0)?;
        Ok(Self { recursions: all.recursions })
    }

    /// Whether an answer so deep is checked in bounded time.
    fn allows(&self, depth: usize) -> bool {
        self.recursions < 2 || (self.recursions as f64).powf(depth as f64) <= MOST_BRANCHES
    }
}

/// Goes through a schema.
struct Walk<'s> {
    schema: &'s Value,
    /// What has a name of its own.
    names: HashMap<&'s str, &'s Value>,
    values: usize,
    referred: usize,
    recursions: usize,
    /// What references stand for, from the outside in.
    within: Vec<&'s Value>,
}

impl<'s> Walk<'s> {
    /// Counts the values as they are written.
    fn values(&mut self, value: &'s Value, depth: usize) -> Result<(), &'static str> {
        self.values += 1;
        if self.values > LARGEST || depth > DEEPEST {
            return Err("it has too many values, or too many within each other");
        }
        let named =
            ["$anchor", "$dynamicAnchor", "$id", "id"].iter().filter_map(|key| value.get(key)?.as_str());
        self.names.extend(named.map(|name| (name, value)));
        children(value).try_for_each(|child| self.values(child, depth + 1))
    }

    /// Counts them with what references stand for.
    fn referred(&mut self, value: &'s Value, depth: usize) -> Result<(), &'static str> {
        self.referred += 1;
        if self.referred > MOST_REFERRED || depth > DEEPEST {
            return Err("its references lead to too much");
        }
        for reference in
            ["$ref", "$dynamicRef", "$recursiveRef"].iter().filter_map(|key| value.get(key)?.as_str())
        {
            let target = self.target(reference).ok_or("a reference in it leads to nothing in it")?;
            if self.within.iter().any(|known| std::ptr::eq(*known, target)) {
                self.recursions += 1;
            } else {
                self.within.push(target);
                self.referred(target, depth + 1)?;
                self.within.pop();
            }
        }
        parts(value).try_for_each(|child| self.referred(child, depth + 1))
    }

    /// What a reference stands for.
    fn target(&self, reference: &str) -> Option<&'s Value> {
        let within = reference.strip_prefix('#');
        let by_path = within.and_then(|path| self.schema.pointer(path));
        by_path.or_else(|| self.names.get(within.unwrap_or(reference)).copied())
    }
}

/// The values within a value.
fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(map) => Box::new(map.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The same without definitions, which are nothing until a reference leads to them.
fn parts(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    let definitions = |key: &str| matches!(key, "$defs" | "definitions");
    match value {
        Value::Object(map) => {
            Box::new(map.iter().filter(move |(key, _)| !definitions(key)).map(|(_, value)| value))
        }
        other => children(other),
    }
}

/// How many values are within each other.
fn depth(value: &Value) -> usize {
    1 + children(value).map(depth).max().unwrap_or(0)
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
        assert!(check(&remote).is_err());
        assert!(matches!(judge(&remote, "{}"), Form::Unknown(_)));
        let file = json!({"$ref": "file:///etc/passwd"});
        assert!(matches!(judge(&file, "{}"), Form::Unknown(_)));
        let slow = json!({"type": "string", "pattern": "^(a+)+$"});
        let text = format!("\"{}!\"", "a".repeat(5000));
        assert!(matches!(judge(&slow, &text), Form::Wrong(_)));
        assert!(matches!(judge(&json!({"type": "nonsense"}), "1"), Form::Unknown(_)));
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_told_so_and_what_is_only_not_checked_passes() {
        for (schema, said) in [
            (json!({"type": "nonsense"}), "at `/type`"),
            (
                json!({"type": "object", "properties": {"age": {"type": "intger"}}}),
                "at `/properties/age/type`",
            ),
            (json!({"required": "name"}), "at `/required`"),
            (json!({"pattern": "(("}), "at `/pattern`"),
            (json!({"$ref": "#/$defs/nowhere"}), "leads to nothing"),
            (json!([1]), "an object"),
        ] {
            let why = check(&schema).unwrap_err();
            assert!(why.contains(said), "{schema}: {why}");
        }
        for schema in [
            json!({}),
            json!({"a": 1}),
            json!({"pattern": "^(?=a)"}),
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "string"}),
            json!({"$schema": "https://example.org/mine", "type": "string"}),
            json!({"$ref": "#node", "$defs": {"node": {"$anchor": "node", "items": {"$ref": "#/$defs/node"}}}}),
            person(),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn references_that_multiply_are_refused_and_deep_answers_to_them_not_checked() {
        let link = |to: usize| json!({"$ref": format!("#/$defs/d{to}")});
        let mut doubling: serde_json::Map<_, _> =
            (0..40).map(|at| (format!("d{at}"), json!({"anyOf": [link(at + 1), link(at + 1)]}))).collect();
        doubling.insert("d40".into(), json!({"type": "string"}));
        let schema = json!({"$ref": "#/$defs/d0", "$defs": doubling});
        assert!(check(&schema).unwrap_err().contains("too much"));
        assert!(matches!(judge(&schema, "1"), Form::Unknown(_)));

        let twice = json!({"anyOf": [
            {"type": "array", "items": {"$ref": "#"}}, {"type": "array", "items": {"$ref": "#"}, "minItems": 2}]});
        assert_eq!(check(&twice), Ok(()));
        assert!(matches!(judge(&twice, "[[1]]"), Form::Wrong(_)));
        assert!(matches!(judge(&twice, &format!("{}1{}", "[".repeat(60), "]".repeat(60))), Form::Unknown(_)));
        let list = json!({"properties": {"next": {"$ref": "#"}}, "type": "object"});
        let deep = format!("{}1{}", "{\"next\":".repeat(60), "}".repeat(60));
        assert!(matches!(judge(&list, &deep), Form::Wrong(_)), "one at a time is no harm");
        let wide: Vec<Value> = (0..6_000).map(|n| json!({"const": n})).collect();
        assert!(check(&json!({"anyOf": wide})).unwrap_err().contains("too many"));
    }
}
