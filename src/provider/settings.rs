//! A provider, as it is written down.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog;
use crate::settings::{SecretFrom, Size, Span};

/// A provider.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What it speaks: `openai`, `anthropic`, or a vendor that speaks OpenAI's
    /// API, such as `groq`, `mistral`, `ollama` or `vllm`.
    #[garde(custom(is_kind))]
    pub kind: String,
    /// Where it is; absent: where the vendor is. With `/v1` for OpenAI's API, without for Anthropic's.
    #[garde(custom(is_base))]
    pub base_url: Option<String>,
    /// Where its key is: `{env: NAME}` or `{file: PATH}`; absent: none is sent.
    #[garde(skip)]
    pub api_key: Option<SecretFrom>,
    /// Models that may be asked for by their own names, without a route: `gpt-*`, `*`.
    #[garde(skip)]
    pub models: Vec<String>,
    /// Headers that are sent along.
    #[garde(custom(are_headers))]
    pub headers: BTreeMap<String, String>,
    /// How long a connection may take.
    #[garde(skip)]
    pub connect_timeout: Span,
    /// The largest whole answer that is read.
    #[garde(skip)]
    pub max_response: Size,
    /// The largest event of a stream that is read.
    #[garde(skip)]
    pub max_event: Size,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: "openai".into(),
            base_url: None,
            api_key: None,
            models: Vec::new(),
            headers: BTreeMap::new(),
            connect_timeout: Span::secs(5),
            max_response: Size(32 << 20),
            max_event: Size(4 << 20),
        }
    }
}

impl Settings {
    /// A provider that runs in the gateway itself.
    pub fn embedded(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    /// A provider whose key is in an environment variable.
    pub fn remote(kind: &str, base_url: Option<String>, key: &str, models: Vec<String>) -> Self {
        let api_key = Some(SecretFrom::Env(key.to_owned()));
        Self { kind: kind.to_owned(), base_url, api_key, models, ..Self::default() }
    }
}

fn is_kind(kind: &str, (): &()) -> garde::Result {
    match catalog::find(kind) {
        Some(_) => Ok(()),
        None => Err(garde::Error::new(format!("`{kind}` is not known; there are `{}`", catalog::names().join("`, `")))),
    }
}

#[expect(clippy::ref_option, reason = "garde hands the field over as it is")]
fn is_base(base: &Option<String>, (): &()) -> garde::Result {
    let Some(base) = base else { return Ok(()) };
    let url = reqwest::Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        None => Err(garde::Error::new("must be an address such as `https://api.example.com/v1`")),
        Some(url) if !url.username().is_empty() || url.password().is_some() => {
            Err(garde::Error::new("must not hold a name or password; the key belongs into `api_key`"))
        }
        Some(url) if url.query().is_some() || url.fragment().is_some() => {
            Err(garde::Error::new("must end with its path: no `?` and no `#`"))
        }
        Some(_) => Ok(()),
    }
}

fn are_headers(headers: &BTreeMap<String, String>, (): &()) -> garde::Result {
    for (name, value) in headers {
        let good = name.parse::<http::HeaderName>().is_ok() && value.parse::<http::HeaderValue>().is_ok();
        if !good {
            return Err(garde::Error::new(format!("`{name}` is not a header that can be sent")));
        }
    }
    Ok(())
}
