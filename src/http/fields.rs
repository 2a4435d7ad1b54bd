//! Reading a native request's fields, all mistakes at once.
use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{read, values};
use crate::{
    error::{Error, FieldError, Result},
    wire,
};

/// The fields of a JSON object, taken out one by one; what is wrong is gathered.
pub struct Fields {
    map: Map<String, Value>,
    problems: Vec<FieldError>,
}

/// A JSON object, and the names that it has more than once.
struct Object {
    map: Map<String, Value>,
    twice: Vec<String>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
        let (mut map, mut twice) = (Map::new(), Vec::new());
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            if map.contains_key(&name) && !twice.contains(&name) && twice.len() < MOST_TWICE {
                twice.push(name.clone());
            }
            map.insert(name, value);
        }
        Ok(Object { map, twice })
    }
}

/// The most characters of a text whose length nothing but the body's size bounds.
pub const UNBOUNDED: usize = usize::MAX - 1;
/// More names than this are not told.
const MOST_TWICE: usize = 8;
/// Nor more mistakes than this.
const MOST_PROBLEMS: usize = 64;
/// The longest name or message of a mistake, in characters.
const LONGEST: usize = 300;

impl Fields {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self> {
        if !values::is_plain(body) {
            return Err(values::too_many());
        }
        if let Ok(Object { map, twice }) = wire::read(body) {
            let mut this = Self { map, problems: Vec::new() };
            // Whoever looked at the request before us may have judged by the other value.
            twice.iter().for_each(|name| this.wrong(name, "is given twice"));
            return Ok(this);
        }
        let value = serde_json::from_slice::<Value>(body).map_err(|error| {
            if read::is_beyond(&error) {
                read::wrong::<Value>(body, &error)
            } else {
                Error::NotJson(place(&error))
            }
        })?;
        Err(Error::invalid("body", format!("must be a JSON object, not {}", kind(&value))))
    }

    /// No fields, for a request that has them in its URL.
    pub fn empty() -> Self {
        Self { map: Map::new(), problems: Vec::new() }
    }

    /// Sets a field, unless the body has it.
    pub fn default(&mut self, name: &str, value: impl Into<Value>) {
        self.map.entry(name).or_insert_with(|| value.into());
    }

    /// Moves a field to another name, unless that has one.
    pub fn alias(&mut self, from: &str, to: &str) {
        if let Some(value) = self.map.shift_remove(from) {
            self.default(to, value);
        }
    }

    /// Says that a field is wrong. What is said may have words of the caller's in it, of which little is repeated.
    pub fn wrong(&mut self, field: &str, message: impl Into<String>) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(FieldError { field: short(field), message: short(&message.into()) });
        }
    }

    /// Whether something was wrong with a field.
    pub fn is_wrong(&self, field: &str) -> bool {
        self.problems.iter().any(|problem| problem.field == field)
    }

    /// A text of `least` to `most` characters; [`UNBOUNDED`] is for those that the size of a body bounds.
    pub fn text(&mut self, name: &str, least: usize, most: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => {
                let length = text.chars().take(most + 1).count();
                if (least..=most).contains(&length) {
                    return Some(text);
                }
                self.wrong(
                    name,
                    match most {
                        UNBOUNDED if least == 1 => "must not be empty".to_owned(),
                        _ => format!("must be {least} to {most} characters long"),
                    },
                );
            }
            other => self.wrong(name, format!("must be a text, not {}", kind(&other))),
        }
        None
    }

    /// A text that must be there.
    pub fn required(&mut self, name: &str, least: usize, most: usize) -> String {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.wrong(name, "is required");
            return String::new();
        }
        self.text(name, least, most).unwrap_or_default()
    }

    /// A number within bounds.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Option<f64> {
        let value = self.take(name)?;
        match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => return Some(number),
            Some(_) => self.wrong(name, format!("must be {least} to {most}")),
            None => self.wrong(name, format!("must be a number, not {}", kind(&value))),
        }
        None
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        let value = self.take(name)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => return Some(number),
            None => self.wrong(name, format!("must be a whole number from {least} to {most}")),
        }
        None
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => return Some(flag),
            other => self.wrong(name, format!("must be true or false, not {}", kind(&other))),
        }
        None
    }

    /// One of some words.
    pub fn choice(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.take(name)?;
        let found = words.iter().find(|word| value.as_str() == Some(**word)).copied();
        if found.is_none() {
            self.wrong(name, format!("must be one of `{}`", words.join("`, `")));
        }
        found
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(map) => return Some(map),
            other => self.wrong(name, format!("must be an object, not {}", kind(&other))),
        }
        None
    }

    /// A value of any kind: `None` where it is left out, `Some(None)` where it is null.
    pub fn given<T: DeserializeOwned>(&mut self, name: &str) -> Option<Option<T>> {
        let value = self.map.shift_remove(name)?;
        match read::value(name, value) {
            Ok(value) => return Some(value),
            Err(problem) => self.wrong(&problem.field, problem.message),
        }
        None
    }

    /// Whatever is left is a mistake: a misspelt limit must not be none.
    pub fn nothing_else(&mut self) {
        let left: Vec<String> = self.map.keys().take(MOST_TWICE).cloned().collect();
        left.iter().for_each(|name| self.wrong(name, "there is no such field"));
    }

    /// All that was wrong, if anything was.
    pub fn done(self) -> Result<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Invalid(self.problems)) }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }
}

pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What is wrong with a JSON text, and where; never the text itself.
fn place(error: &serde_json::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{Caps, Priority, Quota};

    /// What is told of a body of one field `f` that is read as a `T`.
    fn told<T: DeserializeOwned>(json: &str) -> String {
        let mut fields = Fields::read(format!(r#"{{"f":{json}}}"#).as_bytes()).unwrap();
        assert!(fields.given::<T>("f").is_none(), "{json} was taken");
        fields.done().unwrap_err().to_string()
    }

    #[test]
    fn a_value_that_does_not_fit_is_told_in_words_and_not_repeated() {
        for (told, expected) in [
            (told::<Vec<String>>(r#""sk-secret""#), "`f`: must be a list, not this string"),
            (told::<Vec<String>>(r#"["a",7]"#), "`f[1]`: must be a string, not this number"),
            (
                told::<Vec<Priority>>(r#"["low","sk-secret"]"#),
                "`f[1]`: must be one of `low`, `normal`, `high`",
            ),
            (told::<Priority>("7"), "`f`: must be a string, not this number"),
            (told::<Priority>(r#"{"low":1,"high":2}"#), "`f`: must be a string, not an object"),
            (told::<read::Object<Caps>>("[1]"), "`f`: must be an object, not a list"),
            (
                told::<read::Object<Caps>>(r#"{"day_usd":"1"}"#),
                "`f.day_usd`: must be a number, not this string",
            ),
            (told::<read::Object<Quota>>(r#"{"sk-secret":1}"#), "`f.sk-secret`: there is no such field"),
            (
                told::<read::Object<Quota>>(r#"{"burst":-1}"#),
                "`f.burst`: must be a whole number that is not too large, not this number",
            ),
        ] {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_number_beyond_all_is_named() {
        let told = |body: &str| Fields::read(body.as_bytes()).err().unwrap().to_string();
        let beyond = "must be a number that is not too large";
        assert_eq!(told(r#"{"a":1,"f":{"g":[1e400]}}"#), format!("`f.g[0]`: {beyond}"));
        let long = told(&format!(r#"{{"{}":1e400}}"#, "é".repeat(100_000)));
        assert!(long.ends_with(beyond) && long.chars().count() < 2 * LONGEST, "{long}");
        assert!(told("[1e400]").ends_with("must be an object, not a list"));
    }

    #[test]
    fn long_names_and_many_mistakes_are_not_repeated_whole() {
        let mut fields = Fields::read(format!(r#"{{"{}":1}}"#, "é".repeat(100_000)).as_bytes()).unwrap();
        fields.nothing_else();
        (0..1000).for_each(|_| fields.wrong("f", "x".repeat(1000)));
        let Err(Error::Invalid(problems)) = fields.done() else { panic!("it was taken") };
        assert_eq!((problems.len(), problems[0].field.chars().count()), (MOST_PROBLEMS, LONGEST + 1));
        assert_eq!(problems[1].message.chars().count(), LONGEST + 1);
    }
}
