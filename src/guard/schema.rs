//! Whether an answer has the form that was asked for: JSON Schema.
//!
//! The schema comes from the caller, so nothing in it is trusted: a `$ref` to
//! elsewhere is never fetched, patterns run in linear time, and a schema that
//! says much in few words, by references to references, is refused.
mod size;

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::size::{Allowed, Size};

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

/// Whether a schema can be used; else why not, in words for who sent it. What is right but beyond this program
/// (patterns that look around, dialects of one's own) passes, and is not checked.
pub fn check(schema: &Value) -> Result<(), String> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err("must be a JSON Schema: an object".into());
    }
    let size = Size::of(schema).map_err(|why| format!("must be a JSON Schema that can be used: {why}"))?;
    let most = size.pattern_memory();
    let Err(first) = build(schema, most) else { return Ok(()) };
    // A pattern may need an engine that goes back and forth, or more memory: it is right, but nothing that runs here.
    let other = PatternOptions::fancy_regex().size_limit(most).dfa_size_limit(most);
    let wrong = match jsonschema::options().with_pattern_options(other).offline().build(schema) {
        Err(wrong) if !is_only_large(&wrong) => wrong,
        _ => {
            tracing::debug!(why = %first, "a caller's schema has patterns that are not checked");
            return Ok(());
        }
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

/// Makes the judge of a schema, each of whose patterns may take so much memory.
fn build(schema: &Value, most: usize) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::regex().size_limit(most).dfa_size_limit(most);
    jsonschema::options().with_pattern_options(patterns).offline().build(schema)
}

/// Whether this is a pattern that is right by itself, and takes more than its share of the memory.
fn is_only_large(wrong: &ValidationError<'_>) -> bool {
    let patterns = PatternOptions::fancy_regex();
    let alone = || {
        jsonschema::options()
            .with_pattern_options(patterns)
            .offline()
            .build(&json!({"pattern": wrong.instance()}))
    };
    matches!(wrong.kind(), ValidationErrorKind::Format { .. }) && alone().is_ok()
}

/// Judges a text by a schema, both with the caller's `own` values in the place of their placeholders, which stand in
/// what is told all the same: the model hears it.
pub fn judge(schema: &Value, text: &str, own: Option<&dyn Fn(&str) -> String>) -> Form {
    let Some(own) = own else { return judge_as_it_is(schema, text) };
    // A caller's value may stand in the schema, too, and was masked there.
    let Ok(shown) = serde_json::from_str::<Value>(&own(&schema.to_string())) else {
        return judge_as_it_is(schema, text);
    };
    let masked = |text: &str| match judge_as_it_is(schema, text) {
        Form::Wrong(why) => Form::Wrong(why),
        _ => Form::Wrong("what stands behind a placeholder such as [EMAIL_1] does not follow it".into()),
    };
    match judge_as_it_is(&shown, &own(text)) {
        Form::Wrong(_) => masked(text),
        // The JSON without what stands around it, with its placeholders.
        Form::Wrapped(_) => {
            unwrapped(text).map_or_else(|| masked(text), |json| Form::Wrapped(json.to_owned()))
        }
        form => form,
    }
}

fn judge_as_it_is(schema: &Value, text: &str) -> Form {
    let size = match Size::of(schema) {
        Ok(size) => size,
        Err(why) => return Form::Unknown(why.into()),
    };
    let mistakes = |text: &str| -> Result<Option<String>, String> {
        let read = serde_json::from_str::<Value>(text);
        let allowed = match &read {
            Ok(value) => size.allowed(value, text.len()),
            Err(_) => Some(Allowed { patterns: size.pattern_memory(), mistakes: false }),
        };
        let Some(allowed) = allowed else {
            return Ok(Some("the answer is too deep or too long for so much of a schema".into()));
        };
        let validator = match build(schema, allowed.patterns) {
            Ok(validator) => validator,
            Err(why) => return Ok(Some(shortened(&why.to_string()))),
        };
        let value = read.map_err(|why| {
            format!("it is not JSON (wrong from line {}, column {} on)", why.line(), why.column())
        })?;
        if validator.is_valid(&value) {
            return Ok(None);
        }
        // All mistakes are gathered before the first is told.
        if !allowed.mistakes {
            return Err("it does not have the form that the schema asks for".into());
        }
        let told: Vec<String> = validator
            .iter_errors(&value)
            .take(MOST_MISTAKES)
            .map(|mistake| {
                let at = mistake.instance_path().to_string();
                shortened(&format!("at `{}`: {mistake}", if at.is_empty() { "/" } else { &at }))
            })
            .collect();
        Err(told.join("; "))
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
    use super::*;

    fn judge(schema: &Value, text: &str) -> Form {
        super::judge(schema, text, None)
    }

    #[test]
    fn values_are_judged_and_placeholders_are_told() {
        let own = |text: &str| text.replace("[EMAIL_1]", "ann@example.org");
        let judge =
            |schema: Value, text: &str| super::judge(&json!({"properties": {"e": schema}}), text, Some(&own));
        for right in [
            json!({"pattern": "^[^@]+@[^@]+$"}),
            json!({"minLength": 12}),
            json!({"enum": ["ann@example.org"]}),
        ] {
            assert_eq!(judge(right.clone(), r#"{"e": "[EMAIL_1]"}"#), Form::Right, "{right}");
            let wrapped = "Here: {\"e\": \"[EMAIL_1]\"}.";
            assert_eq!(judge(right, wrapped), Form::Wrapped("{\"e\": \"[EMAIL_1]\"}".into()));
        }
        // As a schema that the caller's value stands in comes here.
        for right in [json!({"enum": ["[EMAIL_1]", "none"]}), json!({"const": "[EMAIL_1]"})] {
            assert_eq!(judge(right.clone(), r#"{"e": "[EMAIL_1]"}"#), Form::Right, "{right}");
            assert!(matches!(judge(right, r#"{"e": "[EMAIL_2]"}"#), Form::Wrong(_)));
        }
        for wrong in [json!({"maxLength": 12}), json!({"maxLength": 3}), json!({"pattern": "^\\["})] {
            let Form::Wrong(why) = judge(wrong.clone(), r#"{"e": "[EMAIL_1]"}"#) else {
                panic!("{wrong} let it pass")
            };
            assert!(why.contains("[EMAIL_1]") && !why.contains('@'), "{why}");
        }
    }

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
        let all = json!({"items": {"allOf": vec![json!({"type": "number"}); 4000]}});
        let long = |values: usize| format!("[{}1]", "1,".repeat(values));
        assert!(matches!(judge(&all, &long(100)), Form::Right));
        assert!(matches!(judge(&all, &long(100_000)), Form::Unknown(_)));
        let Form::Wrong(why) = judge(&all, &format!("[{}1]", "\"\",".repeat(20_000))) else {
            panic!("it was right")
        };
        assert_eq!(why, "it does not have the form that the schema asks for");
        let named: Vec<_> = vec![json!({"format": "hostname"}); 4000];
        let named = json!({"$schema": "http://json-schema.org/draft-07/schema#", "anyOf": named});
        assert!(matches!(judge(&named, &format!("\"{}\"", "a".repeat(1_000_000))), Form::Unknown(_)));
        let wide: Vec<Value> = (0..6_000).map(|n| json!({"const": n})).collect();
        assert!(check(&json!({"anyOf": wide})).unwrap_err().contains("too many"));
    }

    #[test]
    fn what_is_counted_is_what_is_used() {
        // Each leads to a schema that doubles, past another of the same name that is small.
        let link = |to: usize| json!({"$ref": format!("#/$defs/d{to}")});
        let mut large: serde_json::Map<_, _> =
            (0..40).map(|at| (format!("d{at}"), json!({"anyOf": [link(at + 1), link(at + 1)]}))).collect();
        large.insert("d40".into(), json!({"type": "string"}));
        let small: serde_json::Map<_, _> = (0..=40).map(|at| (format!("d{at}"), json!(true))).collect();
        let within = json!({"$id": "http://a.test/b", "$defs": large, "$ref": "#/$defs/d0"});
        let mut named = large.clone();
        named["d0"]["$anchor"] = "a".into();
        let mut spelled = large.clone();
        spelled.insert("d%30".into(), true.into());
        // Definitions of properties are none.
        let mut properties: serde_json::Map<_, _> = large.clone();
        for at in 0..40 {
            let next = json!({"properties": {"$defs": link(at + 1)}});
            properties.insert(format!("d{at}"), json!({"anyOf": [next, next]}));
        }
        let old = "http://json-schema.org/draft-04/schema#";
        for schema in [
            json!({"$defs": small, "allOf": [within]}),
            json!({"$defs": small, "allOf": [{"$schema": old, "id": "http://a.test/b", "$defs": large, "$ref": "#/$defs/d0"}]}),
            json!({"$defs": named, "$ref": "#a", "const": {"$anchor": "a"}}),
            json!({"$defs": spelled, "$ref": "#/$defs/d%30"}),
            json!({"$id": "http://a.test/b", "$ref": "b", "$defs": large, "const": {"$anchor": "b"}}),
            json!({"$defs": properties, "$ref": "#/$defs/d0"}),
        ] {
            assert!(check(&schema).is_err(), "{schema}");
            assert!(matches!(judge(&schema, "1"), Form::Unknown(_)), "{schema}");
        }
        for schema in [
            json!({"$id": "http://a.test/b", "$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "string"}}}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"default": {"id": "x"}}}}),
            json!({"allOf": [{"$id": "http://a.test/b"}]}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn what_is_left_over_is_not_looked_for_within_itself_many_times() {
        let of = |times: usize| {
            let inner = json!({"properties": {"a": true}});
            (0..times).fold(inner, |all, _| json!({"allOf": [all], "unevaluatedProperties": false}))
        };
        assert_eq!(check(&of(40)), Ok(()));
        assert!(matches!(judge(&of(5), r#"{"a":1}"#), Form::Right));
        assert!(matches!(judge(&of(5), r#"{"b":1}"#), Form::Wrong(_)));
        assert!(matches!(judge(&of(40), r#"{"a":1}"#), Form::Unknown(_)));
    }

    #[test]
    fn patterns_share_what_they_may_take() {
        let of = |pattern: &str, n: usize| json!({"allOf": (0..n).map(|at| json!({"pattern": format!("{pattern}{at}")})).collect::<Vec<_>>()});
        // One that is large is checked, many are not; both are right.
        let large = r"^\p{L}{50}";
        assert_eq!((check(&of(large, 1)), check(&of(large, 200))), (Ok(()), Ok(())));
        assert!(matches!(judge(&of(large, 1), "\"a\""), Form::Wrong(_)));
        assert!(matches!(judge(&of(large, 200), "\"a\""), Form::Unknown(_)));
        let named: serde_json::Map<_, _> = (0..200).map(|at| (format!("{large}{at}"), json!(true))).collect();
        assert_eq!(check(&json!({"patternProperties": named})), Ok(()));
        let many = of("^[a-z0-9-]{1,63}", 200);
        assert_eq!(check(&many), Ok(()));
        assert!(matches!(judge(&many, "\"a\""), Form::Wrong(_)));
        // A pattern that holds each byte against all of itself is not held against many bytes, nor often.
        let wide = json!({"pattern": "(?:[ab]{0,300}a){0,60}c"});
        let text = |length: usize| format!("\"{}\"", "ab".repeat(length / 2));
        assert!(matches!(judge(&wide, &text(100)), Form::Wrong(_)));
        assert!(matches!(judge(&wide, &text(200_000)), Form::Unknown(_)));
        let often = json!({"allOf": vec![json!({"$ref": "#/$defs/wide"}); 2000], "$defs": {"wide": wide}});
        assert!(matches!(judge(&often, &text(10_000)), Form::Unknown(_)));
        assert!(matches!(judge(&many, &text(1_000)), Form::Wrong(_)));
        let tree =
            json!({"anyOf": [{"items": {"$ref": "#"}, "type": "array"}, {"items": {"$ref": "#"}}, wide]});
        assert!(matches!(judge(&tree, &format!("[[{}]]", text(500))), Form::Right));
        let deep = format!("{}{}{}", "[".repeat(12), text(500), "]".repeat(12));
        assert!(matches!(judge(&tree, &deep), Form::Unknown(_)));
        let long = json!({"pattern": format!("[{}]", r"\w\W".repeat(10_000))});
        assert!(check(&long).unwrap_err().contains("too long"));
        assert!(check(&json!({"pattern": r"(?:\w{1000}){1000}"})).is_err());
    }
}
