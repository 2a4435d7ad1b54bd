//! Whole replies, kept for requests that come again with the same `Idempotency-Key`.
//!
//! Who comes first with a key has the claim on it and answers; who comes while
//! that runs is told so; who comes later gets the first reply. A key belongs to
//! its caller, and to one request: method, path and body are fingerprinted.
//!
//! What is kept is in memory, and besides, sealed, in Redis where one is
//! configured, so that all gateways know of it, or else in the database, so
//! that it outlives the process. While Redis is away each gateway knows its own.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge};

pub use super::kept::{Name, Print, Reply};
use super::{
    claims::{self, Lease, Shared},
    kept::{ENTRY, now},
    sealed::Seal,
    settings::Idempotency as Settings,
    shelf::{Row, Shelf},
};
use crate::{
    observe::Metrics,
    store::{Stores, sql::Kind},
};

/// What a key stands for.
#[derive(Debug)]
pub enum Found {
    /// Nothing yet: the caller answers.
    Nothing(Box<Claim>),
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
    stores: Option<Stores>,
    shelf: Option<Shelf>,
    requests: IntCounterVec,
    bytes: IntGauge,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Name, Entry>,
    /// What is kept, the first to be forgotten first.
    order: VecDeque<(Instant, Name)>,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Running(Print),
    Kept { print: Print, kept: Kept, until: Instant },
}

/// A reply, as it is in memory.
#[derive(Clone, Debug)]
enum Kept {
    Open(Arc<Reply>),
    /// As the database had it.
    Sealed(Arc<[u8]>),
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Self::Open(reply) => reply.size(),
            Self::Sealed(sealed) => sealed.len() + ENTRY,
        }
    }

    fn opened(&self, name: Name, seal: &Seal) -> Option<Arc<Reply>> {
        match self {
            Self::Open(reply) => Some(reply.clone()),
            Self::Sealed(sealed) => Reply::unpacked(seal.open(&name.0, sealed.to_vec())?).map(Arc::new),
        }
    }
}

impl Replies {
    /// An empty store, in memory alone.
    pub fn new(settings: &Settings, metrics: &Metrics) -> Self {
        Self {
            state: Mutex::default(),
            keep: settings.keep.0,
            max_reply: settings.max_reply.0,
            max_bytes: settings.max_bytes.0,
            stores: None,
            shelf: None,
            requests: metrics.idempotency.clone(),
            bytes: metrics.idempotency_bytes.clone(),
        }
    }

    /// A store that others share, or that outlives the process, with what is in it.
    pub async fn open(settings: &Settings, metrics: &Metrics, stores: &Stores) -> Self {
        let mut this = Self::new(settings, metrics);
        if stores.redis.is_none() && stores.sql.kind() != Kind::Memory {
            let (shelf, rows) = Shelf::open(stores.sql.clone(), settings.max_bytes.0).await;
            for Row { name, print, ends, sealed } in rows.into_iter().rev() {
                this.put(name, print, ends, Kept::Sealed(sealed.into()));
            }
            this.shelf = Some(shelf);
        }
        this.stores = Some(stores.clone());
        this
    }

    /// Looks what a key stands for, and claims it where it is free.
    pub async fn claim(self: &Arc<Self>, name: Name, print: Print, seal: Seal) -> Found {
        let found = self.claim_anywhere(name, print, seal).await;
        let word = match found {
            Found::Nothing(_) => "first",
            Found::Running => "running",
            Found::Other => "reused",
            Found::Kept(_) => "replayed",
        };
        self.count(word);
        found
    }

    async fn claim_anywhere(self: &Arc<Self>, name: Name, print: Print, seal: Seal) -> Found {
        let mut claim = match self.claim_here(name, print, seal) {
            Found::Nothing(claim) => claim,
            found => return found,
        };
        let Some(redis) = self.stores.as_ref().and_then(|stores| stores.redis.as_ref()) else {
            return Found::Nothing(claim);
        };
        match claims::claim(redis, name, print).await {
            Ok(Shared::Claimed(lease)) => claim.lease = Some(lease),
            Ok(Shared::Running(first) | Shared::Kept(first, ..)) if first != print => return Found::Other,
            Ok(Shared::Running(_)) => return Found::Running,
            Ok(Shared::Kept(_, ends, sealed)) => {
                let kept = Kept::Sealed(sealed.into());
                if let Some(reply) = kept.opened(name, &claim.seal) {
                    // The next repeat need not ask Redis.
                    claim.put(ends, Kept::Open(reply.clone()));
                    return Found::Kept(reply);
                }
            }
            // Each gateway goes on by what it knows itself.
            Err(_) => self.count("local"),
        }
        Found::Nothing(claim)
    }

    fn claim_here(self: &Arc<Self>, name: Name, print: Print, seal: Seal) -> Found {
        loop {
            let mut state = self.state.lock();
            state.forget(Instant::now());
            let kept = match state.entries.get(&name) {
                Some(Entry::Running(first) | Entry::Kept { print: first, .. }) if *first != print => {
                    return Found::Other;
                }
                Some(Entry::Running(_)) => return Found::Running,
                Some(Entry::Kept { kept, .. }) => kept.clone(),
                None => {
                    state.entries.insert(name, Entry::Running(print));
                    let replies = self.clone();
                    let claim = Claim { replies, name, print, seal, lease: None, over: false };
                    return Found::Nothing(Box::new(claim));
                }
            };
            drop(state);
            if let Some(reply) = kept.opened(name, &seal) {
                return Found::Kept(reply);
            }
            // Kept for an API key that has been replaced since.
            self.state.lock().remove(name);
        }
    }

    fn put(&self, name: Name, print: Print, ends: i64, kept: Kept) {
        let left = Duration::from_micros(u64::try_from(ends - now()).unwrap_or(0)).min(self.keep);
        let mut forgotten = Vec::new();
        let mut state = self.state.lock();
        state.remove(name);
        state.bytes += kept.size();
        let until = Instant::now() + left;
        state.entries.insert(name, Entry::Kept { print, kept, until });
        state.order.push_back((until, name));
        while state.bytes > self.max_bytes {
            let Some(name) = state.forget_oldest() else { break };
            forgotten.push(name);
        }
        self.bytes.set(state.bytes as i64);
        drop(state);
        for name in forgotten {
            self.count("evicted");
            if let Some(shelf) = &self.shelf {
                shelf.forget(name);
            }
        }
    }

    fn count(&self, word: &str) {
        self.requests.with_label_values(&[word]).inc();
    }
}

impl State {
    /// Forgets what is kept for long enough.
    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> Option<Name> {
        let (due, name) = self.order.pop_front()?;
        // The name may have been claimed anew since.
        if matches!(self.entries.get(&name), Some(Entry::Kept { until, .. }) if *until == due) {
            self.remove(name);
        }
        Some(name)
    }

    /// Takes out what is kept, but no claim.
    fn remove(&mut self, name: Name) {
        let Some(Entry::Kept { kept, .. }) = self.entries.get(&name) else { return };
        self.bytes -= kept.size();
        self.entries.remove(&name);
    }
}

/// The right and the duty to answer. Dropped without a reply, the key is free again.
#[derive(Debug)]
pub struct Claim {
    replies: Arc<Replies>,
    name: Name,
    print: Print,
    seal: Seal,
    lease: Option<Lease>,
    over: bool,
}

impl Claim {
    /// Lets the key go: the reply is none to be kept.
    pub fn pass(self) {
        self.replies.count("unkept");
    }

    /// Keeps the reply for repeats. When this is over it is where it is kept,
    /// unless that cannot be reached: then it is in memory alone.
    pub async fn keep(mut self, reply: Reply) {
        let ends = now() + self.replies.keep.as_micros() as i64;
        if self.lease.is_some() || self.replies.shelf.is_some() {
            let sealed = self.seal.close(&self.name.0, reply.packed()).unwrap_or_default();
            let kept = match (&mut self.lease, &self.replies.shelf) {
                (Some(lease), _) => lease.keep(self.print, ends, &sealed, self.replies.keep).await,
                (None, Some(table)) => {
                    table.put(Row { name: self.name, print: self.print, ends, sealed }).await
                }
                (None, None) => true,
            };
            if !kept {
                self.replies.count("local");
            }
        }
        self.put(ends, Kept::Open(Arc::new(reply)));
    }

    fn put(&mut self, ends: i64, kept: Kept) {
        self.replies.put(self.name, self.print, ends, kept);
        self.over = true;
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
    use futures_util::FutureExt;

    use super::*;
    use crate::{caller::Caller, settings::Size};

    fn replies(max_bytes: usize) -> Arc<Replies> {
        let settings = Settings { max_bytes: Size(max_bytes), ..Settings::default() };
        Arc::new(Replies::new(&settings, &Metrics::new().unwrap()))
    }

    fn reply(body: &str) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: body.to_owned().into() }
    }

    fn claim(replies: &Arc<Replies>, key: &str, print: Print) -> Found {
        replies.claim_here(Name::new(&Caller::named("k", "t"), key), print, Seal::new("sk", key))
    }

    fn keep(claim: Claim, body: &str) {
        claim.keep(reply(body)).now_or_never().expect("memory does not wait");
    }

    const ONE: Print = Print([1; 32]);
    const TWO: Print = Print([2; 32]);

    fn claimed(found: Found) -> Claim {
        match found {
            Found::Nothing(claim) => *claim,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_answers_and_the_rest_wait_or_get_its_reply() {
        let replies = replies(1 << 20);
        let first = claimed(claim(&replies, "a", ONE));
        assert!(matches!(claim(&replies, "a", ONE), Found::Running));
        assert!(matches!(claim(&replies, "a", TWO), Found::Other));
        keep(first, "x");
        let Found::Kept(kept) = claim(&replies, "a", ONE) else { panic!("nothing was kept") };
        assert_eq!(kept.body, "x");
        assert!(matches!(claim(&replies, "a", TWO), Found::Other));
    }

    #[test]
    fn a_claim_that_comes_to_nothing_frees_the_key() {
        let replies = replies(1 << 20);
        drop(claimed(claim(&replies, "a", ONE)));
        drop(claimed(claim(&replies, "a", TWO)));
        assert!(replies.state.lock().entries.is_empty());
    }

    #[test]
    fn what_is_old_makes_room() {
        let replies = replies(4 * (ENTRY + 100));
        for index in 0..100 {
            keep(claimed(claim(&replies, &index.to_string(), ONE)), &"x".repeat(100));
        }
        assert_eq!(replies.state.lock().entries.len(), 4);
        assert!(matches!(claim(&replies, "99", ONE), Found::Kept(_)));
        drop(claimed(claim(&replies, "0", ONE)));
    }

    #[test]
    fn what_was_kept_for_long_enough_is_forgotten() {
        let replies = replies(1 << 20);
        keep(claimed(claim(&replies, "a", ONE)), "x");
        replies.state.lock().forget(Instant::now() + Duration::from_secs(24 * 3600 + 1));
        assert_eq!(replies.state.lock().bytes, 0);
        drop(claimed(claim(&replies, "a", TWO)));
    }

    #[test]
    fn what_was_sealed_for_another_api_key_is_as_good_as_gone() {
        let replies = replies(1 << 20);
        let name = Name::new(&Caller::named("k", "t"), "a");
        let seal = |key| Seal::new(key, "a");
        let sealed = seal("sk-old").close(&name.0, reply("x").packed()).unwrap();
        replies.put(name, ONE, now() + 1_000_000, Kept::Sealed(sealed.into()));
        assert!(
            matches!(replies.claim_here(name, ONE, seal("sk-old")), Found::Kept(kept) if *kept == reply("x"))
        );
        assert!(matches!(replies.claim_here(name, TWO, seal("sk-new")), Found::Other));
        drop(claimed(replies.claim_here(name, ONE, seal("sk-new"))));
        assert_eq!(replies.state.lock().bytes, 0);
    }
}
