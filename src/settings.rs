//! What settings share: durations, sizes and secrets as people write them.
use std::{env::VarError, fmt, path::PathBuf, str::FromStr, time::Duration};

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// A duration as `250ms`, `30s`, `5m`, `2h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^\d+(ms|s|m|h|d)$"))]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

/// The longest, a hundred years: times can be counted on and back by as much.
const LONGEST: Span = Span::secs(36_500 * 86_400);

/// Units, largest first, in milliseconds.
const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let millis =
            SPANS.iter().find(|(name, _)| *name == unit).and_then(|(_, size)| number?.checked_mul(*size));
        let millis = millis
            .ok_or_else(|| format!("`{text}` is not a duration such as `250ms`, `30s`, `5m` or `2h`"))?;
        let span = Self::millis(millis);
        if span > LONGEST { Err(format!("`{text}` is longer than `{LONGEST}`")) } else { Ok(span) }
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        let (unit, size) = SPANS
            .into_iter()
            .find(|(_, size)| millis >= *size && millis.is_multiple_of(*size))
            .unwrap_or(("s", 1000));
        write!(f, "{}{unit}", millis / size)
    }
}

/// A size as `512`, `64KiB`, `1MiB` or `2GiB`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "SizeText", into = "String")]
#[schemars(with = "SizeText")]
pub struct Size(pub usize);

/// The two spellings of a [`Size`].
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be a size such as `512`, `64KiB` or `1MiB`")]
enum SizeText {
    Bytes(u64),
    #[schemars(extend("pattern" = r"^\d+(KiB|MiB|GiB)$"))]
    Text(String),
}

/// Units, largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let bytes =
            SIZES.iter().find(|(name, _)| *name == unit).and_then(|(_, size)| number?.checked_mul(*size));
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| format!("`{text}` is not a size such as `512`, `64KiB` or `1MiB`"))
    }
}

impl TryFrom<SizeText> for Size {
    type Error = String;
    fn try_from(text: SizeText) -> Result<Self, String> {
        match text {
            SizeText::Bytes(bytes) => Ok(Self(usize::try_from(bytes).map_err(|e| e.to_string())?)),
            SizeText::Text(text) => text.parse(),
        }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let (unit, size) = SIZES
            .into_iter()
            .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
            .unwrap_or(("", 1));
        write!(f, "{}{unit}", bytes / size)
    }
}

fn split(text: &str) -> (Option<u64>, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..digits].parse().ok(), text[digits..].trim_start())
}

/// Reads the address of a service that is asked over HTTP. The error does not repeat it, as it may hold a secret.
///
/// # Errors
/// Why it is none.
pub fn address(text: &str) -> Result<http::Uri, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("it is not an address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("the address has to begin with `http://` or `https://`".to_owned());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("the address must not hold credentials: they would not be sent".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("the address names no host".to_owned());
    }
    Ok(uri)
}

/// Whether a setting is such an address; for `garde`.
pub(crate) fn is_address(text: &str, (): &()) -> garde::Result {
    address(text).map(drop).map_err(garde::Error::new)
}

/// Where a secret is: never in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretFrom {
    /// In this environment variable.
    Env(String),
    /// In this file, which it fills; white space at its ends is cut.
    File(PathBuf),
}

impl SecretFrom {
    /// Fetches the secret. `None` where the variable is unset or the file is absent or empty.
    pub fn fetch(&self) -> Option<Secret> {
        self.read().ok()
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// Why there is none: where it should be and what is wrong there.
    pub fn read(&self) -> Result<Secret, String> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                VarError::NotPresent => format!("the {self} is unset"),
                // Not its own words: they hold the value.
                VarError::NotUnicode(_) => format!("the {self} holds no UTF-8"),
            })?,
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("the {self} cannot be read: {error}"))?,
        };
        match text.trim() {
            "" => Err(format!("the {self} is empty")),
            text => Ok(Secret::new(text)),
        }
    }
}

impl fmt::Display for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable `{name}`"),
            Self::File(path) => write!(f, "file `{}`", path.display()),
        }
    }
}

/// A secret that cannot be printed.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a secret into custody.
    pub fn new(text: &str) -> Self {
        Self(SecretString::from(text))
    }
    /// The secret itself, to be sent and nothing else.
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_written_as_people_do() {
        for text in ["250ms", "30s", "5m", "2h", "7d", "0s", "36500d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["512", "64KiB", "1MiB", "2GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in
            ["", "s", "1", "-1s", "1.5s", "1w", "99999999999999999999s", "999999999999999999d", "36501d"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert!("1MB".parse::<Size>().is_err());
    }

    #[test]
    fn an_address_is_one_that_can_be_asked() {
        for good in ["http://127.0.0.1:9/x?y=z", "https://a.example"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "zzz",
            "/x",
            "a.example",
            "ftp://a",
            "http://",
            "http://:80/",
            "http://a b/",
            "http://me:hunter2@a/",
        ] {
            assert!(!address(bad).unwrap_err().contains("hunter2"), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
