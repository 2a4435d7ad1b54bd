//! What becomes of a request that was read: what the fuzz targets of the request readers share.
use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use sluice::{
    chat::Request,
    error::Error,
    provider::{Dialect, anthropic::Anthropic, openai::OpenAi},
};

/// The models whose abilities decide what is written.
const MODELS: [&str; 5] = ["gpt-4o", "o3-mini", "claude-3-5-haiku-latest", "claude-sonnet-4-5", "claude-opus-4-7"];

/// Every dialect writes the request, or says what it has no words for: as JSON without a name that stands twice in an
/// object (whoever judged the one would not have seen the other), and of a size that is bounded by what came.
pub fn written(chat: &Request, came: usize) {
    let dialects: [&dyn Dialect; 3] = [&OpenAi { strict: false }, &OpenAi { strict: true }, &Anthropic];
    for (dialect, model) in dialects.iter().flat_map(|dialect| MODELS.map(|model| (dialect, model))) {
        match dialect.encode(chat, model) {
            Ok(sent) => {
                let body = str::from_utf8(&sent.body).expect("JSON is UTF-8");
                serde_json::from_str::<Once>(body).unwrap_or_else(|why| panic!("{why}: {body}"));
                assert!(body.len() < 8 * came + 2000, "{came} bytes became {}", body.len());
            }
            Err(error) => assert!(matches!(error, Error::Unsupported { .. }), "{error:?}"),
        }
    }
}

/// JSON in which no object has a name twice. What a tool is called with is the caller's own text.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Once, E> {
        Ok(Once)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Once, E> {
        Ok(Once)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Once, E> {
        Ok(Once)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Once, E> {
        Ok(Once)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Once, E> {
        Ok(Once)
    }
    fn visit_str<E>(self, _: &str) -> Result<Once, E> {
        Ok(Once)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
        while list.next_element::<Once>()?.is_some() {}
        Ok(Once)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "input" {
                map.next_value::<serde::de::IgnoredAny>()?;
            } else {
                map.next_value::<Once>()?;
            }
            if names.contains(&name) {
                return Err(serde::de::Error::custom(format!("`{name}` stands twice")));
            }
            names.insert(name);
        }
        Ok(Once)
    }
}
