//! What the handlers share.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::{Asked, settings::Server};
use crate::{
    audit::{Filing, Record, Ticket, Writer, erase::Forget},
    auth::{Book, Keyring},
    budget::Ledger,
    call::{Caller, Context},
    error::{Error, Result},
    knowledge::SharedKnowledge,
    observe::Metrics,
    prompt::Prompts,
    replay::Replay,
    review::Reviews,
    route::{Breakers, Table},
    session::Sessions,
    stage::Pipeline,
    store::{Stores, sql::Failed},
    summary::{Kept, Summaries},
};

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What lasts as long as the process.
struct Shared {
    running: ArcSwap<Running>,
    metrics: Arc<Metrics>,
    writer: Writer,
    breakers: Arc<Breakers>,
    stores: Stores,
    replay: Replay,
    keys: Book,
    ledger: Arc<Ledger>,
    summaries: (Arc<Summaries>, Arc<Kept>),
    audit: Option<Filing>,
    strangers: Mutex<Strangers>,
    sessions: Arc<Sessions>,
    reviews: Reviews,
    forget: Forget,
    draining: AtomicBool,
    began: Instant,
}

/// What lasts as long as the process, as it is handed over.
#[expect(missing_docs, reason = "each is told of where `App` gives it out")]
pub struct Lasting {
    pub metrics: Arc<Metrics>,
    pub writer: Writer,
    pub breakers: Arc<Breakers>,
    pub stores: Stores,
    pub replay: Replay,
    pub keys: Book,
    pub ledger: Arc<Ledger>,
    pub summaries: (Arc<Summaries>, Arc<Kept>),
    pub audit: Option<Filing>,
    pub sessions: Arc<Sessions>,
    pub reviews: Reviews,
    pub forget: Forget,
}

/// What a reload replaces, as one.
pub struct Running {
    /// The server's settings.
    pub server: Server,
    /// The route that `/predict` asks, and how long its answers are good.
    pub predict: (String, Duration),
    /// What is taken out of the text of `/predict`.
    pub sanitize: crate::guard::safety::Sanitize,
    /// Finds what is personal in ids and names that callers chose.
    pub pii: Arc<crate::guard::pii::Pii>,
    /// The configuration's digest.
    pub version: Arc<str>,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// What tells what the pipeline would do.
    pub simulation: Pipeline,
    /// The keys.
    pub keys: Keyring,
    /// The routes.
    pub table: Arc<Table>,
    /// The prompts.
    pub prompts: Arc<Prompts>,
    /// The documents; they have a version of their own and change by themselves.
    pub knowledge: Arc<SharedKnowledge>,
    /// The route of callers who name none.
    pub default_model: String,
}

impl Running {
    /// The model that a caller asks for: `default`, like none at all, is the
    /// route of callers who name none, unless a route has that very name.
    pub fn model(&self, asked: Option<String>) -> String {
        let named = asked.filter(|name| name != "default" || self.table.has(name));
        named.unwrap_or_else(|| self.default_model.clone())
    }
}

impl App {
    /// An app that runs.
    pub fn new(running: Running, lasting: Lasting) -> Self {
        let Lasting {
            metrics,
            writer,
            breakers,
            stores,
            replay,
            keys,
            ledger,
            summaries,
            audit,
            sessions,
            reviews,
            forget,
        } = lasting;
        sessions.ask(running.pipeline.clone());
        Self(Arc::new(Shared {
            running: ArcSwap::from_pointee(running),
            metrics,
            writer,
            breakers,
            stores,
            replay,
            keys,
            ledger,
            summaries,
            audit,
            strangers: Mutex::default(),
            sessions,
            reviews,
            forget,
            draining: AtomicBool::new(false),
            began: Instant::now(),
        }))
    }

    /// What is in force. A call keeps what it began with.
    pub fn running(&self) -> Guard<Arc<Running>> {
        self.0.running.load()
    }

    /// Puts something else in force, for calls that begin from here on.
    pub fn replace(&self, running: Running) {
        self.0.sessions.ask(running.pipeline.clone());
        self.0.running.store(Arc::new(running));
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The audit writer.
    pub fn writer(&self) -> &Writer {
        &self.0.writer
    }

    /// The stores.
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// What is given once more without asking a model again.
    pub fn replay(&self) -> &Replay {
        &self.0.replay
    }

    /// The keys that are made at run time.
    pub fn keys(&self) -> &Book {
        &self.0.keys
    }

    /// Takes up what has changed about them.
    pub async fn follow_keys(&self) -> Result<(), Failed> {
        let read = self.0.keys.refresh().await;
        // Also where nothing was read: a reload may have begun with an older page.
        self.running().keys.follow(&self.0.keys.page());
        read
    }

    /// What is spent, and of what.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.0.ledger
    }

    /// How calls went: in this process, and in the database.
    pub fn summaries(&self) -> &(Arc<Summaries>, Arc<Kept>) {
        &self.0.summaries
    }

    /// The audit records in the database; `None` where none are kept.
    pub fn audit(&self) -> Option<&Filing> {
        self.0.audit.as_ref()
    }

    /// What people say of answers.
    pub fn reviews(&self) -> &Reviews {
        &self.0.reviews
    }

    /// What forgets a user's words that are kept beside the stores.
    pub fn forget(&self) -> &Forget {
        &self.0.forget
    }

    /// The conversations.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// How long the process has run.
    pub fn uptime(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// When the process began, in seconds since 1970.
    pub fn began_at(&self) -> u64 {
        super::answer::unix_seconds().saturating_sub(self.uptime().as_secs())
    }

    /// Targets that are left alone right now.
    pub fn open_breakers(&self) -> Vec<String> {
        self.0.breakers.open()
    }

    /// From here on new requests are refused, and `/readyz` says so.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether new requests are refused.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Counts and records a request that was refused before it became a call.
    /// Whoever gets the refusal waits for the ticket. Strangers do not, and
    /// have no more than so many records a second: they could fill the disk.
    ///
    /// # Errors
    /// [`Error::AuditAway`]: no record can be kept.
    pub(super) fn refused(
        &self,
        error: &Error,
        status: u16,
        asked: &Asked,
        endpoint: &'static str,
    ) -> Result<Ticket> {
        self.0.metrics.finished(endpoint, status, Duration::ZERO);
        let known = asked.known.get();
        let mut more = 0;
        if known.is_none() {
            let Some(before) = self.0.strangers.lock().one(Instant::now()) else {
                return Ok(Ticket::default());
            };
            more = before;
        }
        let place = match self.0.writer.reserve() {
            Ok(place) => place,
            Err(_) if known.is_none() => {
                self.0.strangers.lock().untold += 1 + more;
                return Ok(Ticket::default());
            }
            Err(away) => return Err(away),
        };
        let caller = known.cloned().unwrap_or_else(|| Caller::named("unknown", "unknown"));
        let record = Record {
            status,
            outcome: error.facts().code,
            error: Some(error.logged()),
            more,
            ..without_call(asked.id.clone(), caller, endpoint)
        };
        let ticket = self.0.writer.record(place, record);
        Ok(if known.is_some() { ticket } else { Ticket::default() })
    }

    /// Records that what was answered to the request `first` is given once more. It costs nothing.
    ///
    /// # Errors
    /// [`Error::AuditAway`]: no record can be kept.
    pub(super) fn replayed(
        &self,
        first: &str,
        status: u16,
        asked: &Asked,
        endpoint: &'static str,
    ) -> Result<Ticket> {
        let place = self.0.writer.reserve()?;
        let caller = asked.known.get().cloned().unwrap_or_default();
        let replay_of = Some(first.into());
        let record = Record { status, replay_of, ..without_call(asked.id.clone(), caller, endpoint) };
        Ok(self.0.writer.record(place, record))
    }
}

/// The record of something that was no call, or none any more.
fn without_call(id: Arc<str>, caller: Caller, endpoint: &'static str) -> Record {
    let context = Context::new(id, endpoint, caller, Duration::ZERO);
    Record { took: Duration::ZERO, ..Record::new(Arc::new(context)) }
}

/// Counts the refusals of strangers.
#[derive(Default)]
struct Strangers {
    second: Option<Instant>,
    told: u32,
    /// Those that have no record of their own.
    untold: u64,
}

/// Records of strangers a second; further ones are counted in the next.
const MOST_STRANGERS: u32 = 100;

impl Strangers {
    /// One more. `None`: it is only counted; else how many before it were.
    fn one(&mut self, now: Instant) -> Option<u64> {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.told) = (Some(now), 0);
        }
        if self.told >= MOST_STRANGERS {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_beyond_the_bound_are_counted_in_a_later_record() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        let told = (0..250).filter_map(|_| strangers.one(now)).count();
        assert_eq!(told, MOST_STRANGERS as usize);
        assert_eq!(strangers.one(now + Duration::from_secs(1)), Some(150));
        assert_eq!(strangers.one(now + Duration::from_secs(1)), Some(0));
    }
}
