//! How much a schema is, once its references are put in place.
//!
//! This is counted before the schema is used, by rules simpler than those of JSON Schema: what could be read in two
//! ways, so that another schema is counted than is used, is refused.
use std::{borrow::Cow, collections::HashMap};

use serde_json::{Map, Value};

/// The most values in a schema, and in what its references stand for.
const LARGEST: usize = 10_000;
const MOST_REFERRED: usize = 50_000;
/// How deep it may be, with what its references stand for.
const DEEPEST: usize = 128;
/// How often values of an answer may be looked at by those of the schema. A schema that refers to itself more than once
/// may do so twice as often with each level of an answer.
const MOST_CHECKS: f64 = 500e6;
/// Where all of these may find a mistake, so many are told. Each takes memory, with the names that lead to it.
const MOST_TOLD: f64 = 400e3;
const MOST_TOLD_BYTES: f64 = 50e6;
/// What is left over (`unevaluatedProperties`, `unevaluatedItems`) is found by looking at all within so often.
const UNEVALUATED: f64 = 3.0;
/// The same for the bytes of an answer: formats and lengths go through a text from end to end.
const MOST_READ: f64 = 4e9;
/// How long its patterns may be, all together, in bytes.
const LONGEST_PATTERNS: usize = 32 << 10;
/// The memory that the patterns may take, all together, in bytes. Their makers take time by it.
const PATTERNS_MEMORY: f64 = 8e6;
/// At worst each byte of an answer is held against all of that memory, as often as a pattern is used: so much of it.
const PATTERNS_WORK: f64 = 16e9;

/// The keywords that refer.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// The keywords that ask what is left over.
const LEFT_OVER: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];
/// Keywords under which schemas stand by names of the caller's own: `$defs` is a name like any other there.
const BY_NAME: [&str; 4] = ["properties", "patternProperties", "dependentSchemas", "dependencies"];

/// How much a schema is.
pub(super) struct Size {
    /// References to what they are part of: each time an answer is a level deeper, so many more come.
    recursions: usize,
    /// How many values it has, with what references stand for: at worst all of them look at every value of an answer.
    values: usize,
    /// How many patterns there are, and how many with what references stand for.
    patterns: usize,
    used_patterns: usize,
    /// How many parts that ask what is left over are within each other.
    unevaluated: usize,
}

/// What may be done with an answer in bounded time and memory.
pub(super) struct Allowed {
    /// The memory that each pattern may take, in bytes.
    pub(super) patterns: usize,
    /// Whether its mistakes may be told, not only that there are some.
    pub(super) mistakes: bool,
}

impl Size {
    /// The size of a schema that is not too large; else in what it is.
    pub(super) fn of(schema: &Value) -> Result<Self, &'static str> {
        let mut all = Walk::new(schema);
        all.values(schema, 0)?;
        if all.refers && (all.has_ids || all.has_old_ids && all.is_old || all.same_names) {
            return Err(
                "it has references, and beside them parts with addresses of their own (`$id`), or several \
                        of one name",
            );
        }
        all.referred(schema, false, 0, 0)?;
        let Walk { recursions, referred, patterns, used_patterns, unevaluated, .. } = all;
        Ok(Self { recursions, values: referred, patterns, used_patterns, unevaluated })
    }

    /// The memory that each pattern may take, in bytes.
    pub(super) fn pattern_memory(&self) -> usize {
        (PATTERNS_MEMORY / self.patterns.max(1) as f64) as usize
    }

    /// What may be done with an answer of so many bytes; none where even a look at it would take too long.
    pub(super) fn allowed(&self, answer: &Value, length: usize) -> Option<Allowed> {
        let Extent { depth, values, longest } = Extent::of(answer);
        let branches = if self.recursions < 2 { 1.0 } else { (self.recursions as f64).powf(depth as f64) };
        let often = branches * UNEVALUATED.powf(self.unevaluated as f64);
        let checks = often * values as f64 * self.values as f64;
        let read = often * length as f64;
        let held = read * self.used_patterns.max(1) as f64;
        (checks <= MOST_CHECKS && read * self.values as f64 <= MOST_READ).then(|| Allowed {
            patterns: self.pattern_memory().min((PATTERNS_WORK / held.max(1.0)) as usize),
            mistakes: checks <= MOST_TOLD && checks * (depth * longest) as f64 <= MOST_TOLD_BYTES,
        })
    }
}

/// Goes through a schema.
#[allow(clippy::struct_excessive_bools, reason = "what was seen on the way, each by itself")]
struct Walk<'s> {
    schema: &'s Value,
    /// What has a name of its own.
    names: HashMap<&'s str, &'s Value>,
    same_names: bool,
    /// Whether a part has an address, from which on references are read anew.
    has_ids: bool,
    /// The same, as draft 4 spells it, and whether that draft is meant somewhere.
    has_old_ids: bool,
    is_old: bool,
    refers: bool,
    values: usize,
    patterns: usize,
    used_patterns: usize,
    /// How long the patterns are, in bytes.
    length: usize,
    referred: usize,
    recursions: usize,
    unevaluated: usize,
    /// What references stand for, from the outside in.
    within: Vec<&'s Value>,
}

impl<'s> Walk<'s> {
    fn new(schema: &'s Value) -> Self {
        Self {
            schema,
            names: HashMap::new(),
            same_names: false,
            has_ids: false,
            has_old_ids: false,
            is_old: false,
            refers: false,
            values: 0,
            patterns: 0,
            used_patterns: 0,
            length: 0,
            referred: 0,
            recursions: 0,
            unevaluated: 0,
            within: vec![schema],
        }
    }

    /// Counts the values as they are written.
    fn values(&mut self, value: &'s Value, depth: usize) -> Result<(), &'static str> {
        self.values += 1;
        if self.values > LARGEST || depth > DEEPEST {
            return Err("it has too many values, or too many within each other");
        }
        if let Value::Object(map) = value {
            let text = |key: &str| map.get(key).and_then(Value::as_str);
            for name in ["$anchor", "$dynamicAnchor"].into_iter().filter_map(text) {
                self.same_names |= self.names.insert(name, value).is_some();
            }
            self.has_ids |= depth > 0 && text("$id").is_some();
            self.has_old_ids |= depth > 0 && text("id").is_some();
            self.is_old |= text("$schema").is_some_and(|draft| draft.contains("draft-04"));
            self.refers |= REFERENCES.iter().any(|key| text(key).is_some());
            for pattern in patterns(map) {
                (self.patterns, self.length) = (self.patterns + 1, self.length + pattern.len());
            }
            if self.length > LONGEST_PATTERNS {
                return Err("its patterns are too long");
            }
        }
        children(value).try_for_each(|child| self.values(child, depth + 1))
    }

    /// Counts them with what references stand for. `by_name` tells that the keys are names, not keywords;
    /// `left` how many parts around it ask what is left over.
    fn referred(
        &mut self,
        value: &'s Value,
        by_name: bool,
        mut left: usize,
        depth: usize,
    ) -> Result<(), &'static str> {
        self.referred += 1;
        if self.referred > MOST_REFERRED || depth > DEEPEST {
            return Err("its references lead to too much");
        }
        if !by_name && LEFT_OVER.iter().any(|key| value.get(key).is_some()) {
            left += 1;
            self.unevaluated = self.unevaluated.max(left);
        }
        for reference in REFERENCES.iter().filter_map(|key| value.get(key)?.as_str()) {
            let target = self.target(reference).ok_or("a reference in it leads to nothing in it")?;
            if self.within.iter().any(|known| std::ptr::eq(*known, target)) {
                self.recursions += 1;
            } else {
                self.within.push(target);
                self.referred(target, false, left, depth + 1)?;
                self.within.pop();
            }
        }
        match value {
            Value::Object(map) => {
                self.used_patterns += patterns(map).count();
                // Definitions are nothing until a reference leads to them.
                let used = |key: &str| by_name || !matches!(key, "$defs" | "definitions");
                let mut used = map.iter().filter(|(key, _)| used(key));
                used.try_for_each(|(key, child)| {
                    self.referred(child, !by_name && BY_NAME.contains(&key.as_str()), left, depth + 1)
                })
            }
            Value::Array(list) => {
                list.iter().try_for_each(|child| self.referred(child, false, left, depth + 1))
            }
            _ => Ok(()),
        }
    }

    /// What a reference stands for.
    fn target(&self, reference: &str) -> Option<&'s Value> {
        let Some(within) = reference.strip_prefix('#') else {
            return (self.schema.get("$id")?.as_str()? == reference).then_some(self.schema);
        };
        if within.is_empty() || within.starts_with('/') {
            return self.schema.pointer(&decoded(within)?);
        }
        self.names.get(within).copied()
    }
}

/// The patterns that an object has, if it is a schema.
fn patterns(map: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let own = map.get("pattern").and_then(Value::as_str);
    let keys = map.get("patternProperties").and_then(Value::as_object);
    own.into_iter().chain(keys.into_iter().flat_map(Map::keys).map(String::as_str))
}

/// The values within a value.
fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(map) => Box::new(map.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// How large an answer is.
struct Extent {
    /// How many values are within each other.
    depth: usize,
    /// How many there are.
    values: usize,
    /// The longest name in it, in bytes.
    longest: usize,
}

impl Extent {
    fn of(value: &Value) -> Self {
        let names = value.as_object().into_iter().flat_map(Map::keys).map(String::len);
        let own = Self { depth: 1, values: 1, longest: names.max().unwrap_or(0) };
        children(value).map(Self::of).fold(own, |all, below| Self {
            depth: all.depth.max(1 + below.depth),
            values: all.values + below.values,
            longest: all.longest.max(below.longest),
        })
    }
}

/// A path as it is meant: what stands in an address may be written as `%` and two digits.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    let mut pieces = path.split('%');
    let first = pieces.next()?;
    if first.len() == path.len() {
        return Some(path.into());
    }
    let mut bytes = first.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}
