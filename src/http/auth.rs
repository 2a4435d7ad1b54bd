//! Who is calling: keys, found by their hash.
use std::{collections::HashMap, net::IpAddr};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::settings::Key;
use crate::{
    call::Caller,
    error::{Error, Result},
};

/// The configured keys. Without any, everyone is `anonymous`: the server then
/// listens on loopback only.
#[derive(Debug, Default)]
pub struct Keyring {
    rows: HashMap<[u8; 32], Row>,
    query_key: bool,
}

#[derive(Debug)]
struct Row {
    caller: Caller,
    expires: Option<jiff::Timestamp>,
}

impl Keyring {
    /// Takes the rows over. Their hashes and dates were checked with the configuration.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Key>, query_key: bool) -> Self {
        let rows = keys.into_iter().filter_map(|key| {
            let caller = Caller {
                key: key.name.as_str().into(),
                tenant: key.tenant.as_str().into(),
                models: key.models.as_ref().map(|models| models.as_slice().into()),
                requests_per_minute: key.requests_per_minute,
                ..Caller::default()
            };
            Some((key.digest()?, Row { caller, expires: key.expiry() }))
        });
        Self { rows: rows.collect(), query_key }
    }

    /// Who is calling. `query` is the URL's query, where a key in it is looked for.
    pub fn caller(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Caller> {
        let (key, by_header) = presented(headers);
        let from_query = query
            .filter(|_| self.query_key && key.is_none())
            .and_then(|query| super::inbound::parameter(query, "api_key"));
        let key = key.or(from_query.as_deref());
        if self.rows.is_empty() {
            return Ok(Caller {
                key: "anonymous".into(),
                tenant: "default".into(),
                address,
                ..Caller::default()
            });
        }
        let denied = || Error::Unauthenticated { by_header };
        let digest: [u8; 32] = Sha256::digest(key.ok_or_else(denied)?.as_bytes()).into();
        let (known, row) = self.rows.get_key_value(&digest).ok_or_else(denied)?;
        // The lookup compares digests, which tell nothing of the key; this keeps the last step even.
        let same: bool = known.ct_eq(&digest).into();
        let expired = row.expires.is_some_and(|end| end <= jiff::Timestamp::now());
        if !same || expired {
            return Err(denied());
        }
        Ok(Caller { address, ..row.caller.clone() })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// The key in the headers, and whether it came in `X-API-Key`.
fn presented(headers: &HeaderMap) -> (Option<&str>, bool) {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
        return (
            Some(key.trim()).filter(|key| scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()),
            false,
        );
    }
    let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    (key.map(str::trim), key.is_some())
}
