//! Keys and tenants, as they are written down.
use std::{collections::BTreeMap, path::PathBuf};

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    caller::{Caps, Priority, Quota, Role},
    settings::SecretFrom,
};

/// What is written down of each tenant, by its name.
pub type Tenants = BTreeMap<String, Tenant>;

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
    /// Where the secret is that keys made at run time are hashed with, and kept replies and streams
    /// are sealed with: 32 characters or more. Absent: one is made beside the embedded database.
    /// With Postgres it must be set for such keys; with Postgres or Redis it should be.
    #[garde(skip)]
    pub pepper: Option<SecretFrom>,
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
    /// The SHA-256 of the key, as `sha256:` and 64 hexadecimal digits; or its HMAC-SHA-256 with
    /// `auth.pepper`, as `hmac:` and as many.
    #[garde(custom(is_hash))]
    pub hash: String,
    /// The tenant that it belongs to. Tenants share nothing. `*` is all tenants: for an
    /// admin who looks after them and asks no model.
    #[serde(default = "default_tenant")]
    #[garde(length(min = 1, max = 128))]
    pub tenant: String,
    /// What it may do; `admin` may do all.
    #[serde(default = "default_roles")]
    #[garde(length(min = 1))]
    pub roles: Vec<Role>,
    /// The models that it may use; absent: all.
    #[serde(default)]
    #[garde(skip)]
    pub models: Option<Vec<String>>,
    /// The paths that it may use, as the API's description writes them; absent: all that its roles reach.
    #[serde(default)]
    #[garde(skip)]
    pub endpoints: Option<Vec<String>>,
    /// The most urgent that its calls may be: `low`, `normal` or `high`; absent: `high`.
    #[serde(default)]
    #[garde(skip)]
    pub max_priority: Option<Priority>,
    /// How much it may ask for; what is absent is as under `limits`.
    #[serde(default)]
    #[garde(dive)]
    pub limits: Quota,
    /// How much money it may spend; absent: no limit of its own.
    #[serde(default)]
    #[garde(dive)]
    pub budget: Caps,
    /// When it ends: a date, or a time such as `2027-01-31T12:00:00Z`.
    #[serde(default)]
    #[garde(custom(is_time))]
    pub expires: Option<String>,
}

/// What a tenant's keys may ask for together.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Tenant {
    /// How much all its keys together may ask for; what is absent is not limited.
    #[garde(dive)]
    pub limits: Quota,
    /// How much money all its keys together may spend; absent: no limit.
    #[garde(dive)]
    pub budget: Caps,
    /// Where its days and months begin, such as `Europe/Berlin` (IANA).
    #[garde(custom(is_zone))]
    pub time_zone: String,
}

impl Default for Tenant {
    fn default() -> Self {
        let (limits, budget) = Default::default();
        Self { limits, budget, time_zone: "UTC".into() }
    }
}

impl Tenant {
    /// Where its days and months begin.
    pub fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(&self.time_zone).ok()
    }
}

/// A key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256 of the key.
    Plain([u8; 32]),
    /// HMAC-SHA-256 of the key with the pepper.
    Peppered([u8; 32]),
}

fn default_tenant() -> String {
    "default".into()
}

pub(super) fn default_roles() -> Vec<Role> {
    vec![Role::App]
}

impl Key {
    /// The hash's bytes.
    pub fn digest(&self) -> Option<Hash> {
        match self.hash.split_once(':')? {
            ("sha256", hex) => bytes(hex).map(Hash::Plain),
            ("hmac", hex) => bytes(hex).map(Hash::Peppered),
            _ => None,
        }
    }

    /// When it ends.
    pub fn expiry(&self) -> Option<Timestamp> {
        time(self.expires.as_deref()?)
    }
}

/// 32 bytes, written as 64 hexadecimal digits.
pub(super) fn bytes(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

/// A date, or a time.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}T00:00:00Z").parse().ok())
}

fn is_hash(hash: &str, (): &()) -> garde::Result {
    let known = hash
        .split_once(':')
        .is_some_and(|(kind, hex)| ["sha256", "hmac"].contains(&kind) && bytes(hex).is_some());
    let problem = "must be `sha256:` and 64 hexadecimal digits; `sluice key new` prints it";
    known.then_some(()).ok_or_else(|| garde::Error::new(problem))
}

fn is_zone(zone: &str, (): &()) -> garde::Result {
    let problem = "is not a time zone of the IANA database, such as `Europe/Berlin` or `UTC`";
    TimeZone::get(zone).map(|_| ()).map_err(|_| garde::Error::new(problem))
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
