//! What was said under a `session_id`, kept outside of the process.
//!
//! A conversation is a list of turns, a question and its answer each. A turn
//! is added when its answer has ended well, and never changed: two calls at
//! once add one each, in the order in which they end. What is over the bounds
//! is summed up by a model (see [`summary`]) or dropped, the oldest first.
//!
//! It is in Redis where one is configured, so that gateways share it, else in
//! the database. It belongs to a tenant, a key and a user; what it is kept
//! under is a digest of them, so that nobody finds another's.
mod history;
mod placeholders;
mod redis;
pub mod settings;
mod sql;
pub mod summary;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

pub use history::{Given, History, Turn};
pub use settings::{OnFailure, Settings};
pub use sql::TABLES;

use crate::{
    caller::Caller,
    error::Error,
    observe::Metrics,
    stage::Pipeline,
    store::{self, Stores, redis::Away},
    tokens,
};

/// Conversations that wait to be summed up.
const MOST_WAITING: usize = 256;
/// For how long a conversation that was deleted takes no turn of a call that began before.
const CLOSED: Duration = Duration::from_secs(3600);
/// What is left out of a text that is too long.
const CUT: &str = " […]";

/// What a conversation is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// A digest of the tenant and the user.
    owner: String,
    /// A digest of the owner, the key and the session.
    id: String,
}

impl Name {
    /// The conversation that a caller calls `session`.
    pub fn new(caller: &Caller, session: &str) -> Self {
        let user = caller.user.as_deref();
        Self {
            owner: owner(caller.tenant(), user),
            id: digest(&[Some(caller.tenant()), user, Some(&caller.rights.id), Some(session)]),
        }
    }
}

/// What makes the numbers of placeholders: in all turns of a conversation a value has the same.
#[derive(Clone)]
pub struct Numbers([u8; 32]);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

impl Numbers {
    /// Made of a secret of the server.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The key of a conversation.
    pub fn of(&self, name: &Name) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return self.0 };
        mac.update(name.id.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn owner(tenant: &str, user: Option<&str>) -> String {
    digest(&[Some(tenant), user])
}

/// Parts of another length give another digest, and so does one that is absent.
fn digest(parts: &[Option<&str>]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A turn that is to be added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fresh {
    /// When its call began, in microseconds since 1970.
    pub began: i64,
    /// When its answer ended, likewise.
    pub at: i64,
    /// The id of its request.
    pub request: String,
    /// What was asked, masked.
    pub question: String,
    /// What was answered, masked.
    pub answer: String,
    /// How much both are, in tokens, about.
    pub tokens: i64,
}

impl Fresh {
    /// A turn that ends now. A text that takes more than half of the bound is cut.
    pub fn new(
        began: Timestamp,
        request: &str,
        question: String,
        answer: String,
        settings: &Settings,
    ) -> Self {
        let most = (settings.max_tokens as usize).saturating_sub(PER_TURN as usize + 2) * 2;
        let (question, answer) = (shortened(question, most), shortened(answer, most));
        Self {
            began: began.as_microsecond(),
            at: Timestamp::now().as_microsecond(),
            request: request.to_owned(),
            tokens: (tokens::guess(&question) + tokens::guess(&answer)) as i64 + PER_TURN,
            question,
            answer,
        }
    }
}

/// What the wrapping of two messages takes, in tokens.
const PER_TURN: i64 = 8;

fn shortened(mut text: String, most: usize) -> String {
    // No Postgres takes it.
    text.retain(|letter| letter != '\0');
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(CUT.len())));
        text.push_str(CUT);
    }
    text
}

/// How much is kept of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    ttl: Duration,
    tokens: i64,
    turns: i64,
}

impl Bounds {
    /// With a model that sums up, twice as much is kept for as long as it has not.
    pub fn of(settings: &Settings) -> Self {
        let times = if settings.summary_model.is_some() { 2 } else { 1 };
        Self {
            ttl: settings.ttl.0,
            tokens: i64::from(settings.max_tokens) * times,
            turns: i64::from(settings.max_turns) * times,
        }
    }

    /// Of the turns' numbers and tokens, newest first: the first that is over the bounds. The newest never is.
    fn cut(&self, turns: impl Iterator<Item = (i64, i64)>) -> Option<i64> {
        let (mut count, mut sum) = (0, 0);
        for (number, tokens) in turns {
            (count, sum) = (count + 1, sum + tokens);
            if count > 1 && (count > self.turns || sum > self.tokens) {
                return Some(number);
            }
        }
        None
    }
}

/// What a conversation has when a turn was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The turns that are there word for word.
    pub turns: i64,
    /// Their tokens, about.
    pub tokens: i64,
    /// The turns that were dropped to make room.
    pub dropped: i64,
}

/// Why a conversation cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The database.
    #[error(transparent)]
    Sql(#[from] store::sql::Failed),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] Away),
    /// It took longer than a request can bear.
    #[error("the store did not answer in time")]
    Late,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::StoreAway(failed.into())
    }
}

/// Where they are kept.
#[derive(Debug)]
enum Store {
    Sql(store::sql::Sql),
    Redis(redis::Kept),
}

/// The conversations.
#[derive(Debug)]
pub struct Sessions {
    store: Store,
    /// Writes that are under way.
    pub tasks: TaskTracker,
    metrics: Arc<Metrics>,
    waiting: mpsc::Sender<summary::Wanted>,
    pipeline: ArcSwapOption<Pipeline>,
}

impl Sessions {
    /// Those in Redis, or else in the database.
    pub fn start(stores: &Stores, metrics: &Arc<Metrics>) -> Arc<Self> {
        let (waiting, wanted) = mpsc::channel(MOST_WAITING);
        let store = match &stores.redis {
            Some(redis) => Store::Redis(redis::Kept::new(redis.clone())),
            None => Store::Sql(stores.sql.clone()),
        };
        let (tasks, pipeline, metrics) = (TaskTracker::new(), ArcSwapOption::empty(), metrics.clone());
        let this = Arc::new(Self { store, tasks, metrics, waiting, pipeline });
        tokio::spawn(summary::run(Arc::downgrade(&this), wanted));
        if stores.redis.is_none() {
            tokio::spawn(sql::tidy(stores.sql.clone(), Arc::downgrade(&this)));
        }
        this
    }

    /// From here on, summaries are asked of this pipeline.
    pub fn ask(&self, pipeline: Pipeline) {
        self.pipeline.store(Some(Arc::new(pipeline)));
    }

    /// A conversation; `None` where there is none, or none any more.
    pub async fn load(&self, name: &Name) -> Result<Option<History>, Failed> {
        Ok(match &self.store {
            Store::Sql(sql) => sql::load(sql, name).await?,
            Store::Redis(redis) => redis.load(name).await?,
        })
    }

    /// Adds a turn, and drops the oldest where there are too many. `None`: the
    /// conversation was deleted since the call began.
    pub async fn add(&self, name: &Name, turn: &Fresh, bounds: Bounds) -> Result<Option<Added>, Failed> {
        Ok(match &self.store {
            Store::Sql(sql) => sql::add(sql, name, turn, bounds).await?,
            Store::Redis(redis) => redis.add(name, turn, bounds).await?,
        })
    }

    /// Deletes a conversation. Tells whether there was one.
    pub async fn remove(&self, name: &Name) -> Result<bool, Failed> {
        Ok(match &self.store {
            Store::Sql(sql) => sql::remove(sql, name).await?,
            Store::Redis(redis) => redis.remove(name).await?,
        })
    }

    /// Deletes all conversations of a tenant's user. Tells how many there were.
    pub async fn erase(&self, tenant: &str, user: &str) -> Result<u64, Failed> {
        let owner = owner(tenant, Some(user));
        Ok(match &self.store {
            Store::Sql(sql) => sql::erase(sql, &owner).await?,
            Store::Redis(redis) => redis.erase(&owner).await?,
        })
    }

    /// Waits for what is being written, but not for ever.
    pub async fn close(&self, patience: Duration) {
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }

    fn count(&self, event: &str) {
        self.metrics.sessions.with_label_values(&[event]).inc();
    }

    /// Takes it for the next summary; with too many waiting, the next turn asks again.
    fn sum_up(&self, wanted: summary::Wanted) {
        let _ = self.waiting.try_send(wanted);
    }

    /// Says that this gateway sums up the turns after `folded`. Refused where another does, or did.
    pub async fn claim(&self, name: &Name, folded: i64) -> Result<bool, Failed> {
        Ok(match &self.store {
            Store::Sql(sql) => sql::claim(sql, name, folded).await?,
            Store::Redis(redis) => redis.claim(name, folded).await?,
        })
    }

    /// Puts `summary` in the place of the turns after `folded`, up to `through`;
    /// without one, only gives the claim back. Tells whether they were still there.
    pub async fn fold(&self, name: &Name, folded: i64, summed: Option<(i64, &str)>) -> Result<bool, Failed> {
        Ok(match &self.store {
            Store::Sql(sql) => sql::fold(sql, name, folded, summed).await?,
            Store::Redis(redis) => redis.fold(name, folded, summed).await?,
        })
    }
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_tenant_key_user_and_session() {
        let caller = |key, tenant, user: Option<&str>| Caller {
            user: user.map(Into::into),
            ..Caller::named(key, tenant)
        };
        let base = Name::new(&caller("k", "t", Some("u")), "s");
        for other in [
            Name::new(&caller("k2", "t", Some("u")), "s"),
            Name::new(&caller("k", "t2", Some("u")), "s"),
            Name::new(&caller("k", "t", Some("u2")), "s"),
            Name::new(&caller("k", "t", None), "s"),
            Name::new(&caller("k", "t", Some("")), "s"),
            Name::new(&caller("k", "t", Some("u")), "s2"),
        ] {
            assert_ne!(base.id, other.id);
        }
        assert_eq!(base.owner, Name::new(&caller("k2", "t", Some("u")), "s2").owner);
    }

    #[test]
    fn a_turn_always_fits_and_bounds_cut_the_oldest() {
        for max_tokens in [100, 4000] {
            let settings = Settings { max_tokens, ..Settings::default() };
            let long = "é".repeat(100_000);
            let turn = Fresh::new(Timestamp::now(), "r", long.clone(), long, &settings);
            assert!(turn.tokens <= i64::from(max_tokens), "{}", turn.tokens);
            assert!(turn.answer.ends_with(CUT));
        }
        let bounds = Bounds { ttl: Duration::ZERO, tokens: 10, turns: 3 };
        let cut = |turns: &[(i64, i64)]| bounds.cut(turns.iter().copied());
        assert_eq!(cut(&[(9, 4), (8, 3), (7, 3)]), None);
        assert_eq!(cut(&[(9, 4), (8, 3), (7, 4)]), Some(7));
        assert_eq!(cut(&[(9, 1), (8, 1), (7, 1), (6, 1), (5, 1)]), Some(6));
        assert_eq!(cut(&[(9, 99), (8, 1)]), Some(8));
        assert_eq!(cut(&[(9, 99)]), None);
    }
}
