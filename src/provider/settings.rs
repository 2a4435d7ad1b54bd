//! The settings of a provider, and the provider that they make.
use std::{collections::BTreeMap, sync::Arc};

use garde::Validate;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Provider,
    anthropic::Anthropic,
    catalog::{Kind, Speaks},
    extractive::Extractive,
    openai::OpenAi,
    sentiment::Sentiment,
    transport::{self, Limits, Remote},
};
use crate::{
    knowledge::SharedKnowledge,
    settings::{Secret, SecretFrom, Size, Span},
};

/// A provider: who it is, where it is, and the gateway's key for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What it is: `openai`, `anthropic`, `extractive` (answers from the
    /// documents, without a model) or a vendor that speaks one of their APIs,
    /// such as `ollama` or `groq`.
    #[garde(skip)]
    pub kind: Kind,
    /// Its address, such as `http://127.0.0.1:11434/v1`; by default the
    /// vendor's own. Anthropic's is written without `/v1`.
    #[garde(inner(custom(is_base_url)))]
    pub base_url: Option<String>,
    /// Where its key is: `{env: NAME}` or `{file: PATH}`. By default the
    /// environment variable that the vendor's documentation names, such as
    /// `OPENAI_API_KEY`; with a `base_url` of one's own, none.
    #[garde(skip)]
    pub api_key: Option<SecretFrom>,
    /// Which of its models may be asked for by their own name, without a
    /// route: names, or patterns such as `gpt-*` or `*`. Where several providers
    /// lend a name, the longest pattern decides, then the order of the providers' names.
    #[garde(inner(length(min = 1)))]
    pub models: Vec<String>,
    /// Calls to it at the same time, streams to their end included; `null` is no bound.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
    /// How long a connection to it may take.
    #[garde(custom(is_not_zero))]
    pub connect_timeout: Span,
    /// Headers sent with every request, such as `OpenAI-Organization`.
    #[garde(custom(are_headers))]
    pub headers: BTreeMap<String, String>,
    /// The largest answer taken from it; of a stream, all that it says.
    #[garde(skip)]
    pub max_response: Size,
    /// The largest single event of a streamed answer taken from it.
    #[garde(skip)]
    pub max_event: Size,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            base_url: None,
            api_key: None,
            models: Vec::new(),
            max_in_flight: None,
            connect_timeout: Span::secs(5),
            headers: BTreeMap::new(),
            max_response: Size(32 << 20),
            max_event: Size(4 << 20),
        }
    }
}

impl Settings {
    /// A provider of this kind, as its vendor has it.
    pub fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Where the key is looked for; `None` where none is needed.
    pub fn key_source(&self) -> Option<SecretFrom> {
        // A vendor's key never goes to an address that is not the vendor's.
        let custom = || {
            let name = self.kind.row().key_env;
            (self.base_url.is_none() && !name.is_empty()).then(|| SecretFrom::Env(name.to_owned()))
        };
        self.api_key.clone().or_else(custom)
    }

    fn key(&self) -> Result<Option<Secret>, String> {
        self.key_source().map(|source| read_key(&source)).transpose()
    }
}

/// Reads the key of a provider.
///
/// # Errors
/// There is none, or it can be in no header; in words.
pub(crate) fn read_key(from: &SecretFrom) -> Result<Secret, String> {
    let key = from.read().map_err(|why| format!("its key is missing: {why}"))?;
    match HeaderValue::from_str(key.reveal()) {
        Ok(_) => Ok(key),
        Err(_) => Err("its key has characters that no header may have".into()),
    }
}

/// Makes the provider `name`; an embedded one answers from `knowledge`. Fails
/// where its key is missing.
pub fn build(
    name: &str,
    settings: &Settings,
    knowledge: &Arc<SharedKnowledge>,
) -> Result<Arc<dyn Provider>, String> {
    make(name, settings, knowledge).map_err(|error| format!("provider `{name}`: {error}"))
}

fn make(
    name: &str,
    settings: &Settings,
    knowledge: &Arc<SharedKnowledge>,
) -> Result<Arc<dyn Provider>, String> {
    let row = settings.kind.row();
    let base = || transport::base_url(settings.base_url.as_deref().unwrap_or(row.base_url));
    let limits = Limits {
        connect: settings.connect_timeout.0,
        response: settings.max_response.0,
        event: settings.max_event.0,
    };
    let mut headers = headers(&settings.headers)?;
    let mut authenticate = |name: HeaderName, scheme: &str| -> Result<(), String> {
        if let Some(key) = settings.key()? {
            let value = HeaderValue::from_str(&format!("{scheme}{}", key.reveal()));
            let mut value = value.map_err(|_| "its key has characters that no header may have")?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(())
    };
    match row.speaks {
        Speaks::OpenAi | Speaks::StrictOpenAi => {
            authenticate(AUTHORIZATION, "Bearer ")?;
            let dialect = OpenAi { strict: row.speaks == Speaks::StrictOpenAi };
            Ok(Arc::new(Remote::new(name, dialect, base()?, headers, limits)))
        }
        Speaks::Anthropic => {
            authenticate(HeaderName::from_static("x-api-key"), "")?;
            // The version belongs to the paths of this API; for OpenAI's it belongs to the address.
            let base = settings.base_url.as_deref().unwrap_or(row.base_url).trim_end_matches('/');
            let base = transport::base_url(base.strip_suffix("/v1").unwrap_or(base))?;
            Ok(Arc::new(Remote::new(name, Anthropic, base, headers, limits)))
        }
        Speaks::Extractive => Ok(Arc::new(Extractive::new(name, knowledge.clone()))),
        Speaks::Sentiment => Ok(Arc::new(Sentiment::new(name))),
    }
}

/// Reads the configured headers. Their values may be secrets, so they are marked as such.
fn headers(settings: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(settings.len() + 4);
    for (name, value) in settings {
        let parsed: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
        if [HOST, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING].contains(&parsed) {
            return Err(format!("the header `{name}` is the gateway's own"));
        }
        let value = HeaderValue::from_str(value);
        let mut value =
            value.map_err(|_| format!("the header `{name}` has a value that no header may have"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "garde gives a reference")]
fn is_not_zero(span: &Span, (): &()) -> garde::Result {
    if span.0.is_zero() { Err(garde::Error::new("has to be longer than zero")) } else { Ok(()) }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "garde gives a reference")]
fn is_base_url(url: &str, (): &()) -> garde::Result {
    transport::base_url(url).map(drop).map_err(garde::Error::new)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "garde gives a reference")]
fn are_headers(settings: &BTreeMap<String, String>, (): &()) -> garde::Result {
    headers(settings).map(drop).map_err(garde::Error::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::Knowledge;

    fn documents() -> Arc<SharedKnowledge> {
        Arc::new(SharedKnowledge::new(Knowledge::of(&[], 1000)))
    }

    fn read(json: &str) -> Result<Settings, String> {
        let settings: Settings = serde_json::from_str(json).map_err(|error| error.to_string())?;
        settings.validate().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn mistakes_are_named() {
        for (json, word) in [
            (r#"{"kind": "gorq"}"#, "groq"),
            (r#"{"base_url": "ftp://a.test"}"#, "http"),
            (r#"{"base_url": "https://user:pw@a.test"}"#, "credentials"),
            (r#"{"base_url": "nonsense"}"#, "address"),
            (r#"{"connect_timeout": "0s"}"#, "zero"),
            (r#"{"headers": {"a b": "c"}}"#, "a b"),
            (r#"{"headers": {"Host": "c"}}"#, "Host"),
            (r#"{"urls": []}"#, "urls"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(word), "{json}: {error}");
            assert!(!error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn a_vendors_key_goes_to_the_vendor_only() {
        let own = read(r#"{"kind": "groq"}"#).unwrap();
        assert_eq!(own.key_source(), Some(SecretFrom::Env("GROQ_API_KEY".into())));
        let elsewhere = read(r#"{"kind": "groq", "base_url": "http://127.0.0.1:9/v1"}"#).unwrap();
        assert_eq!(elsewhere.key_source(), None);
        assert_eq!(build("here", &elsewhere, &documents()).unwrap().name(), "here");
    }

    #[test]
    fn a_missing_key_is_told_by_its_place() {
        let settings = read(r#"{"api_key": {"env": "SLUICE_TEST_NO_SUCH_KEY"}}"#).unwrap();
        let error = build("main", &settings, &documents()).err().unwrap();
        assert_eq!(
            error,
            "provider `main`: its key is missing: the environment variable `SLUICE_TEST_NO_SUCH_KEY` is unset"
        );
    }

    #[test]
    fn settings_survive_being_written() {
        let settings = Settings { headers: [("a".into(), "b".into())].into(), ..Settings::default() };
        assert_eq!(read(&serde_json::to_string(&settings).unwrap()), Ok(settings));
    }
}
