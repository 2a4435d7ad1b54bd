//! What is kept for a repeat, and what it is found by.
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::sealed::Root;
use crate::caller::Caller;

/// What a caller's key is kept under: a keyed digest, so that the store tells no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub(super) [u8; 32]);

/// The fingerprint of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(pub(super) [u8; 32]);

/// Whose share of the memory a reply counts for: a keyed digest of a tenant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub(super) [u8; 32]);

/// Whose question it is: a keyed digest of a tenant and a user, as the audit's records have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person(pub [u8; 16]);

impl Person {
    /// As it is written down.
    pub(super) fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what was written down; nobody where it is empty.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| text.len() == 32)
            .map(|bytes| Self(bytes.to_be_bytes()))
    }
}

/// Tells what stands for a tenant's user.
pub type Who = Arc<dyn Fn(&str, &str) -> Person + Send + Sync>;

impl Name {
    /// The name of `key`, as `caller` uses it.
    pub fn new(root: &Root, caller: &Caller, key: &str) -> Self {
        let (tenant, id) = (caller.tenant().as_bytes(), caller.rights.id.as_bytes());
        Self(root.digest(&[b"name", tenant, id, key.as_bytes()]))
    }
}

impl Print {
    /// The fingerprint of a request that came with `key`: its bytes count, not what they mean.
    pub fn new(root: &Root, key: &str, method: &str, path: &str, body: &[u8]) -> Self {
        Self(root.digest(&[b"print", key.as_bytes(), method.as_bytes(), path.as_bytes(), body]))
    }
}

impl Owner {
    /// The tenant of `caller`.
    pub fn new(root: &Root, caller: &Caller) -> Self {
        Self(root.digest(&[b"owner", caller.tenant().as_bytes()]))
    }
}

macro_rules! hexadecimal {
    ($($kind:ident)*) => {$(
        impl $kind {
            /// As it is written down.
            pub(super) fn hex(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// Reads what was written down.
            pub(super) fn from_hex(text: &str) -> Option<Self> {
                let byte = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
                let mut bytes = [0; 32];
                for (at, place) in bytes.iter_mut().enumerate() {
                    *place = byte(at)?;
                }
                (text.len() == 64).then_some(Self(bytes))
            }
        }
    )*};
}
hexadecimal!(Name Print Owner);

/// The time, in microseconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// A reply that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers, as far as they speak of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// About how much memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum();
        self.body.len() + headers + ENTRY
    }

    /// In one piece: the length of the head, the head, the body.
    pub(super) fn packed(&self) -> Vec<u8> {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let head = serde_json::to_vec(&(self.status, headers)).unwrap_or_default();
        [&(head.len() as u32).to_le_bytes()[..], &head, &self.body].concat()
    }

    /// Reads what was packed.
    pub(super) fn unpacked(packed: Vec<u8>) -> Option<Self> {
        let packed = Bytes::from(packed);
        let length = u32::from_le_bytes(packed.get(..4)?.try_into().ok()?) as usize;
        let head = packed.get(4..4 + length)?;
        let (status, headers): (u16, Vec<(String, String)>) = serde_json::from_slice(head).ok()?;
        let headers =
            headers.into_iter().map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        Some(Self { status, headers: headers.collect::<Option<_>>()?, body: packed.slice(4 + length..) })
    }
}

/// What a header and an entry take besides their text, in bytes.
const HEADER: usize = 64;
pub(super) const ENTRY: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_belongs_to_its_tenant_and_its_key() {
        let root = Root::new(None);
        let of = |key: &str, tenant: &str, word: &str| Name::new(&root, &Caller::named(key, tenant), word);
        assert_eq!(of("k", "t", "a"), of("k", "t", "a"));
        let caller = Caller::named("k", "t");
        assert_ne!(of("k", "t", "a"), Name::new(&Root::new(Some(&[7; 32])), &caller, "a"));
        for other in [of("k", "t2", "a"), of("k2", "t", "a"), of("k", "t", "b"), of("kt", "", "a")] {
            assert_ne!(other, of("k", "t", "a"));
        }
    }

    proptest! {
        #[test]
        fn a_reply_is_read_as_it_was_packed(status in 200u16..500, value in "[ -~]{0,20}", body in prop::collection::vec(any::<u8>(), 0..50), cut in 0usize..60) {
            let headers = vec![(http::header::CONTENT_TYPE, value.trim().parse().unwrap())];
            let reply = Reply { status, headers, body: body.into() };
            let mut packed = reply.packed();
            prop_assert_eq!(Reply::unpacked(packed.clone()), Some(reply));
            packed.truncate(cut);
            let _ = Reply::unpacked(packed);
        }

        #[test]
        fn names_are_read_as_they_were_written(bytes in any::<[u8; 32]>(), other in "\\PC{60,68}") {
            prop_assert_eq!(Name::from_hex(&Name(bytes).hex()), Some(Name(bytes)));
            let _ = Print::from_hex(&other);
        }

        #[test]
        fn no_part_of_a_request_is_taken_for_another(a in ".{0,8}", b in ".{0,8}", c in ".{0,8}", cut in 0usize..8) {
            let whole = format!("{a}{b}");
            let cut = (0..=cut.min(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
            let (x, y) = whole.split_at(cut);
            let same = (x, y) == (a.as_str(), b.as_str());
            let root = Root::new(None);
            let one = Print::new(&root, "k", "POST", &a, format!("{b}{c}").as_bytes());
            let other = Print::new(&root, "k", "POST", x, format!("{y}{c}").as_bytes());
            prop_assert_eq!(one == other, same);
        }
    }
}
