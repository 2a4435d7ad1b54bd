//! The server and its keys, as they are written down.
use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Size, Span};

/// The server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where it listens. Without any key it listens on loopback only, unless `auth.open` is set.
    #[garde(skip)]
    pub listen: SocketAddr,
    /// A port of their own for `/metrics`, `/livez` and `/readyz`; absent: the main one.
    #[garde(skip)]
    pub metrics_listen: Option<SocketAddr>,
    /// Threads that serve; absent: one a core.
    #[garde(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// Connections at the same time; more wait to be accepted.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_connections: u32,
    /// The largest body that is read.
    #[garde(skip)]
    pub max_body: Size,
    /// How long a body may take to arrive.
    #[garde(skip)]
    pub body_timeout: Span,
    /// How long headers may take to arrive.
    #[garde(skip)]
    pub header_timeout: Span,
    /// How long a client may take nothing off a reply before it is cut.
    #[garde(skip)]
    pub write_timeout: Span,
    /// All the time that a call has, retries and fallbacks included.
    #[garde(skip)]
    pub request_timeout: Span,
    /// The silence after which a stream says that it is alive.
    #[garde(skip)]
    pub keep_alive: Span,
    /// How long calls may go on after SIGTERM.
    #[garde(skip)]
    pub drain: Span,
    /// What pages of other origins may do.
    #[garde(dive)]
    pub cors: Cors,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            metrics_listen: None,
            workers: None,
            max_connections: 10_000,
            max_body: Size(10 << 20),
            body_timeout: Span::secs(30),
            header_timeout: Span::secs(30),
            write_timeout: Span::secs(30),
            request_timeout: Span::secs(600),
            keep_alive: Span::secs(15),
            drain: Span::secs(30),
            cors: Cors::default(),
        }
    }
}

/// What pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// The origins that may call, such as `https://app.example.com`; `*` is all; none is none.
    #[garde(skip)]
    pub origins: Vec<String>,
}

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The keys. `sluice key new NAME` makes one and prints its row.
    #[garde(dive)]
    pub keys: Vec<Key>,
    /// A file with further rows; it is read again when it changes.
    #[garde(skip)]
    pub keys_file: Option<PathBuf>,
    /// Whether `?api_key=` is a way to show a key: for `EventSource`, which sends no headers.
    #[garde(skip)]
    pub query_key: bool,
    /// Whether all who reach the server may call while there is no key, from other machines, too.
    /// For a container whose port is published on loopback only. With a key it changes nothing.
    #[garde(skip)]
    pub open: bool,
}

/// A key: its hash, and what it may do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name, for logs and records.
    #[garde(length(min = 1, max = 128))]
    pub name: String,
    /// The SHA-256 of the key, as `sha256:` and 64 hexadecimal digits.
    #[garde(custom(is_hash))]
    pub hash: String,
    /// The tenant that it belongs to. Tenants share nothing.
    #[serde(default = "default_tenant")]
    #[garde(length(min = 1, max = 128))]
    pub tenant: String,
    /// The models that it may use; absent: all.
    #[serde(default)]
    #[garde(skip)]
    pub models: Option<Vec<String>>,
    /// Its own limit, in requests per minute.
    #[serde(default)]
    #[garde(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// When it ends: a date, or a time such as `2027-01-31T12:00:00Z`.
    #[serde(default)]
    #[garde(custom(is_time))]
    pub expires: Option<String>,
}

fn default_tenant() -> String {
    "default".into()
}

impl Key {
    /// The hash's bytes.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let hex = self.hash.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii())?;
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(digest)
    }

    /// When it ends.
    pub fn expiry(&self) -> Option<jiff::Timestamp> {
        time(self.expires.as_deref()?)
    }
}

fn time(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok().or_else(|| format!("{text}T00:00:00Z").parse().ok())
}

fn is_hash(hash: &str, (): &()) -> garde::Result {
    let key = Key {
        name: String::new(),
        hash: hash.to_owned(),
        tenant: String::new(),
        models: None,
        requests_per_minute: None,
        expires: None,
    };
    let problem = "must be `sha256:` and 64 hexadecimal digits; `sluice key new` prints it";
    key.digest().map(|_| ()).ok_or_else(|| garde::Error::new(problem))
}

#[expect(clippy::ref_option, reason = "garde hands the field over as it is")]
fn is_time(text: &Option<String>, (): &()) -> garde::Result {
    match text.as_deref().map(time) {
        Some(None) => Err(garde::Error::new(
            "must be a date such as `2027-01-31` or a time such as `2027-01-31T12:00:00Z`",
        )),
        Some(Some(_)) | None => Ok(()),
    }
}
