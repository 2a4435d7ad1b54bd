//! Reading a compatible API's request: typed, in one pass, straight from the bytes.
//!
//! serde's errors do not say where in the body they happened and may repeat
//! what they found. So a body that does not fit is read a second time, by a
//! reader that keeps the path, and the message is made anew from what was
//! expected there.
use std::{fmt, marker::PhantomData, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value, error::Category, value::RawValue};

use super::{
    fields::short,
    query::LONGEST_ID,
    values::{MOST_VALUES, is_plain, too_many, values},
};
use crate::{
    chat::Source,
    error::{Error, FieldError, Result},
    wire,
};

/// What serde says of such a number.
const BEYOND: &str = "number out of range";

/// Reads a body that is to be one JSON object.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if is_plain(bytes) { read(bytes) } else { Err(too_many()) }
}

/// The same where one field, which `field` finds, may have any number of values, as tokens to embed are.
pub(super) fn body_apart<T: DeserializeOwned>(
    bytes: &[u8],
    field: impl FnOnce(&[u8]) -> Option<&RawValue>,
) -> Result<T> {
    if !is_plain(bytes) {
        let apart = field(bytes).map_or(0, |field| values(field.get().as_bytes()));
        if values(bytes) > MOST_VALUES.saturating_add(apart) {
            return Err(too_many());
        }
    }
    read(bytes)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    wire::read::<Object<T>>(bytes).map(|object| object.0).map_err(|error| {
        match error.classify() {
            Category::Data => wrong::<T>(bytes, &error),
            Category::Syntax if is_beyond(&error) => wrong::<T>(bytes, &error),
            // These messages are about the JSON itself and repeat none of it.
            Category::Syntax | Category::Eof | Category::Io => Error::NotJson(error.to_string()),
        }
    })
}

/// Whether it is JSON, with a number that is too large for any.
pub(super) fn is_beyond(error: &serde_json::Error) -> bool {
    error.to_string().starts_with(BEYOND)
}

pub(super) fn wrong<T: DeserializeOwned>(bytes: &[u8], first: &serde_json::Error) -> Error {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, Object<T>>(&mut json) {
        Ok(_) => Error::Invalid(vec![told(String::new(), &first.to_string())]),
        Err(error) => {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            Error::Invalid(vec![told(path, &error.inner().to_string())])
        }
    }
}

/// Reads a value that stands in the body under a name; `null` is none.
pub(super) fn value<T: DeserializeOwned>(name: &str, value: Value) -> Result<Option<T>, FieldError> {
    serde_path_to_error::deserialize::<_, Option<T>>(value).map_err(|error| {
        let path = match error.path().to_string() {
            inside if inside == "." => name.to_owned(),
            // Before an index stands no point.
            inside if inside.starts_with('[') => format!("{name}{inside}"),
            inside => format!("{name}.{inside}"),
        };
        told(path, &error.inner().to_string())
    })
}

/// serde's words for what is wrong, in ours.
fn told(path: String, words: &str) -> FieldError {
    if words.starts_with(BEYOND) {
        return FieldError {
            field: short(&path),
            message: "must be a number that is not too large".to_owned(),
        };
    }
    let wrong = |field, message: &str| FieldError { field, message: message.to_owned() };
    for (start, message) in [("missing field `", "is required"), ("duplicate field `", "is given twice")] {
        if let Some((name, _)) = words.strip_prefix(start).and_then(|rest| rest.split_once('`')) {
            let field = if path.is_empty() || path.ends_with(name) {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            return wrong(field, message);
        }
    }
    if words.starts_with("unknown field `") {
        return wrong(path, "there is no such field");
    }
    let field = if path.is_empty() { "body".to_owned() } else { path };
    // What was found comes before what was expected and may hold the same words: look from the end.
    let Some((found, expected)) = words.rsplit_once(", expected ") else {
        return wrong(field, "does not have the form that is expected here");
    };
    let expected = expected.rsplit_once(" at line ").map_or(expected, |(expected, _)| expected);
    wrong(field, &format!("must be {}{}", expected_words(expected), found_words(found)))
}

fn expected_words(expected: &str) -> &str {
    match expected {
        "f64" => "a number",
        "i64" | "u64" | "u32" | "usize" => "a whole number that is not too large",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        // A word of a list.
        "string or map" | "map with a single key" | "unit" | "unit variant" => "a string",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

fn found_words(found: &str) -> &'static str {
    let kinds = [
        ("null", ", not null"),
        ("boolean", ", not true or false"),
        ("integer", ", not this number"),
        ("floating point", ", not this number"),
        ("string", ", not this string"),
        ("sequence", ", not a list"),
        ("map", ", not an object"),
    ];
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    kinds.iter().find(|(kind, _)| found.starts_with(kind)).map_or("", |(_, words)| words)
}

/// A value that must be a JSON object. serde alone would take a list of its fields as well.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Visit<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Visit(PhantomData))
    }
}

/// One text, or a list of something.
#[derive(Debug)]
pub(super) enum TextOr<T> {
    /// The text.
    Text(String),
    /// The list.
    List(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Visit<T> {
            type Value = TextOr<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list")
            }
            fn visit_str<E>(self, text: &str) -> Result<TextOr<T>, E> {
                Ok(TextOr::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<TextOr<T>, E> {
                Ok(TextOr::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TextOr<T>, A::Error> {
                // No room ahead of time: the length is not known, and a hint would be the caller's word.
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(TextOr::List(list))
            }
        }
        deserializer.deserialize_any(Visit(PhantomData))
    }
}

impl TextOr<String> {
    /// All of the texts.
    pub(super) fn into_list(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(list) => list,
        }
    }
}

/// A place in the body, written out only when something is wrong there.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    above: Option<&'a At<'a>>,
    field: &'a str,
    index: Option<usize>,
}

impl<'a> At<'a> {
    /// A field of the body.
    pub(super) fn field(field: &'a str) -> Self {
        Self { above: None, field, index: None }
    }

    /// An element of a list in the body.
    pub(super) fn item(field: &'a str, index: usize) -> Self {
        Self { above: None, field, index: Some(index) }
    }

    /// A field of what is here.
    pub(super) fn then(&'a self, field: &'a str) -> Self {
        Self { above: Some(self), field, index: None }
    }

    /// An element of a list of what is here.
    pub(super) fn then_item(&'a self, field: &'a str, index: usize) -> Self {
        Self { above: Some(self), field, index: Some(index) }
    }

    /// What is wrong here.
    pub(super) fn wrong(&self, message: impl Into<String>) -> Error {
        Error::invalid(self.to_string(), message)
    }

    /// Something that must be here is not.
    pub(super) fn missing(&self) -> Error {
        self.wrong("is required")
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}.")?;
        }
        f.write_str(self.field)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

/// Takes a field out of an object; `null` is the same as nothing.
pub(super) fn take(map: &mut Map<String, Value>, name: &str) -> Option<Value> {
    map.shift_remove(name).filter(|value| !value.is_null())
}

/// Takes a string out of an object.
pub(super) fn maybe_text(map: &mut Map<String, Value>, name: &str, at: &At<'_>) -> Result<Option<String>> {
    match take(map, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(at.then(name).wrong("must be a string")),
    }
}

/// Takes a string that must be there out of an object.
pub(super) fn text(map: &mut Map<String, Value>, name: &str, at: &At<'_>) -> Result<String> {
    maybe_text(map, name, at)?.ok_or_else(|| at.then(name).missing())
}

/// Takes yes or no out of an object.
pub(super) fn maybe_flag(map: &mut Map<String, Value>, name: &str, at: &At<'_>) -> Result<Option<bool>> {
    match take(map, name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(at.then(name).wrong("must be true or false")),
    }
}

/// Takes an object out of an object.
pub(super) fn maybe_object(
    map: &mut Map<String, Value>,
    name: &str,
    at: &At<'_>,
) -> Result<Option<Map<String, Value>>> {
    match take(map, name) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(at.then(name).wrong("must be an object")),
    }
}

/// Takes an object that must be there out of an object.
pub(super) fn object(map: &mut Map<String, Value>, name: &str, at: &At<'_>) -> Result<Map<String, Value>> {
    maybe_object(map, name, at)?.ok_or_else(|| at.then(name).missing())
}

/// Where the bytes at an address are, and of which kind: a `data:` URL has them with it.
pub(super) fn source_of(mut url: String) -> (Source, Option<String>) {
    let Some((mime, bytes)) = wire::data_url(&url) else { return (Source::Url(url), None) };
    let (mime, start) = ((!mime.is_empty()).then(|| mime.to_owned()), url.len() - bytes.len());
    url.drain(..start);
    (Source::Base64(url), mime)
}

/// The arguments of a function that does not say which it has: none.
pub(super) fn no_arguments() -> Value {
    serde_json::json!({"type": "object", "properties": {}})
}

/// Gathers what is wrong with the plain parameters, so that all of it is told at once.
#[derive(Default)]
pub(super) struct Checks(Vec<FieldError>);

impl Checks {
    /// Says that a field is wrong.
    pub(super) fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError { field: field.to_owned(), message: message.into() });
    }

    /// A name that must be there.
    pub(super) fn name(&mut self, field: &str, value: Option<String>) -> String {
        match &value {
            None => self.wrong(field, "is required"),
            Some(name) if name.trim().is_empty() => self.wrong(field, "must not be empty"),
            Some(name) if name.chars().nth(LONGEST_ID).is_some() => {
                self.wrong(field, format!("must be at most {LONGEST_ID} characters long"));
            }
            Some(_) => {}
        }
        value.unwrap_or_default()
    }

    /// A count: at least one, at most `most`.
    pub(super) fn count(&mut self, field: &str, value: Option<i64>, most: u32) -> Option<u32> {
        let value = value?;
        if value < 1 {
            self.wrong(field, "must be at least 1");
        } else if value > i64::from(most) {
            self.wrong(field, format!("must be at most {most}"));
        }
        u32::try_from(value).ok()
    }

    /// A number within bounds.
    pub(super) fn within(
        &mut self,
        field: &str,
        value: Option<f64>,
        bounds: RangeInclusive<f64>,
    ) -> Option<f64> {
        if value.is_some_and(|value| !bounds.contains(&value)) {
            self.wrong(field, format!("must be from {} to {}", bounds.start(), bounds.end()));
        }
        value
    }

    /// All that was wrong, if anything was.
    pub(super) fn done(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The field and the words of an error that names one.
    pub(crate) fn complaint<T>(read: Result<T>) -> String {
        match read {
            Ok(_) => "it was accepted".to_owned(),
            Err(Error::Invalid(fields)) => {
                let told = fields.iter().map(|field| format!("{}: {}", field.field, field.message));
                told.collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it can be read matters")]
    struct Sample {
        count: Option<i64>,
        list: Option<Vec<Object<Inner>>>,
        #[serde(flatten)]
        rest: Map<String, Value>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it can be read matters")]
    struct Inner {
        name: String,
        text: Option<TextOr<String>>,
    }

    #[test]
    fn a_wrong_field_is_named_with_its_path_and_its_content_is_not_repeated() {
        for (json, told) in [
            (r"[1]", "body: must be an object, not a list"),
            (r#"{"count":"secret"}"#, "count: must be a whole number that is not too large, not this string"),
            (r#"{"count":1.5}"#, "count: must be a whole number that is not too large, not this number"),
            (r#"{"count":1e400}"#, "count: must be a number that is not too large"),
            (r#"{"x":{"y":[0,-1e400]}}"#, "x.y[1]: must be a number that is not too large"),
            (r#"{"list":{}}"#, "list: must be a list, not an object"),
            (r#"{"list":[["a"]]}"#, "list[0]: must be an object, not a list"),
            (r#"{"list":[{"name":"a"},{"name":null}]}"#, "list[1].name: must be a string, not null"),
            (r#"{"list":[{}]}"#, "list[0].name: is required"),
            (r#"{"list":[{"name":"a","name":"b"}]}"#, "list[0].name: is given twice"),
            (
                r#"{"list":[{"name":"a","text":7}]}"#,
                "list[0].text: must be a string or a list, not this number",
            ),
            (
                r#"{"list":[{"name":"a","text":[true]}]}"#,
                "list[0].text[0]: must be a string, not true or false",
            ),
            (
                r#"{"count":", expected a map at line 1"}"#,
                "count: must be a whole number that is not too large, not this string",
            ),
        ] {
            assert_eq!(complaint(body::<Sample>(json.as_bytes())), told, "{json}");
        }
    }

    #[test]
    fn a_name_is_not_empty_nor_long() {
        let told = |name: String| {
            let mut checks = Checks::default();
            checks.name("model", Some(name));
            complaint(checks.done())
        };
        assert_eq!(told("é".repeat(256)), "it was accepted");
        assert_eq!(told("é".repeat(257)), "model: must be at most 256 characters long");
        assert_eq!(told(" ".into()), "model: must not be empty");
    }

    #[test]
    fn what_is_not_json_is_told_by_its_place() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(1000));
        for json in [r#"{"a":"#, r#"{"a":1e9"#, r#"{"a":"\ud800"}"#, "", deep.as_str(), r#"{"a":1}x"#] {
            let Err(Error::NotJson(told)) = body::<Sample>(json.as_bytes()) else { panic!("{json}") };
            assert!(told.contains("line 1 column"), "{told}");
        }
        assert!(matches!(body::<Sample>(b"{\"a\":\"\xff\"}"), Err(Error::NotJson(_))));
    }
}
