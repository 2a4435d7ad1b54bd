//! Answers kept for equal questions: exact, in this process, bounded by bytes.
//!
//! A key covers all that an answer depends on, and the tenant first of all.
//! An entry is the list of events as they went by, so that a hit replays as
//! a stream, event for event.
mod key;
mod policy;
mod settings;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache as Moka};
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::watch;

pub use key::Key;
pub use policy::Policy;
pub use settings::{Settings, When};

use crate::{
    call::Target,
    chat::{Completion, Cost, Event},
    reply::Head,
};

/// An answer that is kept.
#[derive(Debug)]
pub struct Stored {
    /// Its head.
    pub head: Head,
    /// Its events, as they went by.
    pub events: Vec<Event>,
    /// Who answered.
    pub target: Option<Arc<Target>>,
    /// What was used to answer, for the headers of a hit.
    pub notes: StoredNotes,
    /// How long it is good.
    pub ttl: Duration,
    /// The tenant and the user who asked; absent where nobody was named.
    pub asker: Option<(Arc<str>, Arc<str>)>,
    /// The review item that it comes from, where a person stands for it.
    pub approved: Option<Arc<str>>,
}

/// The notes of the call that a stored answer was made for.
#[derive(Clone, Debug, Default)]
pub struct StoredNotes {
    /// The prompt's version.
    pub prompt_version: Option<Arc<str>>,
    /// The documents' version.
    pub corpus_version: Option<Arc<str>>,
    /// The size of the context, in characters.
    pub context_used: usize,
    /// How far the answer can be relied on.
    pub confidence: Option<f64>,
    /// What it has cost.
    pub cost: Cost,
}

impl Stored {
    /// About how much memory it takes, in bytes.
    fn size(&self) -> usize {
        let events: usize = self
            .events
            .iter()
            .map(|event| match event {
                Event::Text { text, .. } | Event::Refusal { text, .. } => text.capacity(),
                Event::Reasoning { text, signature, redacted, .. } => {
                    text.capacity()
                        + signature.as_ref().map_or(0, String::capacity)
                        + redacted.as_ref().map_or(0, String::capacity)
                }
                Event::ToolCall { id, name, arguments, .. } => {
                    arguments.capacity()
                        + id.as_ref().map_or(0, String::capacity)
                        + name.as_ref().map_or(0, String::capacity)
                }
                Event::Embedding { vector, .. } => vector.len() * 4,
                Event::Grounded { citations, .. } => citations.iter().map(|c| 128 + c.span.len()).sum(),
                Event::Usage(_) | Event::Continued { .. } | Event::Finish { .. } => 0,
            })
            .sum();
        events + self.events.capacity() * size_of::<Event>() + 512
    }

    /// The answer read to its end.
    pub fn completion(&self) -> Completion {
        let mut whole = Completion::default();
        self.events.iter().for_each(|event| whole.push(event));
        whole
    }
}

/// The store, and the questions that are being asked right now.
pub struct Cache {
    entries: Moka<Key, Arc<Stored>>,
    flights: Mutex<HashMap<Key, watch::Receiver<()>>>,
    bytes: IntGauge,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("bytes", &self.entries.weighted_size()).finish_non_exhaustive()
    }
}

struct ByEntry;

impl Expiry<Key, Arc<Stored>> for ByEntry {
    fn expire_after_create(&self, _: &Key, stored: &Arc<Stored>, _: Instant) -> Option<Duration> {
        Some(stored.ttl)
    }

    /// Another answer in its place has a time of its own.
    fn expire_after_update(
        &self,
        _: &Key,
        stored: &Arc<Stored>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(stored.ttl)
    }
}

/// What the cache has for a question.
#[derive(Debug)]
pub enum Found {
    /// The answer.
    Stored(Arc<Stored>),
    /// Nobody asks it: the caller does, and others wait until the flight is dropped.
    Nothing(Flight),
    /// Somebody is asking it right now; wait for that, then look again.
    Asked(watch::Receiver<()>),
}

/// A question that is being asked. Dropped when the answer is stored or will not be.
pub struct Flight {
    cache: Arc<Cache>,
    key: Key,
    _landed: watch::Sender<()>,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Flight {
    /// Keeps the answer, unless a person's came in the meantime.
    pub fn store(&self, stored: Stored) {
        let entries = &self.cache.entries;
        if entries.get(&self.key).is_none_or(|there| there.approved.is_none()) {
            entries.insert(self.key, Arc::new(stored));
        }
        self.cache.weigh();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cache.flights.lock().remove(&self.key);
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(settings: &Settings, bytes: IntGauge) -> Self {
        let entries = Moka::builder()
            .max_capacity(settings.max_bytes.0 as u64)
            .weigher(|_: &Key, stored: &Arc<Stored>| u32::try_from(stored.size()).unwrap_or(u32::MAX))
            .expire_after(ByEntry)
            .build();
        Self { entries, flights: Mutex::default(), bytes }
    }

    /// Whether there is an answer. Begins nothing.
    pub fn has(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Puts an answer that a person stands for in the place of whatever is there.
    pub fn approve(&self, key: Key, stored: Stored) {
        self.entries.insert(key, Arc::new(stored));
        self.weigh();
    }

    /// Takes an answer out.
    pub fn remove(&self, key: &Key) {
        self.entries.invalidate(key);
        self.weigh();
    }

    /// Takes out what was answered to those whom `theirs` names by tenant and user. Looks at every answer: not on
    /// the way of a call.
    pub fn erase(&self, theirs: impl Fn(&str, &str) -> bool) -> usize {
        let found = self
            .entries
            .iter()
            .filter(|(_, stored)| stored.asker.as_ref().is_some_and(|(tenant, user)| theirs(tenant, user)));
        let keys: Vec<Key> = found.map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.entries.invalidate(key));
        self.weigh();
        keys.len()
    }

    fn weigh(&self) {
        // The store weighs its entries only when it tidies up.
        self.entries.run_pending_tasks();
        self.bytes.set(self.entries.weighted_size() as i64);
    }

    /// Looks for an answer.
    pub fn find(self: &Arc<Self>, key: Key) -> Found {
        if let Some(stored) = self.entries.get(&key) {
            return Found::Stored(stored);
        }
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return Found::Asked(flight.clone());
        }
        // An answer may have landed between the look and the lock.
        if let Some(stored) = self.entries.get(&key) {
            return Found::Stored(stored);
        }
        let (landed, wait) = watch::channel(());
        flights.insert(key, wait);
        Found::Nothing(Flight { cache: self.clone(), key, _landed: landed })
    }
}
