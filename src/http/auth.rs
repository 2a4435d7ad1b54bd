//! Who is calling: keys, found by their hash.
use std::{collections::HashMap, net::IpAddr, sync::Arc};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::settings::Key;
use crate::{
    caller::{Caller, Caps, Quota, Rights, Tenant},
    error::{Error, Result},
};

/// The configured keys. Without any, everyone is `anonymous`: the server then
/// listens on loopback only.
#[derive(Debug, Default)]
pub struct Keyring {
    rows: HashMap<[u8; 32], Row>,
    anonymous: Caller,
    query_key: bool,
}

#[derive(Debug)]
struct Row {
    rights: Arc<Rights>,
    expires: Option<jiff::Timestamp>,
}

impl Keyring {
    /// Takes the rows over. Their hashes and dates were checked with the configuration.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Key>, query_key: bool) -> Self {
        let rows = keys.into_iter().filter_map(|key| {
            let rights = Rights {
                id: key.name.as_str().into(),
                name: key.name.as_str().into(),
                tenant: Arc::new(Tenant { name: key.tenant.as_str().into(), ..Tenant::default() }),
                models: key.models.clone(),
                quota: Quota { requests_per_minute: key.requests_per_minute, ..Quota::default() },
                budget: Caps::default(),
            };
            Some((key.digest()?, Row { rights: Arc::new(rights), expires: key.expiry() }))
        });
        Self { rows: rows.collect(), anonymous: Caller::named("anonymous", "default"), query_key }
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
            return Ok(Caller { address, ..self.anonymous.clone() });
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
        Ok(Caller { rights: row.rights.clone(), user: None, address })
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
