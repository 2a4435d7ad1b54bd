//! Reading a request: who, under which id, within which bounds. The body of a
//! caller whom nobody knows is never read.
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use uuid::Uuid;

use super::{App, answer::names, auth, explain};
use crate::{
    auth::Keyring,
    call::{Caller, Context, Priority, Trace, Trail},
    error::{Error, Result},
    guard::pii::Pii,
};

/// What is known of a request from its first moment on.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The request's id.
    pub id: Arc<str>,
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The notebook of the call that it becomes, where somebody reads along.
    pub trail: Option<Trail>,
    /// Who calls, as soon as that is known: for the record of a refusal.
    pub known: Arc<OnceLock<Caller>>,
}

/// The longest id of a client's own that is kept.
const LONGEST_ID: usize = 128;

/// The request's id: the client's own where it is sane (visible ASCII, at most
/// 128 characters) and holds nothing that is personal or secret, else a
/// UUIDv7. It is written down as it is.
pub fn id(headers: &HeaderMap) -> Arc<str> {
    let own = headers.get(&names::X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let sane = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    match own.filter(sane).filter(|id| !Pii::tells(id)) {
        Some(id) => id.into(),
        None => Arc::from(&*Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer())),
    }
}

/// A request whose caller is known and whose body is read.
#[derive(Debug)]
pub struct Inbound {
    /// The headers and the rest.
    pub parts: Parts,
    /// The body.
    pub body: Bytes,
    /// Who calls.
    pub caller: Caller,
    /// When it came.
    pub began: Instant,
    /// When its time is over.
    pub deadline: Instant,
    /// How urgent it is.
    pub priority: Priority,
    /// The configuration's version, where the caller hears what each stage decided.
    pub explain: Option<Arc<str>>,
}

/// Reads a request: the key, the form of the body, the body.
pub async fn read(app: &App, request: Request<Body>) -> Result<Inbound> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let running = app.running();
    let caller = known(&running.keys, &parts)?;
    json(&parts.headers)?;
    let deadline =
        began + patience(&parts.headers)?.unwrap_or(Duration::MAX).min(running.server.request_timeout.0);
    let priority = priority(&parts.headers, &caller)?;
    let explain = explain::asked(&parts.headers, &caller)?.then(|| running.version.clone());
    let body = whole(app, &parts.headers, body).await?;
    Ok(Inbound { parts, body, caller, began, deadline, priority, explain })
}

/// How long the client waits for the answer, where it says so, in milliseconds.
fn patience(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(&names::X_REQUEST_TIMEOUT_MS) else { return Ok(None) };
    let millis = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|millis| *millis > 0);
    let problem = "must be a whole number of milliseconds above 0";
    millis
        .map(|millis| Some(Duration::from_millis(millis)))
        .ok_or_else(|| Error::invalid("x-request-timeout-ms", problem))
}

/// How urgent the client says that it is; who says nothing is as urgent as calls are, or as its key may be.
fn priority(headers: &HeaderMap, caller: &Caller) -> Result<Priority> {
    let Some(value) = headers.get(&names::X_PRIORITY) else {
        let usual = Priority::default();
        return Ok(caller.rights.max_priority.map_or(usual, |most| most.min(usual)));
    };
    let named = value.to_str().ok().and_then(Priority::named);
    named.ok_or_else(|| {
        Error::invalid("x-priority", format!("must be one of `{}`", Priority::NAMES.join("`, `")))
    })
}

/// Who calls, and may: for requests without a body.
pub fn caller(app: &App, parts: &Parts) -> Result<Caller> {
    known(&app.running().keys, parts)
}

fn known(keys: &Keyring, parts: &Parts) -> Result<Caller> {
    let caller = auth::caller(keys, &parts.headers, parts.uri.query(), address(parts))?;
    if let Some(arrival) = parts.extensions.get::<Arrival>() {
        let _ = arrival.known.set(caller.clone());
    }
    auth::permitted(&caller, parts.uri.path())?;
    Ok(caller)
}

/// Reads a body, within the bounds of size and time.
pub async fn whole(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes> {
    let (limit, within) = {
        let server = &app.running().server;
        (server.max_body.0, server.body_timeout.0)
    };
    read_body(headers, body, limit, within).await
}

/// The API key as it was shown, to seal with; empty where none was.
pub fn shown(parts: &Parts) -> String {
    let (key, _) = auth::presented(&parts.headers);
    let query = parts.uri.query().filter(|query| key.is_none() && query.contains("api_key"));
    let from_query = query.and_then(|query| parameter(query, "api_key"));
    key.map(str::to_owned).or(from_query).unwrap_or_default()
}

/// Where the connection comes from.
fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Arrival>().map(|arrival| arrival.address.ip().to_canonical())
}

/// Refuses a body that says of itself that it is not JSON.
fn json(headers: &HeaderMap) -> Result<()> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let subtype = essence.split_once('/').map(|(_, subtype)| subtype).unwrap_or_default();
    if subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json") {
        return Ok(());
    }
    Err(Error::UnsupportedMedia)
}

async fn read_body(headers: &HeaderMap, body: Body, limit: usize, within: Duration) -> Result<Bytes> {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if encoded {
        return Err(Error::UnsupportedMedia);
    }
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit });
    }
    let collected = tokio::time::timeout(within, Limited::new(body, limit).collect()).await;
    match collected.map_err(|_| Error::SlowBody)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::TooLarge { limit }),
        Err(error) => Err(Error::NotJson(format!("it broke off ({error})"))),
    }
}

impl Inbound {
    /// Tells whoever reads along whose request it is.
    pub fn is_of(&self, user: Option<&Arc<str>>) {
        let arrival = self.parts.extensions.get::<Arrival>();
        if let (Some(user), Some(trail)) = (user, arrival.and_then(|arrival| arrival.trail.as_ref())) {
            trail.note(|notes| notes.user = Some(user.clone()));
        }
    }

    /// The context of the call that this request is.
    pub fn context(&self, endpoint: &'static str, user: Option<&str>) -> Context {
        let arrival = self.parts.extensions.get::<Arrival>();
        let id = arrival.map_or_else(|| id(&self.parts.headers), |arrival| arrival.id.clone());
        let mut caller = self.caller.clone();
        caller.user = user.filter(|user| !user.is_empty()).map(Into::into);
        self.is_of(caller.user.as_ref());
        Context {
            id,
            endpoint,
            caller,
            session: None,
            remember: false,
            trace: trace(&self.parts.headers),
            began: self.began,
            deadline: self.deadline,
            priority: self.priority,
            use_cache: !no_cache(&self.parts.headers),
            cache_ttl: None,
            last_resort: false,
            explain: self.explain.clone(),
            trail: arrival.and_then(|arrival| arrival.trail.clone()).unwrap_or_default(),
        }
    }
}

/// Whether the client forbids a stored answer (RFC 9111, section 5.2.1.4).
fn no_cache(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(',').any(|part| matches!(part.trim(), "no-cache" | "no-store"))
}

/// The caller's trace where its `traceparent` is sound, else a new one; our own span either way.
fn trace(headers: &HeaderMap) -> Trace {
    let parent =
        headers.get(&names::TRACEPARENT).and_then(|value| value.to_str().ok()).filter(|value| sound(value));
    let span = rand::random::<u64>() | 1;
    let Some(parent) = parent else {
        let mut id = String::with_capacity(32);
        push_hex(&mut id, rand::random());
        push_hex(&mut id, rand::random::<u64>() | 1);
        return Trace { parent: traceparent(&id, span, "00"), state: None };
    };
    let flags = parent.get(53..55).unwrap_or("00");
    let state = headers.get("tracestate").and_then(|value| value.to_str().ok());
    let state = state.filter(|state| state.len() <= 512).map(Into::into);
    Trace { parent: traceparent(&parent[3..35], span, flags), state }
}

fn traceparent(id: &str, span: u64, flags: &str) -> Arc<str> {
    let mut parent = String::with_capacity(55);
    parent.push_str("00-");
    parent.push_str(id);
    parent.push('-');
    push_hex(&mut parent, span);
    parent.push('-');
    parent.push_str(flags);
    parent.into()
}

/// Sixteen digits. `format!` takes five times as long for them, and every request needs three.
fn push_hex(out: &mut String, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).rev().map(|digit| char::from(DIGITS[(number >> (4 * digit)) as usize & 15])));
}

fn sound(parent: &str) -> bool {
    let bytes = parent.as_bytes();
    let hex = |range: std::ops::Range<usize>| {
        bytes[range].iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|b| *b == b'0');
    bytes.len() >= 55
        && (bytes.len() == 55 || (bytes[55] == b'-' && &bytes[..2] != b"00"))
        && [2, 35, 52].iter().all(|at| bytes[*at] == b'-')
        && hex(0..2)
        && &bytes[..2] != b"ff"
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && !zero(3..35)
        && !zero(36..52)
}

/// The last part of a path, decoded; what is no UTF-8 is replaced.
pub fn last_part(path: &str) -> String {
    let part = path.rsplit('/').next().unwrap_or_default();
    // As a part of a query it is decoded, without what has a meaning only there.
    let query = format!("part={}", part.replace('+', "%2B").replace('&', "%26"));
    parameter(&query, "part").unwrap_or_default()
}

/// The parameters of a query; what is no UTF-8 is replaced.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_and_an_unsound_one_begins_anew() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", parent.parse().unwrap());
        let ours = trace(&headers);
        assert_eq!(ours.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(ours.parent.ends_with("-01") && !ours.parent.contains("00f067aa0ba902b7"));
        for bad in [
            "",
            "00-x",
            &parent.replace("4bf9", "ZZZZ"),
            &parent.replacen("00", "ff", 1),
            &format!("{parent}-1"),
        ] {
            assert!(!sound(bad), "{bad}");
        }
        assert!(!sound("00-00000000000000000000000000000000-00f067aa0ba902b7-01"));
    }

    #[test]
    fn a_sane_id_is_kept_and_another_replaced() {
        let of = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", id.parse().unwrap());
            super::id(&headers)
        };
        assert_eq!(&*of("abc-1"), "abc-1");
        assert_eq!(of("with space").len(), 36);
        assert_eq!(of(&"x".repeat(129)).len(), 36);
        assert_eq!(of("ann@example.org").len(), 36);
        assert_eq!(of("4111-1111-1111-1111").len(), 36);
        let usual =
            ["req_01HZX3T9", "0190b7c6-3e0a-7c2e-9d0c-5a1e6f2b8c4d", "7", "1700000000123-42", "a.b:c/d=e"];
        usual.iter().for_each(|id| assert_eq!(&*of(id), *id));
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(last_part("/a/x%2Fy+z&%C3%A9=%zz%ff"), "x/y+z&é=%zz\u{fffd}");
        assert_eq!(parameter("x=1&prompt=a%20b+c%C3%A9%zz%", "prompt").unwrap(), "a b cé%zz%");
    }
}
