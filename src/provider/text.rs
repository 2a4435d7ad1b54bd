//! A text within a provider's JSON, read without a copy where it has no escapes.
use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// A text that may also be `null`, a list of text parts, or something else,
/// which counts as no text. Borrows where serde's own `Option<Cow<str>>` copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    /// The text, unless it is empty.
    pub(crate) fn filled(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.into_owned())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor { strict: false }).map(Self)
    }
}

/// Reads what an answer says: not what has another form, as that would be an answer that says nothing.
pub(crate) fn said<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
    deserializer.deserialize_any(TextVisitor { strict: true }).map(Text)
}

/// A part of a list that stands for a text (Mistral's reasoning models send such).
#[derive(Deserialize)]
struct TextPart<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
}

struct TextVisitor {
    /// Whether an object or a truth is no text; else it is none that says anything.
    strict: bool,
}

impl TextVisitor {
    fn other<'de, E: Error>(&self, found: Unexpected<'_>) -> Result<Cow<'de, str>, E> {
        if self.strict { Err(E::invalid_type(found, self)) } else { Ok(Cow::Borrowed("")) }
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
    fn visit_bool<E: Error>(self, truth: bool) -> Result<Self::Value, E> {
        self.other(Unexpected::Bool(truth))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut all = Cow::Borrowed("");
        while let Some(part) = parts.next_element::<TextPart<'de>>()? {
            if all.is_empty() {
                all = part.text.0;
            } else {
                all.to_mut().push_str(&part.text.0);
            }
        }
        Ok(all)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.other(Unexpected::Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_from_whatever_a_provider_sends() {
        for (json, text) in [
            (r#""hé""#, "hé"),
            (r#""a\nb""#, "a\nb"),
            ("null", ""),
            ("true", ""),
            ("1.5", ""),
            ("7", "7"),
            (r#"{"a":[1]}"#, ""),
            (r#"[{"type":"text","text":"a"},{"type":"thinking","thinking":[]},{"text":"b"}]"#, "ab"),
        ] {
            assert_eq!(serde_json::from_str::<Text<'_>>(json).unwrap().0, text, "{json}");
        }
        for (json, text) in
            [("null", Some("")), (r#"["a"]"#, None), (r#"{"a":1}"#, None), ("true", None), ("7", Some("7"))]
        {
            let read = said(&mut serde_json::Deserializer::from_str(json)).ok();
            assert_eq!(read.as_ref().map(|text| &*text.0), text, "{json}");
        }
        assert!(matches!(serde_json::from_str::<Text<'_>>(r#""x""#).unwrap().0, Cow::Borrowed(_)));
    }
}
