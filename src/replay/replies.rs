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
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge};

pub use super::kept::{Person, Reply, Who};
use super::{
    claims::{self, Lease, Shared},
    kept::{Name, Owner, Print, now},
    later::{Later, Slot},
    sealed::{Root, Seal},
    settings::Idempotency as Settings,
    shares::{Entry, Kept, Place, State},
    shelf::{Row, Shelf},
};
use crate::{
    caller::Caller,
    observe::Metrics,
    store::{
        Stores,
        redis::{Away, Redis},
        sql::Kind,
    },
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

/// A request with an `Idempotency-Key`.
#[derive(Debug)]
pub struct Asked {
    name: Name,
    print: Print,
    owner: Owner,
    tenant: Arc<str>,
    seal: Seal,
}

/// The replies that are kept, and the claims on those that come.
pub struct Replies {
    state: Mutex<State>,
    keep: Duration,
    /// The largest reply that is kept, in bytes of its body.
    pub max_reply: usize,
    max_bytes: usize,
    root: Root,
    who: Who,
    shared: Option<(Redis, Later)>,
    shelf: Option<Shelf>,
    requests: IntCounterVec,
    bytes: IntGauge,
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl Replies {
    /// An empty store, in memory alone.
    pub fn new(settings: &Settings, root: Root, who: Who, metrics: &Metrics) -> Self {
        Self {
            state: Mutex::default(),
            keep: settings.keep.0,
            max_reply: settings.max_reply.0,
            max_bytes: settings.max_bytes.0,
            root,
            who,
            shared: None,
            shelf: None,
            requests: metrics.idempotency.clone(),
            bytes: metrics.idempotency_bytes.clone(),
        }
    }

    /// A store that others share, or that outlives the process, with what is in it.
    pub async fn open(settings: &Settings, root: Root, who: Who, metrics: &Metrics, stores: &Stores) -> Self {
        let mut this = Self::new(settings, root, who, metrics);
        if let Some(redis) = &stores.redis {
            this.shared = Some((redis.clone(), Later::start(redis.clone())));
        } else if stores.sql.kind() != Kind::Memory {
            let (shelf, rows) = Shelf::open(stores.sql.clone(), settings.max_bytes.0).await;
            for Row { name, print, owner, person, ends, sealed } in rows {
                this.put(name, print, (owner, person), ends, Kept::Sealed(sealed.into()));
            }
            this.shelf = Some(shelf);
        }
        this
    }

    /// A request of `caller`, who shows this API key (empty where none is needed), with an
    /// `Idempotency-Key` and in its own bytes.
    pub fn asked(&self, caller: &Caller, shown: &str, key: &str, request: (&str, &str, &[u8])) -> Asked {
        let (method, path, body) = request;
        Asked {
            name: Name::new(&self.root, caller, key),
            print: Print::new(&self.root, key, method, path, body),
            owner: Owner::new(&self.root, caller),
            tenant: caller.tenant().clone(),
            seal: self.root.seal(shown, &caller.rights, key),
        }
    }

    /// Looks what a key stands for, and claims it where it is free.
    pub async fn claim(self: &Arc<Self>, asked: Asked) -> Found {
        let found = self.claim_anywhere(asked).await;
        let word = match found {
            Found::Nothing(_) => "first",
            Found::Running => "running",
            Found::Other => "reused",
            Found::Kept(_) => "replayed",
        };
        self.count(word);
        found
    }

    async fn claim_anywhere(self: &Arc<Self>, asked: Asked) -> Found {
        let mut claim = match self.claim_here(asked) {
            Found::Nothing(claim) => claim,
            found => return found,
        };
        let Some((redis, later)) = &self.shared else { return Found::Nothing(claim) };
        let (name, print) = (claim.asked.name, claim.asked.print);
        let fresh = claims::fresh(print);
        match claims::claim(redis, name, fresh.clone()).await {
            Ok(Shared::Claimed(lease)) => claim.lease = Some(lease),
            Ok(Shared::Running(first)) if first != print => return Found::Other,
            Ok(Shared::Kept(first)) if first.print != print => return Found::Other,
            Ok(Shared::Running(_)) => return Found::Running,
            Ok(Shared::Kept(answered)) => {
                let kept = Kept::Sealed(answered.sealed().into());
                if let Some(reply) = kept.opened(name, &claim.asked.seal) {
                    // The next repeat need not ask Redis.
                    claim.person = answered.person;
                    claim.put(answered.ends, Kept::Open(reply.clone()));
                    return Found::Kept(reply);
                }
                claim.lease = self.instead(redis, &claim, answered.into_value()).await;
            }
            Ok(Shared::Torn(value)) => {
                tracing::warn!("a kept reply is damaged: the request is answered anew");
                claim.lease = self.instead(redis, &claim, value).await;
            }
            // Each gateway goes on by what it knows itself, and tells the others when it can.
            Err(away) => {
                self.count("local");
                if !matches!(away, Away::Refused(_)) {
                    claim.late = Some(later.claim(name, fresh));
                }
            }
        }
        Found::Nothing(claim)
    }

    /// Claims a name whose value in Redis is of no use.
    async fn instead(&self, redis: &Redis, claim: &Claim, value: Vec<u8>) -> Option<Lease> {
        let lease = claims::replace(redis, claim.asked.name, claim.asked.print, &value).await;
        if !matches!(lease, Ok(Some(_))) {
            self.count("local");
        }
        lease.ok().flatten()
    }

    fn claim_here(self: &Arc<Self>, asked: Asked) -> Found {
        let Asked { name, print, .. } = asked;
        loop {
            let mut state = self.state.lock();
            state.forget(Instant::now());
            let kept = match state.get(name) {
                Some(Entry::Running(first) | Entry::Kept(Place { print: first, .. })) if *first != print => {
                    return Found::Other;
                }
                Some(Entry::Running(_)) => return Found::Running,
                Some(Entry::Kept(place)) => place.kept.clone(),
                None => {
                    state.claim(name, print);
                    let replies = self.clone();
                    let claim = Claim { replies, asked, person: None, lease: None, late: None, over: false };
                    return Found::Nothing(Box::new(claim));
                }
            };
            drop(state);
            if let Some(reply) = kept.opened(name, &asked.seal) {
                return Found::Kept(reply);
            }
            // Kept for an API key that has been replaced since.
            self.state.lock().remove(name);
        }
    }

    fn put(&self, name: Name, print: Print, whose: (Owner, Option<Person>), ends: i64, kept: Kept) {
        let left = Duration::from_micros(u64::try_from(ends - now()).unwrap_or(0)).min(self.keep);
        let (owner, person) = whose;
        let place = Place { print, owner, person, kept, until: Instant::now() + left };
        let mut state = self.state.lock();
        let forgotten = state.keep(name, place, self.max_bytes);
        self.bytes.set(state.bytes() as i64);
        drop(state);
        for name in forgotten {
            self.count("evicted");
            if let Some(shelf) = &self.shelf {
                shelf.forget(name);
            }
        }
    }

    /// Forgets all replies to a person's questions, here and where others share them.
    ///
    /// # Errors
    /// The store did not take part: what is there is sealed, and ends by itself.
    pub async fn erase(&self, person: Person) -> Result<(), &'static str> {
        {
            let mut state = self.state.lock();
            state.erase(person);
            self.bytes.set(state.bytes() as i64);
        }
        if let Some((redis, later)) = &self.shared {
            later.erase(person);
            claims::erase(redis, person).await.map_err(|_| "Redis does not answer")?;
        }
        match &self.shelf {
            Some(table) if !table.erase(person).await => Err("the database does not answer"),
            _ => Ok(()),
        }
    }

    fn count(&self, word: &str) {
        self.requests.with_label_values(&[word]).inc();
    }
}

/// The right and the duty to answer. Dropped without a reply, the key is free again.
#[derive(Debug)]
pub struct Claim {
    replies: Arc<Replies>,
    asked: Asked,
    /// Whose reply it is, once that is known.
    person: Option<Person>,
    lease: Option<Lease>,
    /// Where the lease will be, if Redis comes back in time.
    late: Option<Arc<Slot>>,
    over: bool,
}

impl Claim {
    /// Lets the key go: the reply is none to be kept.
    pub fn pass(self) {
        self.replies.count("unkept");
    }

    /// Keeps the reply for repeats. When this is over it is where it is kept,
    /// unless that cannot be reached: then it is in memory alone, and there when it can be. `user` is who asked.
    pub async fn keep(mut self, reply: Reply, user: Option<&str>) {
        let replies = self.replies.clone();
        self.person = user.map(|user| (replies.who)(&self.asked.tenant, user));
        let ends = now() + replies.keep.as_micros() as i64;
        if replies.shared.is_some() || replies.shelf.is_some() {
            let Asked { name, print, owner, ref seal, .. } = self.asked;
            if let Some(sealed) = seal.close(&name.0, reply.packed()) {
                let row = Row { name, print, owner, person: self.person, ends, sealed };
                if !self.share(row).await {
                    replies.count("local");
                }
            }
        }
        self.put(ends, Kept::Open(Arc::new(reply)));
    }

    async fn share(&mut self, row: Row) -> bool {
        let replies = self.replies.clone();
        let Some((_, later)) = &replies.shared else {
            let Some(table) = &replies.shelf else { return true };
            return table.put(row).await;
        };
        let late = self.late.take();
        let came_late = late.as_ref().and_then(|slot| slot.lease.lock().take());
        let Some(mut lease) = self.lease.take().or(came_late) else {
            later.reply(row, late.map_or_else(Vec::new, |slot| slot.claim.clone()));
            return false;
        };
        let kept = lease.keep(&row, replies.keep).await;
        if !kept {
            later.reply(row, lease.claim());
        }
        kept
    }

    fn put(&mut self, ends: i64, kept: Kept) {
        let Asked { name, print, owner, .. } = self.asked;
        self.replies.put(name, print, (owner, self.person), ends, kept);
        self.over = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.over {
            self.replies.state.lock().release(self.asked.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{super::kept::ENTRY, *};
    use crate::settings::Size;

    fn replies(max_bytes: usize) -> Arc<Replies> {
        let settings = Settings { max_bytes: Size(max_bytes), ..Settings::default() };
        Arc::new(Replies::new(
            &settings,
            Root::new(None),
            Arc::new(|_, _| Person([7; 16])),
            &Metrics::new().unwrap(),
        ))
    }

    fn reply(body: &str) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: body.to_owned().into() }
    }

    fn claim(replies: &Arc<Replies>, key: &str, print: Print) -> Found {
        replies.claim_here(asked(replies, "sk", key, print))
    }

    fn asked(replies: &Arc<Replies>, shown: &str, key: &str, print: Print) -> Asked {
        Asked { print, ..replies.asked(&Caller::named("k", "t"), shown, key, ("", "", b"")) }
    }

    fn keep(claim: Claim, body: &str) {
        claim.keep(reply(body), Some("u")).now_or_never().expect("memory does not wait");
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
    fn what_was_answered_to_a_person_is_forgotten() {
        let replies = replies(1 << 20);
        keep(claimed(claim(&replies, "a", ONE)), "x");
        let erase = |person| replies.erase(person).now_or_never().expect("memory does not wait").unwrap();
        erase(Person([8; 16]));
        assert!(matches!(claim(&replies, "a", ONE), Found::Kept(_)));
        erase(Person([7; 16]));
        drop(claimed(claim(&replies, "a", ONE)));
    }

    #[test]
    fn a_claim_that_comes_to_nothing_frees_the_key() {
        let replies = replies(1 << 20);
        drop(claimed(claim(&replies, "a", ONE)));
        drop(claimed(claim(&replies, "a", TWO)));
        assert!(replies.state.lock().len() == 0);
    }

    #[test]
    fn what_is_old_makes_room() {
        let replies = replies(4 * (ENTRY + 100));
        for index in 0..100 {
            keep(claimed(claim(&replies, &index.to_string(), ONE)), &"x".repeat(100));
        }
        assert_eq!(replies.state.lock().len(), 4);
        assert!(matches!(claim(&replies, "99", ONE), Found::Kept(_)));
        drop(claimed(claim(&replies, "0", ONE)));
    }

    #[test]
    fn what_was_kept_for_long_enough_is_forgotten() {
        let replies = replies(1 << 20);
        keep(claimed(claim(&replies, "a", ONE)), "x");
        replies.state.lock().forget(Instant::now() + Duration::from_secs(24 * 3600 + 1));
        assert_eq!(replies.state.lock().bytes(), 0);
        drop(claimed(claim(&replies, "a", TWO)));
    }

    #[test]
    fn what_was_sealed_for_another_api_key_is_as_good_as_gone() {
        let replies = replies(1 << 20);
        let asked = |shown, print| asked(&replies, shown, "a", print);
        let old = asked("sk-old", ONE);
        let sealed = old.seal.close(&old.name.0, reply("x").packed()).unwrap();
        let keep = |sealed: &[u8]| {
            replies.put(old.name, ONE, (old.owner, None), now() + 1_000_000, Kept::Sealed(sealed.into()));
        };
        keep(&sealed);
        let Found::Kept(kept) = replies.claim_here(asked("sk-old", ONE)) else { panic!("it was kept") };
        assert_eq!(*kept, reply("x"));
        assert!(matches!(replies.claim_here(asked("sk-new", TWO)), Found::Other));
        drop(claimed(replies.claim_here(asked("sk-new", ONE))));
        // Torn, it is gone as well.
        for end in 0..sealed.len() {
            keep(&sealed[..end]);
            drop(claimed(replies.claim_here(asked("sk-old", ONE))));
        }
        assert_eq!(replies.state.lock().bytes(), 0);
    }
}
