//! What the handlers share.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::{ArcSwap, Guard};

use super::settings::Server;
use crate::{
    audit::{Record, Writer},
    auth::{Book, Keyring},
    budget::Ledger,
    call::{Caller, Context, Priority, Trace, Trail},
    error::Error,
    knowledge::SharedKnowledge,
    observe::Metrics,
    prompt::Prompts,
    replay::Replay,
    route::{Breakers, Table},
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
}

/// What a reload replaces, as one.
pub struct Running {
    /// The server's settings.
    pub server: Server,
    /// The route that `/predict` asks, and how long its answers are good.
    pub predict: (String, Duration),
    /// What is taken out of the text of `/predict`.
    pub sanitize: crate::guard::safety::Sanitize,
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
        let Lasting { metrics, writer, breakers, stores, replay, keys, ledger, summaries } = lasting;
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
    pub fn refused(&self, error: &Error, status: u16, id: &Arc<str>, endpoint: &'static str) {
        self.0.metrics.finished(endpoint, status, Duration::ZERO);
        let Ok(place) = self.0.writer.reserve() else { return };
        let now = Instant::now();
        let context = Context {
            id: id.clone(),
            endpoint,
            caller: Caller::named("unknown", "unknown"),
            trace: Trace::default(),
            began: now,
            deadline: now,
            priority: Priority::Normal,
            use_cache: false,
            cache_ttl: None,
            last_resort: false,
            explain: None,
            trail: Trail::default(),
        };
        let record = Record {
            at: SystemTime::now(),
            took: Duration::ZERO,
            context: Arc::new(context),
            chat: None,
            status,
            outcome: error.facts().code,
            error: Some(error.chain()),
            answer: None,
            review: false,
        };
        self.0.writer.record(place, record);
    }
}
