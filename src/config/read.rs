//! From a [`Node`] to a value of ours. A fault carries its way through the tree.
use std::{collections::HashSet, fmt};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::{
    problem::nearest,
    tree::{Entry, Node, Path, Value},
};

/// A mistake that stops the reading.
#[derive(Debug)]
pub(super) struct Fault {
    /// The way to it, innermost step first while it rises.
    path: Path,
    /// Whether the key is wrong, not its value.
    pub(super) at_key: bool,
    /// Whether something that must be there is not.
    pub(super) missing: bool,
    /// Whether the value may be a secret.
    pub(super) secret: bool,
    pub(super) message: String,
}

/// Reads a tree.
pub(super) fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Fault> {
    T::deserialize(Reader { node })
}

impl Fault {
    fn new(message: String) -> Self {
        Self { path: Path::new(), at_key: false, missing: false, secret: false, message }
    }

    fn below(mut self, position: usize) -> Self {
        self.path.push(position);
        self
    }

    /// The way to it, outermost step first.
    pub(super) fn path(&self) -> Path {
        self.path.iter().rev().copied().collect()
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.as_str() {
            "invalid socket address syntax" => {
                Self::new("must be an address such as `127.0.0.1:8000`".into())
            }
            _ => Self::new(message),
        }
    }
    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(format!("{} is not {}", shown(&found), in_words(&wanted.to_string())))
    }
    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }
    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("there is no key `{found}` here; {}", nearest(found, known)))
    }
    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("`{found}` is not a choice here; {}", nearest(found, known)))
    }
    fn missing_field(key: &'static str) -> Self {
        Self { missing: true, ..Self::new(format!("the key `{key}` is missing")) }
    }
}

fn shown(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(value) => format!("`{value}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a mapping".into(),
        other => other.to_string(),
    }
}

/// What Rust's types are called where people write them.
fn in_words(wanted: &str) -> String {
    let most = |bits: u32| format!("a whole number from 0 to {}", (1u64 << bits) - 1);
    match wanted {
        "u8" => most(8),
        "u16" => most(16),
        "u32" => most(32),
        "u64" | "usize" => "a whole number from 0 on".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a string" | "path string" => "a text".into(),
        "socket address" => "an address such as `127.0.0.1:8000`".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping of keys to values".into(),
        other if other.starts_with("struct ") => "a mapping of keys to values".into(),
        other => other.into(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'de> {
    node: &'de Node,
}

impl<'de> Reader<'de> {
    fn text(self) -> Option<&'de str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => self.node.raw.as_deref(),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Gone => None,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null | Value::Gone => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Uint(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items { items, at: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.deserialize_any(visitor),
        }
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null | Value::Gone => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }
    // A key with nothing behind it, or with comments only, is an empty section.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_seq(Items { items: &[], at: 0 }),
            _ => self.deserialize_any(visitor),
        }
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_map(Entries::new(&[])),
            _ => self.deserialize_any(visitor),
        }
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node.value {
            // A list would be taken for the fields in their order.
            Value::List(_) => Err(Fault::invalid_type(Unexpected::Seq, &"a map")),
            _ => self.deserialize_map(visitor),
        }
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == "SecretFrom" && !matches!(self.node.value, Value::Map(_)) {
            let message = "a secret is never written here; say where it is: `{env: NAME}` or `{file: PATH}`";
            return Err(Fault { secret: true, ..Fault::new(message.into()) });
        }
        match (&self.node.value, self.text()) {
            (Value::Map(entries), _) => {
                let mut left =
                    entries.iter().enumerate().filter(|(_, e)| !matches!(e.node.value, Value::Gone));
                match (left.next(), left.next()) {
                    (Some((position, entry)), None) => visitor.visit_enum(Choice { position, entry }),
                    _ => Err(Fault::new("exactly one key is wanted here".into())),
                }
            }
            (_, Some(text)) => visitor.visit_enum(text.into_deserializer()),
            (_, None) => self.deserialize_any(visitor),
        }
    }
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct tuple tuple_struct
    }
}

struct Items<'de> {
    items: &'de [Node],
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        while let Some(node) = self.items.get(self.at) {
            self.at += 1;
            if !matches!(node.value, Value::Gone) {
                return seed.deserialize(Reader { node }).map(Some).map_err(|fault| fault.below(self.at - 1));
            }
        }
        Ok(None)
    }
}

struct Entries<'de> {
    all: &'de [Entry],
    at: usize,
    seen: HashSet<&'de str>,
}

impl<'de> Entries<'de> {
    fn new(entries: &'de [Entry]) -> Self {
        Self { all: entries, at: 0, seen: HashSet::new() }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        while let Some(entry) = self.all.get(self.at) {
            if matches!(entry.node.value, Value::Gone) {
                self.at += 1;
                continue;
            }
            let wrong = |fault: Fault| Fault { at_key: true, ..fault }.below(self.at);
            if !self.seen.insert(&entry.key) {
                return Err(wrong(Fault::new(format!("the key `{}` is here twice", entry.key))));
            }
            return seed.deserialize(entry.key.as_str().into_deserializer()).map(Some).map_err(wrong);
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let position = self.at;
        self.at += 1;
        let entry = self.all.get(position).ok_or_else(|| Fault::new("a key without its value".into()))?;
        seed.deserialize(Reader { node: &entry.node }).map_err(|fault| fault.below(position))
    }
}

/// One of several forms, named by its only key.
struct Choice<'de> {
    position: usize,
    entry: &'de Entry,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let wrong = |fault: Fault| Fault { at_key: true, ..fault }.below(self.position);
        let variant = seed.deserialize(self.entry.key.as_str().into_deserializer()).map_err(wrong)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::new(format!("`{}` takes no value", self.entry.key)).below(self.position))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(Reader { node: &self.entry.node }).map_err(|fault| fault.below(self.position))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        Reader { node: &self.entry.node }.deserialize_any(visitor).map_err(|fault| fault.below(self.position))
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Reader { node: &self.entry.node }.deserialize_any(visitor).map_err(|fault| fault.below(self.position))
    }
}
