//! What people say of answers: feedback of those who got them, and the queue
//! of answers that wait for a reviewer.
//!
//! A call that is over is looked at once ([`Reviews::offer`]); what a person
//! should see goes through a bounded queue into the database, masked, after
//! the reply. What was approved or edited there is a golden item.
mod decided;
mod feedback;
mod items;
mod kept;
mod queue;
pub mod settings;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

pub use decided::{Decided, PAGE};
pub use feedback::{Feedback, Week};
pub use items::{Decision, Filter, Golden, Item, Said, golden};
pub use settings::Settings;

use crate::{
    audit::{Answer, Archive, Key, Masking, Record, chain::hex},
    call::{Cached, Caller, Notes},
    chat::{Message, Role},
    error::Error,
    observe::Metrics,
    store::sql::{Failed, Sql, Step, Tables},
};

/// Items on their way to the database.
const QUEUE: usize = 2048;
/// What is kept of a question or an answer, in bytes.
const LONGEST: usize = 8 << 10;
/// How long the end of the process waits for what is on its way.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tables. Times are microseconds since 1970; an owner is a keyed hash of tenant and user.
pub const TABLES: Tables = Tables {
    name: "reviews",
    steps: &[
        Step::both(
            "CREATE TABLE reviews (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner TEXT NOT NULL, request TEXT NOT NULL, \
         reason TEXT NOT NULL, status TEXT NOT NULL, at BIGINT NOT NULL, confidence DOUBLE PRECISION, question TEXT NOT NULL, \
         answer TEXT, model TEXT, sources TEXT NOT NULL, rating BIGINT, feedback TEXT, claimed_by TEXT, claimed_name TEXT, \
         claimed_until BIGINT NOT NULL, decided_name TEXT, decided_at BIGINT, decision TEXT, note TEXT); \
         CREATE INDEX reviews_open ON reviews (tenant, status, id); CREATE INDEX reviews_request ON reviews (tenant, request); \
         CREATE INDEX reviews_owner ON reviews (owner); CREATE INDEX reviews_at ON reviews (at); \
         CREATE TABLE feedback (tenant TEXT NOT NULL, request TEXT NOT NULL, owner TEXT NOT NULL, rating BIGINT NOT NULL, \
         words TEXT NOT NULL, at BIGINT NOT NULL, week BIGINT NOT NULL, PRIMARY KEY (tenant, request)); \
         CREATE INDEX feedback_week ON feedback (tenant, week); CREATE INDEX feedback_owner ON feedback (owner); \
         CREATE INDEX feedback_at ON feedback (at)",
        ),
        // Each who rates an answer has a word of their own; of what was said before nobody knows who said it.
        Step::both(
            "ALTER TABLE reviews ADD COLUMN rater TEXT; ALTER TABLE reviews ADD COLUMN kept_as TEXT; \
             ALTER TABLE reviews ADD COLUMN changed BIGINT NOT NULL DEFAULT 0; \
             CREATE INDEX reviews_changed ON reviews (changed, id); CREATE INDEX reviews_rater ON reviews (rater); \
             CREATE TABLE ratings (tenant TEXT NOT NULL, request TEXT NOT NULL, rater TEXT NOT NULL, \
             owner TEXT NOT NULL, rating BIGINT NOT NULL, words TEXT NOT NULL, at BIGINT NOT NULL, \
             week BIGINT NOT NULL, PRIMARY KEY (tenant, request, rater)); \
             INSERT INTO ratings (tenant, request, rater, owner, rating, words, at, week) \
             SELECT tenant, request, '', owner, rating, words, at, week FROM feedback; DROP TABLE feedback; \
             CREATE INDEX ratings_week ON ratings (tenant, week); CREATE INDEX ratings_owner ON ratings (owner); \
             CREATE INDEX ratings_rater ON ratings (rater); CREATE INDEX ratings_at ON ratings (at)",
        ),
        // The item whose approval gave the answer that was rated.
        Step::both("ALTER TABLE reviews ADD COLUMN approved TEXT"),
        // What the cache keeps the answer to a request under, for whom it is rated badly.
        Step::both(
            "CREATE TABLE kept_answers (tenant TEXT NOT NULL, request TEXT NOT NULL, owner TEXT NOT NULL, kept_as TEXT NOT NULL, \
             at BIGINT NOT NULL, PRIMARY KEY (tenant, request)); CREATE INDEX kept_answers_owner ON kept_answers (owner); \
             CREATE INDEX kept_answers_at ON kept_answers (at)",
        ),
    ],
};

/// Why an answer waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A stated answer stood in for it, and the caller was promised that somebody looks.
    Fallback,
    /// A rule blocked the question, or cut the answer.
    Blocked,
    /// Little speaks for it.
    LowConfidence,
    /// Who got it was not content.
    Feedback,
    /// By chance.
    Sample,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Fallback, Self::Blocked, Self::LowConfidence, Self::Feedback, Self::Sample];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 5] = ["fallback", "blocked", "low_confidence", "feedback", "sample"];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The reason of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|at| Self::ALL[at])
    }
}

/// An answer that is to wait for a person.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Its id: items are in the order in which they came.
    pub id: String,
    /// The tenant.
    pub tenant: Arc<str>,
    /// Whose call it was.
    pub owner: String,
    /// The request.
    pub request: Arc<str>,
    /// Why.
    pub reason: Reason,
    /// When the call ended, in microseconds since 1970.
    pub at: i64,
    /// How far the answer can be relied on.
    pub confidence: Option<f64>,
    /// What was asked.
    pub question: String,
    /// What was answered, as far as records hold it.
    pub answer: Option<String>,
    /// Who answered.
    pub model: Option<String>,
    /// The documents that it rests on.
    pub sources: Vec<String>,
    /// What somebody said of it.
    pub rating: Option<Rating>,
    /// Whether question and answer are masked already.
    pub masked: bool,
    /// What the cache keeps the answer under.
    pub kept_as: Option<[u8; 16]>,
    /// The item whose approval gave this answer.
    pub approved: Option<String>,
}

/// What somebody said of an answer.
#[derive(Clone, Debug)]
pub struct Rating {
    /// 1 to 5.
    pub stars: u8,
    /// In words.
    pub words: String,
    /// What stands for who said it.
    pub rater: String,
}

/// What a reload may change.
#[derive(Clone)]
pub struct Rules {
    /// The settings.
    pub settings: Settings,
    /// What masks texts.
    pub masks: Arc<dyn Masking>,
}

/// The queue, and the feedback. Cheap to clone.
#[derive(Clone)]
pub struct Reviews {
    sql: Sql,
    /// What makes an owner of a tenant and a user: the audit's records know them by the same.
    key: Key,
    rules: Arc<ArcSwap<Rules>>,
    sender: mpsc::Sender<queue::Change>,
    /// Told when a decision was made or taken back.
    decided: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Reviews {
    /// Those in the database of these records.
    pub fn start(archive: &Archive, rules: Rules, metrics: &Arc<Metrics>) -> Self {
        let (sql, key) = (archive.sql().clone(), archive.key().clone());
        let (sender, changes) = mpsc::channel(QUEUE);
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        tokio::spawn(queue::write(sql.clone(), rules.clone(), metrics.clone(), changes));
        tokio::spawn(queue::tidy(sql.clone(), Arc::downgrade(&rules)));
        Self { sql, key, rules, sender, decided: Arc::default(), metrics: metrics.clone() }
    }

    /// From here on these hold.
    pub fn follow(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Looks at a call that is over. What a person should see is queued; nobody waits.
    pub fn offer(&self, record: &Record, notes: &Notes) {
        let rules = self.rules.load();
        let Some(reason) = reason(record, notes, &rules.settings) else {
            if rules.settings.cache && record.outcome == "complete" {
                self.keep(record, notes);
            }
            return;
        };
        let Some(chat) = &record.chat else { return };
        let (context, caller) = (&record.context, &record.context.caller);
        let asked = chat.messages.iter().rev().find(|message| message.role == Role::User);
        let sources = record.sources.as_deref().unwrap_or_default();
        let mut documents: Vec<String> = sources.iter().map(|source| source.document.to_string()).collect();
        documents.dedup();
        let fresh = Fresh {
            id: Uuid::now_v7().to_string(),
            tenant: caller.tenant().clone(),
            owner: self.owner(caller.tenant(), caller.user.as_deref()),
            request: context.id.clone(),
            reason,
            at: Timestamp::try_from(record.at).map(Timestamp::as_microsecond).unwrap_or_default(),
            confidence: notes.confidence,
            question: asked.map(Message::text).unwrap_or_default(),
            answer: record.answer.as_ref().map(|answer| given(answer, notes)).filter(|text| !text.is_empty()),
            model: notes.target.as_ref().map(|target| target.model.to_string()),
            sources: documents,
            rating: None,
            masked: false,
            kept_as: notes.kept_as,
            approved: None,
        };
        self.add(fresh);
    }

    /// Notes what the cache keeps an answer under, for whom it is rated badly later on. Where there is little room in
    /// the queue it is left to the items.
    fn keep(&self, record: &Record, notes: &Notes) {
        let Some(kept_as) = notes.kept_as.filter(|_| self.sender.capacity() > QUEUE / 4) else { return };
        let (context, caller) = (&record.context, &record.context.caller);
        let kept = kept::Kept {
            tenant: caller.tenant().clone(),
            request: context.id.clone(),
            owner: self.owner(caller.tenant(), caller.user.as_deref()),
            kept_as,
            at: Timestamp::try_from(record.at).map(Timestamp::as_microsecond).unwrap_or_default(),
        };
        // Without it an answer is still judged, and only not given to others.
        let _ = self.sender.try_send(queue::Change::Keep(Box::new(kept)));
    }

    /// Waits until a decision was made or taken back at this gateway.
    pub async fn decided(&self) {
        self.decided.notified().await;
    }

    /// What stands for a tenant's user, as the audit's records have it.
    pub fn reference(&self, tenant: &str, user: &str) -> [u8; 16] {
        self.key.user(tenant, user)
    }

    /// What stands for a tenant's user.
    fn owner(&self, tenant: &str, user: Option<&str>) -> String {
        hex(&user.map(|user| self.key.user(tenant, user)).unwrap_or_default())
    }

    /// What stands for who rates an answer: the user, where one is named, else the key.
    fn rater(&self, tenant: &str, by: &Caller) -> String {
        match by.user.as_deref() {
            Some(user) => self.owner(tenant, Some(user)),
            None => hex(&self.key.mac(&[b"rater", by.rights.id.as_bytes()])[..16]),
        }
    }

    /// Queues an item. With no place in the queue it is counted, and said.
    fn add(&self, mut fresh: Fresh) {
        // Masked text may be a little longer; what was cut through is no longer found, so there is a margin.
        shorten(&mut fresh.question, 2 * LONGEST);
        fresh.answer.iter_mut().for_each(|answer| shorten(answer, 2 * LONGEST));
        let (request, reason) = (fresh.request.clone(), fresh.reason.name());
        if self.sender.try_send(queue::Change::Add(Box::new(fresh))).is_err() {
            self.metrics.reviews.with_label_values(&[reason, "lost"]).inc();
            tracing::error!(request_id = %request, reason, "an answer is not in the review queue: the database takes too little");
        }
    }

    /// Waits until what was queued is in the database, but not for ever.
    pub async fn flush(&self) -> bool {
        let (done, written) = oneshot::channel();
        let sent = self.sender.send_timeout(queue::Change::Flush(done), PATIENCE).await.is_ok();
        sent && matches!(tokio::time::timeout(PATIENCE, written).await, Ok(Ok(())))
    }

    /// Takes the words of a tenant's user out of feedback and items. Tells how many had some.
    pub async fn erase(&self, tenant: &str, user: &str) -> Result<u64, Failed> {
        self.flush().await;
        let owner = self.owner(tenant, Some(user));
        let many = self.sql.within(items::erase(&self.sql, &owner)).await?;
        self.decided.notify_one();
        self.sql.scrub("reviews, ratings, kept_answers").await?;
        Ok(many)
    }
}

/// Why a person should see an answer, if one should.
fn reason(record: &Record, notes: &Notes, settings: &Settings) -> Option<Reason> {
    record.chat.as_ref()?;
    if notes.withheld.is_some() {
        return Some(Reason::LowConfidence);
    }
    if notes.review || record.review {
        return Some(Reason::Fallback);
    }
    if record.outcome == (Error::Blocked { guard: "" }).facts().code || notes.filtered.is_some() {
        return Some(Reason::Blocked);
    }
    // One from the cache was looked at when it was made.
    if record.status >= 400 || record.outcome != "complete" || notes.cache == Cached::Hit {
        return None;
    }
    if notes.confidence.is_some_and(|confidence| confidence < settings.low_confidence) && !notes.stood_in {
        return Some(Reason::LowConfidence);
    }
    (settings.sample > 0.0 && rand::random::<f64>() < settings.sample).then_some(Reason::Sample)
}

/// The answer that a person is to judge: what the model said, also where the caller got something else.
fn given(answer: &Answer, notes: &Notes) -> String {
    notes.withheld.as_deref().unwrap_or(&answer.text).to_owned()
}

fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str(" […]");
    }
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

fn away(error: Failed) -> Error {
    Error::StoreAway(error.into())
}
