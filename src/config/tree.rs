//! YAML as a tree that knows where each of its values stands. It outlives a
//! failed reading, so that what is wrong can be taken out and the rest read again.
use std::{fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: At,
    /// A plain scalar as it is spelled: `off` and `1.10` may be meant as texts.
    pub(super) raw: Option<String>,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What was wrong and is taken out.
    Gone,
}

/// A key and its value. A key may be there twice: the reader says so.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: At,
    pub(super) node: Node,
}

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum At {
    #[default]
    Nowhere,
    /// In the file: line and column from 1 on, the width in characters, and where its bytes are.
    File { line: usize, column: usize, width: usize, bytes: Option<(usize, usize)> },
    /// In a variable or a flag.
    Outside(Arc<str>),
}

/// What keeps a text from being YAML.
pub(super) struct Broken {
    pub(super) message: String,
    pub(super) at: At,
}

/// The way to a value: positions in lists and mappings.
pub(super) type Path = Vec<usize>;

impl Node {
    /// A value that stands nowhere.
    pub(super) fn new(value: Value, at: At) -> Self {
        Self { value, at, raw: None }
    }

    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Self, Broken> {
        // Keys that come twice are kept: they are told with all other mistakes.
        let options =
            serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins, with_snippet: false };
        let mut node: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let message = error.without_snippet().to_string();
            // The place is told apart, in one form for all mistakes.
            let message = message.split(" at line ").next().unwrap_or_default();
            let message = message.split("; use ").next().unwrap_or_default().to_owned();
            Broken { message, at: error.location().as_ref().map_or(At::Nowhere, At::of) }
        })?;
        node.spell(text);
        Ok(node)
    }

    fn spell(&mut self, text: &str) {
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.spell(text)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| entry.node.spell(text)),
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => {
                self.raw = self.raw.take().or_else(|| match self.at {
                    At::File { bytes: Some((from, length)), .. } => {
                        text.get(from..from + length).map(str::to_owned)
                    }
                    At::File { bytes: None, .. } | At::Nowhere | At::Outside(_) => None,
                });
            }
            Value::Null | Value::Text(_) | Value::Gone => {}
        }
    }

    /// Says of the whole tree that it comes from outside the file.
    pub(super) fn move_to(&mut self, at: &At) {
        self.at = at.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.move_to(at)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.at = at.clone();
                entry.node.move_to(at);
            }),
            _ => {}
        }
    }

    /// The value at a position of a list or a mapping.
    pub(super) fn child(&self, position: usize) -> Option<&Self> {
        match &self.value {
            Value::List(items) => items.get(position),
            Value::Map(entries) => entries.get(position).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Takes out what stands at a path.
    pub(super) fn remove(&mut self, path: &[usize]) {
        let mut node = self;
        for position in path {
            let next = match &mut node.value {
                Value::List(items) => items.get_mut(*position),
                Value::Map(entries) => entries.get_mut(*position).map(|entry| &mut entry.node),
                _ => None,
            };
            let Some(next) = next else { return };
            node = next;
        }
        node.value = Value::Gone;
    }

    /// Where the value of a path such as `models.m.targets[0].weight` stands, or
    /// the nearest one above it, and what stands there. Keys may themselves hold dots.
    pub(super) fn locate(&self, path: &str) -> (At, &Self) {
        let mut rest = path.trim_start_matches('.');
        let (mut node, mut at) = (self, self.at.clone());
        while !rest.is_empty() {
            let step = match &node.value {
                Value::Map(entries) => {
                    let ends = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
                    let fits = |entry: &&Entry| rest.strip_prefix(entry.key.as_str()).is_some_and(ends);
                    let known = entries.iter().filter(|entry| !matches!(entry.node.value, Value::Gone));
                    let found = known.filter(fits).max_by_key(|entry| entry.key.len());
                    found.map(|entry| (&entry.node, &entry.at, &rest[entry.key.len()..]))
                }
                Value::List(items) => {
                    let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                    let known = || items.iter().filter(|item| !matches!(item.value, Value::Gone));
                    let item =
                        index.and_then(|(index, rest)| Some((known().nth(index.parse().ok()?)?, rest)));
                    item.map(|(item, rest)| (item, &item.at, rest))
                }
                _ => None,
            };
            let Some((next, key_at, left)) = step else { return (at, node) };
            // A mapping or a list begins on the line below: its key says more.
            let is_block = matches!(next.value, Value::Map(_) | Value::List(_) | Value::Null);
            at = if is_block { key_at.clone() } else { next.at.clone() };
            (node, rest) = (next, left.trim_start_matches('.'));
        }
        (at, node)
    }

    /// Whether something was taken out of it.
    pub(super) fn is_wounded(&self) -> bool {
        match &self.value {
            Value::Gone => true,
            Value::List(items) => items.iter().any(Self::is_wounded),
            Value::Map(entries) => entries.iter().any(|entry| entry.node.is_wounded()),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Float(_)
            | Value::Text(_) => false,
        }
    }
}

impl At {
    fn of(location: &Location) -> Self {
        let span = location.span();
        let bytes = span.byte_offset().zip(span.byte_len());
        let bytes = bytes.map(|(from, length)| (from as usize, length as usize));
        let (line, column) = (location.line() as usize, location.column() as usize);
        if line == 0 {
            return Self::Nowhere;
        }
        Self::File { line, column, width: (span.len() as usize).max(1), bytes }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<Value>::deserialize(deserializer)?;
        // An alias is shown where it is used, and spelled where it is defined.
        let mut at = At::of(&read.referenced);
        if let (At::File { bytes, .. }, At::File { bytes: defined, .. }) = (&mut at, At::of(&read.defined)) {
            *bytes = defined;
        }
        Ok(Self { value: read.value, at, raw: None })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Uint(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { key: key.value, at: At::of(&key.referenced), node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}
