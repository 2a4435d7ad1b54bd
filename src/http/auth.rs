//! The key in a request, and what it may reach.
use std::net::IpAddr;

use http::{HeaderMap, header::AUTHORIZATION};

use super::{answer::names, routes};
use crate::{
    auth::Keyring,
    caller::Caller,
    error::{Error, Result},
};

/// Who is calling. `query` is the URL's query, where a key in it is looked for.
pub fn caller(
    ring: &Keyring,
    headers: &HeaderMap,
    query: Option<&str>,
    address: Option<IpAddr>,
) -> Result<Caller> {
    let (key, by_header) = presented(headers);
    let from_query = query
        .filter(|_| ring.query_key && key.is_none())
        .and_then(|query| super::inbound::parameter(query, "api_key"));
    let caller = ring.caller(key.or(from_query.as_deref())).ok_or(Error::Unauthenticated { by_header })?;
    Ok(Caller { address, ..caller })
}

/// Whether the key's roles and endpoints allow the path. A path that nobody
/// wrote down is nobody's.
pub fn permitted(caller: &Caller, path: &str) -> Result<()> {
    let Some(route) = routes::find(path) else { return Err(Error::NotFound) };
    let rights = &caller.rights;
    if let Some(role) = route.role.filter(|role| !rights.roles.has(*role)) {
        return Err(Error::Forbidden(format!("this needs a key with the role `{}`", role.name())));
    }
    if !rights.reaches(route.template) {
        return Err(Error::Forbidden("this key may not use this endpoint".into()));
    }
    Ok(())
}

/// The key in the headers, and whether it came in `X-API-Key`.
pub(super) fn presented(headers: &HeaderMap) -> (Option<&str>, bool) {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = all.next().and_then(|value| value.to_str().ok()) {
        // Whoever stands before the gateway may have looked at the other one.
        if all.next().is_some() {
            return (None, false);
        }
        let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
        return (
            Some(key.trim()).filter(|key| scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()),
            false,
        );
    }
    let key = headers.get(&names::X_API_KEY).and_then(|value| value.to_str().ok());
    (key.map(str::trim), key.is_some())
}
