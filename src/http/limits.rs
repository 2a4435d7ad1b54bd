//! The headers that tell a client what its limits have left.
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::call::Limit;

macro_rules! names {
    ($($constant:ident $name:literal)*) => {
        $(static $constant: HeaderName = HeaderName::from_static($name);)*
        /// All of them, for browsers that ask which ones a page may read.
        pub(super) const NAMES: &[&str] = &[$($name),*];
    };
}

names! {
    REQUESTS_LIMIT "x-ratelimit-limit-requests"
    REQUESTS_REMAINING "x-ratelimit-remaining-requests"
    REQUESTS_RESET "x-ratelimit-reset-requests"
    TOKENS_LIMIT "x-ratelimit-limit-tokens"
    TOKENS_REMAINING "x-ratelimit-remaining-tokens"
    TOKENS_RESET "x-ratelimit-reset-tokens"
    RATELIMIT_POLICY "ratelimit-policy"
    RATELIMIT "ratelimit"
}

/// Room for all values; what they share is allocated once for all of them.
const ROOM: usize = 384;

/// Says what the limits have left.
pub(super) fn limits(headers: &mut HeaderMap, requests: Option<Limit>, tokens: Option<Limit>) {
    if requests.is_none() && tokens.is_none() {
        return;
    }
    let mut text = Text(BytesMut::with_capacity(if tokens.is_some() { ROOM } else { ROOM / 2 }));
    let names = [&REQUESTS_LIMIT, &REQUESTS_REMAINING, &REQUESTS_RESET];
    text.three(headers, names, requests);
    text.three(headers, [&TOKENS_LIMIT, &TOKENS_REMAINING, &TOKENS_RESET], tokens);
    // draft-ietf-httpapi-ratelimit-headers-10
    if let Some(Limit { limit, .. }) = requests {
        text.put("\"requests\";q=").number(limit).put(";w=60");
    }
    if let Some(Limit { limit, .. }) = tokens {
        text.comma(requests.is_some());
        text.put("\"tokens\";q=").number(limit).put(";w=60;qu=\"tokens\"");
    }
    text.insert(headers, &RATELIMIT_POLICY);
    if let Some(limit) = requests {
        text.put("\"requests\";r=").number(limit.remaining).put(";t=").number(seconds(limit));
    }
    if let Some(limit) = tokens {
        text.comma(requests.is_some());
        text.put("\"tokens\";r=").number(limit.remaining).put(";t=").number(seconds(limit));
    }
    text.insert(headers, &RATELIMIT);
}

/// Until all is there again, rounded up.
fn seconds(limit: Limit) -> u64 {
    limit.reset.as_secs().saturating_add(u64::from(limit.reset.subsec_nanos() > 0))
}

/// Values that lie behind each other in one piece of memory.
struct Text(BytesMut);

impl Text {
    fn three(&mut self, headers: &mut HeaderMap, names: [&'static HeaderName; 3], limit: Option<Limit>) {
        let Some(limit) = limit else { return };
        self.number(limit.limit).insert(headers, names[0]);
        self.number(limit.remaining).insert(headers, names[1]);
        self.number(seconds(limit)).put("s").insert(headers, names[2]);
    }

    fn put(&mut self, text: &str) -> &mut Self {
        self.0.put_slice(text.as_bytes());
        self
    }

    fn comma(&mut self, wanted: bool) {
        if wanted {
            self.put(", ");
        }
    }

    fn number(&mut self, mut number: u64) -> &mut Self {
        let (mut digits, mut first) = ([b'0'; 20], 20);
        while first == 20 || number > 0 {
            first -= 1;
            digits[first] += (number % 10) as u8;
            number /= 10;
        }
        self.0.put_slice(&digits[first..]);
        self
    }

    /// Takes what was put since the last header.
    fn insert(&mut self, headers: &mut HeaderMap, name: &'static HeaderName) {
        if let Ok(value) = HeaderValue::from_maybe_shared(self.0.split().freeze()) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_policies_are_told_and_none_where_there_is_none() {
        let mut headers = HeaderMap::new();
        limits(&mut headers, None, None);
        assert!(headers.is_empty());
        let requests = Limit { limit: 60, remaining: 0, reset: Duration::from_micros(59_000_001) };
        limits(&mut headers, Some(requests), None);
        let value = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(headers.len(), 5);
        assert_eq!(value(&headers, "ratelimit-policy"), "\"requests\";q=60;w=60");
        assert_eq!(value(&headers, "ratelimit"), "\"requests\";r=0;t=60");
        assert_eq!(value(&headers, "x-ratelimit-reset-requests"), "60s");
        let tokens = Limit { limit: u64::MAX, remaining: u64::MAX, reset: Duration::MAX };
        limits(&mut headers, Some(requests), Some(tokens));
        assert_eq!(headers.len(), NAMES.len());
        let most = u64::MAX;
        assert_eq!(
            value(&headers, "ratelimit-policy"),
            format!("\"requests\";q=60;w=60, \"tokens\";q={most};w=60;qu=\"tokens\"")
        );
        assert_eq!(
            value(&headers, "ratelimit"),
            format!("\"requests\";r=0;t=60, \"tokens\";r={most};t={most}")
        );
        assert_eq!(value(&headers, "x-ratelimit-remaining-tokens"), most.to_string());
    }
}
