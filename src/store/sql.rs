//! One database, SQLite or Postgres, behind one way to ask it.
//!
//! Queries are written once, in the SQL that both understand: `$1` for what is
//! bound, and BIGINT, DOUBLE PRECISION and TEXT for what is kept (a truth is a
//! BIGINT, a time is microseconds since 1970). A mechanism brings its
//! [`Tables`]; they only ever grow by a step. Nothing here is on the way of a
//! request: what a request needs is in memory.
use std::{
    borrow::Cow,
    fs,
    future::Future,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::IntGauge;
use sqlx::{
    Any, AnyPool, ConnectOptions, Executor, Row, Transaction, any::AnyConnectOptions, error::DatabaseError,
};
use tokio::time::{Instant, timeout};

use super::{
    Settings,
    connect::{pool, reach},
    place::place,
};
use crate::observe::Metrics;

/// How long the start has at least, however short requests wait: a busy disk takes its time over new tables.
pub(super) const START: Duration = Duration::from_secs(10);
/// How long a database that refused to be written to counts as away, though it is read: who has something
/// to write tries again sooner than that.
const REFUSED: Duration = Duration::from_secs(5);

/// A handle to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sql(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: AnyPool,
    kind: Kind,
    /// The file of an SQLite database.
    file: Option<DbFile>,
    patience: Duration,
    is_up: AtomicBool,
    /// When it last refused to be written to.
    refused: Mutex<Option<Instant>>,
    up: IntGauge,
}

/// A file that is open, by its name and by what it is.
#[derive(Debug)]
struct DbFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DbFile {
    fn of(path: &Path) -> std::io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Whether its name still leads to it. Without a name it can be written to, and is gone with the process.
    fn there(&self) -> Result<(), sqlx::Error> {
        let what = match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => return Ok(()),
            Ok(_) => "was replaced by another file",
            Err(error) if error.kind() == ErrorKind::NotFound => "was removed",
            // Nobody can tell.
            Err(_) => return Ok(()),
        };
        let why = format!(
            "`{}` (`store.sqlite`) {what} while it was open: put it back as it was (moved, not copied), or start anew",
            self.path.display()
        );
        Err(sqlx::Error::Io(std::io::Error::new(ErrorKind::NotFound, why)))
    }
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In this process's memory: all is lost when it ends.
    Memory,
    /// A file of this machine.
    Sqlite,
    /// A server that several gateways share.
    Postgres,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// The tables of one mechanism, and how they came to be: step after step,
/// never back. A step that has been released is never changed.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// The mechanism.
    pub name: &'static str,
    /// The steps, oldest first.
    pub steps: &'static [Step],
}

/// One step: SQL statements for each database, carried out as one.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// For SQLite.
    pub sqlite: &'static str,
    /// For Postgres.
    pub postgres: &'static str,
}

impl Step {
    /// The same statements for both.
    pub const fn both(statements: &'static str) -> Self {
        Self { sqlite: statements, postgres: statements }
    }
}

/// Why the database did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It took longer than `store.timeout`. It may still do it.
    #[error("the database did not answer in time")]
    Late,
    /// It could not be reached, or refused.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
}

impl Sql {
    /// Opens the database, and brings the tables to what this version knows.
    ///
    /// # Errors
    /// It cannot be opened, or a newer version wrote it; in words.
    pub async fn open(settings: &Settings, tables: &[Tables], metrics: &Metrics) -> Result<Self, String> {
        let (url, kind) = place(settings)?;
        // Postgres and SQLite only: whatever else the URL says is told as its mistake.
        let mut options: AnyConnectOptions =
            url.parse().map_err(|_| "`store.postgres` holds no URL".to_owned())?;
        options = options.disable_statement_logging();
        let (patience, name) = (settings.timeout.0, kind.name());
        let start = patience.max(START);
        let pool = pool(settings, kind, patience);
        let unfit = |error: &sqlx::Error| unfit(error, kind, &settings.sqlite);
        if kind != Kind::Memory {
            reach(&options, kind, patience).await.map_err(|error| unfit(&error))?;
        }
        let file = (kind == Kind::Sqlite).then(|| DbFile::of(&settings.sqlite)).transpose();
        let file = file.map_err(|error| format!("`store.sqlite`: {error}"))?;
        let this = Self(Arc::new(Shared {
            pool: pool.connect_lazy_with(options),
            kind,
            file,
            patience,
            is_up: AtomicBool::new(true),
            refused: Mutex::default(),
            up: metrics.store_up.with_label_values(&["database"]),
        }));
        this.0.up.set(1);
        let migrated = timeout(start, this.migrate(tables)).await;
        migrated.map_err(|_| format!("the database ({name}) does not answer"))?.map_err(
            |error| match error {
                Unfit::Newer(why) => why,
                Unfit::Sql(error) => unfit(&error),
            },
        )?;
        Ok(this)
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether it was there when it was last asked.
    pub fn is_up(&self) -> bool {
        self.0.is_up.load(Ordering::Relaxed)
    }

    /// The connections, for queries inside [`Sql::within`].
    pub fn pool(&self) -> &AnyPool {
        &self.0.pool
    }

    /// Begins to write: nobody else writes to an SQLite file until this ends.
    /// Dropped without a commit, nothing has happened.
    pub async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.0.kind {
            Kind::Postgres => self.0.pool.begin().await,
            // A transaction that first reads and then writes could otherwise be refused in its middle.
            Kind::Memory | Kind::Sqlite => self.0.pool.begin_with("BEGIN IMMEDIATE").await,
        }
    }

    /// Whether what is written to the database is still there when this process has ended: nobody has removed
    /// its file, or put another in its place.
    ///
    /// # Errors
    /// It is not.
    pub fn there(&self) -> Result<(), Failed> {
        Ok(self.0.file.as_ref().map_or(Ok(()), DbFile::there)?)
    }

    /// Waits for `work` with the database, but not for ever; notes whether the
    /// database is there.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failed> {
        let there = || self.0.file.as_ref().map_or(Ok(()), DbFile::there);
        let done = match there() {
            Ok(()) => timeout(self.0.patience, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)),
            Err(lost) => Err(lost),
        };
        // What was written to a file that was removed meanwhile is gone with it.
        let done = done.and_then(|done| there().map(|()| done));
        let was_up = self.0.is_up.load(Ordering::Relaxed);
        let away = match &done {
            Err(error) if takes_nothing(error, self.0.kind) => {
                *self.0.refused.lock() = Some(Instant::now());
                Some(reason(error))
            }
            Err(error) if is_away(error) => Some(reason(error)),
            // That something can be read of it does not say that it is well again.
            _ if !was_up && self.0.refused.lock().is_some_and(|at| at.elapsed() < REFUSED) => {
                Some(String::new())
            }
            _ => None,
        };
        if was_up != away.is_none() && self.0.is_up.swap(away.is_none(), Ordering::Relaxed) == was_up {
            self.0.up.set(i64::from(away.is_none()));
            if let Some(why) = away {
                tracing::error!(why, "the database is away: what needs it is refused");
            } else {
                tracing::info!("the database is back");
            }
        }
        done.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => Failed::Late,
            error => Failed::Sql(error),
        })
    }

    /// Takes what was deleted out of the log in front of an SQLite file, as far as nobody reads there right now;
    /// in Postgres, has these tables vacuumed, as far as the gateway may.
    ///
    /// # Errors
    /// The file's log could not be emptied.
    pub async fn scrub(&self, tables: &str) -> Result<(), Failed> {
        match self.0.kind {
            Kind::Memory => Ok(()),
            Kind::Sqlite => {
                let truncate = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.pool());
                self.within(truncate).await.map(|_| ())
            }
            Kind::Postgres => {
                // Names of our own tables.
                let vacuum = sqlx::AssertSqlSafe(format!("VACUUM {tables}"));
                let vacuum = sqlx::raw_sql(vacuum).execute(self.pool());
                if let Err(error) = self.within(vacuum).await {
                    tracing::warn!(%error, "the space of what was erased is left to Postgres's own vacuum");
                }
                Ok(())
            }
        }
    }

    /// Waits for what is under way and closes the connections.
    pub async fn close(&self) {
        let _ = timeout(self.0.patience, self.0.pool.close()).await;
    }

    async fn migrate(&self, tables: &[Tables]) -> Result<(), Unfit> {
        let mut tx = self.begin().await?;
        if self.0.kind == Kind::Postgres {
            // Gateways that start together wait for the first of them. Any number of our own will do.
            tx.execute("SELECT pg_advisory_xact_lock(7311947)").await?;
            // Asked first: who may not make one may still use it.
            let there = tx.fetch_optional("SELECT 1 FROM pg_namespace WHERE nspname = 'sluice'").await?;
            if there.is_none() {
                tx.execute("CREATE SCHEMA sluice").await?;
            }
        }
        tx.execute(
            "CREATE TABLE IF NOT EXISTS sluice_tables (name TEXT PRIMARY KEY, version BIGINT NOT NULL)",
        )
        .await?;
        let mut found = Vec::new();
        for row in tx.fetch_all("SELECT name, version FROM sluice_tables").await? {
            found.push((row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?));
        }
        for (name, version) in &found {
            let known = tables.iter().find(|tables| tables.name == name);
            let known = known.map_or(0, |tables| tables.steps.len() as i64);
            if *version > known {
                return Err(Unfit::Newer(format!(
                    "the database was written by a newer Sluice: its tables of `{name}` are version {version}, \
                     this one knows {known}. Start the newer one, or give this one another database"
                )));
            }
        }
        for Tables { name, steps } in tables {
            let version = found.iter().find(|(found, _)| found == name).map_or(0, |(_, version)| *version);
            for step in steps.iter().skip(version as usize) {
                let statements = if self.0.kind == Kind::Postgres { step.postgres } else { step.sqlite };
                sqlx::raw_sql(statements).execute(&mut *tx).await?;
            }
            let set = "INSERT INTO sluice_tables (name, version) VALUES ($1, $2) \
                       ON CONFLICT (name) DO UPDATE SET version = excluded.version";
            if version < steps.len() as i64 {
                sqlx::query(set).bind(*name).bind(steps.len() as i64).execute(&mut *tx).await?;
                tracing::debug!(name, from = version, to = steps.len(), "tables brought up to date");
            }
        }
        Ok(tx.commit().await?)
    }
}

/// Why a database cannot be used.
enum Unfit {
    Newer(String),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Unfit {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// Whether an error says that the database is not there, and not that it refused this one thing.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => true,
        // Postgres: it goes down, comes up, or has no connection left.
        E::Database(error) => error.code().is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

/// Whether an error says that nothing can be written for now: its disk is full, fails, or may be read only.
fn takes_nothing(error: &sqlx::Error, kind: Kind) -> bool {
    match kind {
        // SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN.
        Kind::Memory | Kind::Sqlite => matches!(sqlite_code(error), Some(8 | 10 | 13 | 14)),
        Kind::Postgres => code(error).is_some_and(|code| matches!(&*code, "53100" | "25006")),
    }
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(DatabaseError::code)
}

/// SQLite's own code; what is above its first byte only says more of it.
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    Some(code(error)?.parse::<u32>().ok()? & 0xff)
}

/// Why a database cannot be used.
fn unfit(error: &sqlx::Error, kind: Kind, file: &Path) -> String {
    let why = reason(error);
    match (kind, sqlite_code(error)) {
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        (Kind::Sqlite, Some(11 | 26)) => {
            format!("`store.sqlite`: `{}` is no SQLite database, or is damaged: {why}", file.display())
        }
        (Kind::Sqlite, _) => format!("the database (sqlite, `{}`) cannot be used: {why}", file.display()),
        _ => format!("the database ({}) cannot be used: {why}", kind.name()),
    }
}

/// What went wrong, without an address or a password.
pub(super) fn reason(error: &sqlx::Error) -> String {
    use sqlx::Error as E;
    match error {
        E::Database(error) => match error.code() {
            Some(code) => format!("{} ({code})", error.message()),
            None => error.message().to_owned(),
        },
        E::Io(error) => error.to_string(),
        E::PoolTimedOut => "it does not answer in time".into(),
        // Its words could repeat the URL.
        E::Configuration(_) => "its URL is not understood".into(),
        error => error.to_string(),
    }
}
