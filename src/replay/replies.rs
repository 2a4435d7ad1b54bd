//! Whole replies, kept for requests that come again with the same `Idempotency-Key`.
//!
//! Who comes first with a key has the claim on it and answers; who comes while
//! that runs is told so; who comes later gets the first reply. A key belongs to
//! its caller, and to one request: method, path and body are fingerprinted.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge};
use sha2::{Digest, Sha256};

use super::settings::Idempotency as Settings;
use crate::{caller::Caller, observe::Metrics};

/// What a caller's key is kept under: a digest, so that the store tells no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name([u8; 32]);

/// The fingerprint of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Name {
    /// The name of `key`, as `caller` uses it.
    pub fn new(caller: &Caller, key: &str) -> Self {
        Self(digest(&[caller.tenant().as_bytes(), caller.rights.id.as_bytes(), key.as_bytes()]))
    }
}

impl Print {
    /// The fingerprint of a request: its bytes count, not what they mean.
    pub fn new(method: &str, path: &str, body: &[u8]) -> Self {
        Self(digest(&[method.as_bytes(), path.as_bytes(), body]))
    }
}

/// A digest in which no part can be taken for the end of another.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    sha.finalize().into()
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
    fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum();
        self.body.len() + headers + ENTRY
    }
}

/// What a header and an entry take besides their text, in bytes.
const HEADER: usize = 64;
const ENTRY: usize = 256;

/// What a key stands for.
#[derive(Debug)]
pub enum Found {
    /// Nothing yet: the caller answers.
    Nothing(Claim),
    /// A request that is being answered.
    Running,
    /// Another request.
    Other,
    /// A request that was answered.
    Kept(Arc<Reply>),
}

/// The replies that are kept, and the claims on those that come.
#[derive(Debug)]
pub struct Replies {
    state: Mutex<State>,
    keep: Duration,
    /// The largest reply that is kept, in bytes of its body.
    pub max_reply: usize,
    max_bytes: usize,
    requests: IntCounterVec,
    bytes: IntGauge,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Name, Entry>,
    /// What is kept, oldest first.
    order: VecDeque<(Instant, Name)>,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Running(Print),
    Kept { print: Print, reply: Arc<Reply> },
}

impl Replies {
    /// An empty store.
    pub fn new(settings: &Settings, metrics: &Metrics) -> Self {
        Self {
            state: Mutex::default(),
            keep: settings.keep.0,
            max_reply: settings.max_reply.0,
            max_bytes: settings.max_bytes.0,
            requests: metrics.idempotency.clone(),
            bytes: metrics.idempotency_bytes.clone(),
        }
    }

    /// Looks what a key stands for, and claims it where it is free.
    pub fn claim(self: &Arc<Self>, name: Name, print: Print) -> Found {
        let mut state = self.state.lock();
        state.forget(Instant::now());
        let (found, word) = match state.entries.get(&name) {
            Some(Entry::Running(first) | Entry::Kept { print: first, .. }) if *first != print => {
                (Found::Other, "reused")
            }
            Some(Entry::Running(_)) => (Found::Running, "running"),
            Some(Entry::Kept { reply, .. }) => (Found::Kept(reply.clone()), "replayed"),
            None => {
                state.entries.insert(name, Entry::Running(print));
                (Found::Nothing(Claim { replies: self.clone(), name, print, over: false }), "first")
            }
        };
        drop(state);
        self.requests.with_label_values(&[word]).inc();
        found
    }

    fn put(&self, name: Name, print: Print, reply: Reply) {
        let mut state = self.state.lock();
        let size = reply.size();
        state.entries.insert(name, Entry::Kept { print, reply: Arc::new(reply) });
        state.order.push_back((Instant::now() + self.keep, name));
        state.bytes += size;
        while state.bytes > self.max_bytes && state.forget_oldest() {
            self.requests.with_label_values(&["evicted"]).inc();
        }
        self.bytes.set(state.bytes as i64);
    }
}

impl State {
    /// Forgets what is kept for long enough.
    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, name)) = self.order.pop_front() else { return false };
        if let Some(Entry::Kept { reply, .. }) = self.entries.remove(&name) {
            self.bytes -= reply.size();
        }
        true
    }
}

/// The right and the duty to answer. Dropped without a reply, the key is free again.
#[derive(Debug)]
pub struct Claim {
    replies: Arc<Replies>,
    name: Name,
    print: Print,
    over: bool,
}

impl Claim {
    /// Lets the key go: the reply is none to be kept.
    pub fn pass(self) {
        self.replies.requests.with_label_values(&["unkept"]).inc();
    }

    /// Keeps the reply for repeats.
    pub fn keep(mut self, reply: Reply) {
        self.over = true;
        self.replies.put(self.name, self.print, reply);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.over {
            self.replies.state.lock().entries.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Size;

    fn replies(max_bytes: usize) -> Arc<Replies> {
        let settings = Settings { max_bytes: Size(max_bytes), ..Settings::default() };
        Arc::new(Replies::new(&settings, &Metrics::new().unwrap()))
    }

    fn reply(body: &str) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: body.to_owned().into() }
    }

    fn name(key: &str) -> Name {
        Name::new(&Caller::named("k", "t"), key)
    }

    const ONE: Print = Print([1; 32]);
    const TWO: Print = Print([2; 32]);

    fn claimed(found: Found) -> Claim {
        match found {
            Found::Nothing(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_answers_and_the_rest_wait_or_get_its_reply() {
        let replies = replies(1 << 20);
        let first = claimed(replies.claim(name("a"), ONE));
        assert!(matches!(replies.claim(name("a"), ONE), Found::Running));
        assert!(matches!(replies.claim(name("a"), TWO), Found::Other));
        first.keep(reply("x"));
        let Found::Kept(kept) = replies.claim(name("a"), ONE) else { panic!("nothing was kept") };
        assert_eq!(kept.body, "x");
        assert!(matches!(replies.claim(name("a"), TWO), Found::Other));
    }

    #[test]
    fn a_claim_that_comes_to_nothing_frees_the_key() {
        let replies = replies(1 << 20);
        drop(claimed(replies.claim(name("a"), ONE)));
        drop(claimed(replies.claim(name("a"), TWO)));
        assert!(replies.state.lock().entries.is_empty());
    }

    #[test]
    fn a_key_belongs_to_its_tenant_and_its_key() {
        let of = |key: &str, tenant: &str, word: &str| Name::new(&Caller::named(key, tenant), word);
        assert_eq!(of("k", "t", "a"), of("k", "t", "a"));
        for other in [of("k", "t2", "a"), of("k2", "t", "a"), of("k", "t", "b"), of("kt", "", "a")] {
            assert_ne!(other, of("k", "t", "a"));
        }
    }

    #[test]
    fn what_is_old_makes_room() {
        let replies = replies(4 * (ENTRY + 100));
        for index in 0..100 {
            claimed(replies.claim(name(&index.to_string()), ONE)).keep(reply(&"x".repeat(100)));
        }
        assert_eq!(replies.state.lock().entries.len(), 4);
        assert!(matches!(replies.claim(name("99"), ONE), Found::Kept(_)));
        drop(claimed(replies.claim(name("0"), ONE)));
    }

    #[test]
    fn what_was_kept_for_long_enough_is_forgotten() {
        let replies = replies(1 << 20);
        claimed(replies.claim(name("a"), ONE)).keep(reply("x"));
        replies.state.lock().forget(Instant::now() + Duration::from_secs(24 * 3600 + 1));
        assert_eq!(replies.state.lock().bytes, 0);
        drop(claimed(replies.claim(name("a"), TWO)));
    }

    proptest! {
        #[test]
        fn no_part_of_a_request_is_taken_for_another(a in ".{0,8}", b in ".{0,8}", c in ".{0,8}", cut in 0usize..8) {
            let whole = format!("{a}{b}");
            let cut = (0..=cut.min(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
            let (x, y) = whole.split_at(cut);
            let same = (x, y) == (a.as_str(), b.as_str());
            let one = Print::new("POST", &a, format!("{b}{c}").as_bytes());
            let other = Print::new("POST", x, format!("{y}{c}").as_bytes());
            prop_assert_eq!(one == other, same);
        }
    }
}
