//! Gives what reviewers approved or edited to equal questions, by the cache.
//!
//! Decisions are read from the database: those of other gateways, too, and
//! at the start those of the time before it. What the cache keeps an answer
//! under covers the tenant, the configuration, the prompt and the documents: when
//! one of them changes, nobody asks for it any more.
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{
    cache::{Cache, Key, Stored, StoredNotes},
    chat::{Citation, Event, Finish, Usage},
    error::Result,
    knowledge::ground::admits,
    reply::{Head, Origin},
    review::{Decided, PAGE, Reviews, Settings},
};

/// How often decisions of other gateways are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// A decision may become visible so much later than its time says, in microseconds.
const LATE: i64 = 10_000_000;
/// The most answers that are given so; of more, the newest.
const MOST: usize = 10_000;

/// Gives them, until all other handles are gone.
pub(super) struct Approved {
    cache: Arc<Cache>,
    reviews: Reviews,
    settings: ArcSwap<Settings>,
    given: Mutex<Given>,
}

/// What is given.
#[derive(Default)]
struct Given {
    /// By the item's id: what the answer is kept under, and since when.
    items: HashMap<String, (Key, i64)>,
    /// Up to where decisions were read.
    read: i64,
}

impl Approved {
    pub(super) fn start(cache: Arc<Cache>, reviews: Reviews, settings: &Settings) -> Arc<Self> {
        let settings = ArcSwap::from_pointee(settings.clone());
        let this = Arc::new(Self { cache, reviews, settings, given: Mutex::default() });
        tokio::spawn(follow(Arc::downgrade(&this), this.reviews.clone()));
        this
    }

    /// From here on these hold.
    pub(super) fn set(&self, settings: &Settings) {
        let before = self.settings.swap(Arc::new(settings.clone()));
        if before.cache != settings.cache || before.cache_ttl != settings.cache_ttl {
            // From the beginning: other ones may be given now.
            let items = std::mem::take(&mut *self.given.lock()).items;
            items.values().for_each(|(key, _)| self.cache.remove(key));
        }
    }

    /// Reads what was decided since it last looked.
    async fn look(&self) -> Result<()> {
        let settings = self.settings.load_full();
        if !settings.cache {
            return Ok(());
        }
        let ttl = settings.cache_ttl.0.as_micros() as i64;
        let now = Timestamp::now().as_microsecond();
        let mut since = (self.given.lock().read - LATE).max(now.saturating_sub(ttl));
        let mut after = String::new();
        loop {
            let page = self.reviews.decisions(since, &after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            (since, after) = (last.changed, last.id.clone());
            let whole = page.len() == PAGE;
            let mut given = self.given.lock();
            given.read = given.read.max(since);
            page.into_iter().for_each(|decided| self.apply(&mut given, decided, now, ttl));
            if !whole {
                return Ok(());
            }
        }
    }

    fn apply(&self, given: &mut Given, decided: Decided, now: i64, ttl: i64) {
        let left = decided.changed.saturating_add(ttl).saturating_sub(now);
        let (key, text) = match (decided.kept_as.map(Key::of), decided.answer.clone()) {
            (Some(key), Some(text)) if left > 0 && !text.is_empty() => (key, text),
            // Rejected, or erased: then only its id tells what it was kept under.
            (key, _) => {
                let known = given.items.remove(&decided.id).map(|(key, _)| key);
                for key in key.into_iter().chain(known) {
                    // Another decision about the same question stands.
                    if !given.items.values().any(|(other, _)| *other == key) {
                        self.cache.remove(&key);
                    }
                }
                return;
            }
        };
        if given.items.get(&decided.id).is_some_and(|(_, since)| *since == decided.changed) {
            // It is there, unless the cache had no room for it.
            return;
        }
        given.items.retain(|_, (_, since)| now - *since < ttl);
        if given.items.len() >= MOST
            && let Some(oldest) = given.items.iter().min_by_key(|(_, (_, since))| *since)
        {
            let oldest = oldest.0.clone();
            given.items.remove(&oldest);
        }
        given.items.insert(decided.id.clone(), (key, decided.changed));
        self.cache.approve(key, stored(decided, text, Duration::from_micros(left as u64)));
    }
}

/// The answer, as the cache keeps one.
fn stored(decided: Decided, text: String, ttl: Duration) -> Stored {
    let citation = |document: &String| Citation {
        document: (**document).into(),
        heading: "".into(),
        span: String::new(),
        score: 1.0,
    };
    let citations: Vec<_> = decided.sources.iter().map(citation).collect();
    // A person stands for it; for one that says that it does not know, a person says that nobody does.
    let confidence = match admits(&text) {
        true => decided.confidence.unwrap_or(0.0),
        false => 1.0,
    };
    let events = vec![
        Event::text(text),
        Event::Grounded { citations: citations.into(), confidence },
        Event::finish(Finish::Stop),
        Event::Usage(Usage::default()),
    ];
    let model = decided.model.unwrap_or_default().into();
    Stored {
        head: Head { model, id: None, origin: Origin::Cache },
        events,
        target: None,
        notes: StoredNotes { confidence: Some(confidence), ..StoredNotes::default() },
        ttl,
        // Whose question it was is with the review item, whose erasure takes it out here.
        asker: None,
        approved: Some(decided.id.into()),
    }
}

async fn follow(this: Weak<Approved>, reviews: Reviews) {
    loop {
        let Some(approved) = this.upgrade() else { return };
        if let Err(error) = approved.look().await {
            tracing::debug!(error = error.chain(), "what reviewers decided cannot be read yet");
        }
        drop(approved);
        tokio::select! {
            () = reviews.decided() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
