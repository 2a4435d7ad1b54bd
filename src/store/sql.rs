//! One database, SQLite or Postgres, behind one way to ask it.
//!
//! Queries are written once, in the SQL that both understand: `$1` for what is
//! bound, and BIGINT, DOUBLE PRECISION and TEXT for what is kept (a truth is a
//! BIGINT, a time is microseconds since 1970). A mechanism brings its
//! [`Tables`]; they only ever grow by a step. Nothing here is on the way of a
//! request: what a request needs is in memory.
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    future::Future,
    io::{ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    postgres::PgConnectOptions,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Settings, settings::SQLITE};
use crate::{
    observe::Metrics,
    settings::{Secret, SecretFrom},
};

/// Connections to the SQLite file: one may write while another reads.
const SQLITE_CONNECTIONS: u32 = 2;

/// How long the start has at least, however short requests wait: a busy disk takes its time over new tables.
const START: Duration = Duration::from_secs(10);
/// How long the start waits before it knocks again at a server that is not there.
const AGAIN: Duration = Duration::from_millis(100);

/// What a database file begins with (SQLite's "Database File Format", 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
/// A database that is in no file.
const MEMORY: &str = "sqlite::memory:";

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
        if kind == Kind::Postgres {
            // The pool would say of every cause that its time is over.
            let reached = reach(&options, patience).await;
            reached.map_err(|why| format!("the database ({name}) cannot be used: {why}"))?;
        }
        let file = (kind == Kind::Sqlite).then(|| DbFile::of(&settings.sqlite)).transpose();
        let file = file.map_err(|error| format!("`store.sqlite`: {error}"))?;
        let this = Self(Arc::new(Shared {
            pool: pool.connect_lazy_with(options),
            kind,
            file,
            patience,
            is_up: AtomicBool::new(true),
            up: metrics.store_up.with_label_values(&["database"]),
        }));
        this.0.up.set(1);
        let migrated = timeout(start, this.migrate(tables)).await;
        migrated.map_err(|_| format!("the database ({name}) does not answer"))?.map_err(
            |error| match error {
                Unfit::Newer(why) => why,
                Unfit::Sql(error) => format!("the database ({name}) cannot be used: {}", reason(&error)),
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
        let away = match &done {
            Ok(_) => None,
            Err(error) => is_away(error).then(|| reason(error)),
        };
        let was_up = self.0.is_up.load(Ordering::Relaxed);
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
fn is_away(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => true,
        // Postgres: it goes down, comes up, or has no connection left.
        E::Database(error) => error.code().is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

/// What went wrong, without an address or a password.
fn reason(error: &sqlx::Error) -> String {
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

/// Connects once, by itself: a server that is just starting is waited for, and of one that
/// does not come the true cause is told.
async fn reach(options: &AnyConnectOptions, patience: Duration) -> Result<(), String> {
    let until = Instant::now() + patience;
    let mut why = None;
    loop {
        match timeout_at(until, AnyConnection::connect_with(options)).await {
            Ok(Ok(connection)) => {
                let _ = timeout_at(until, connection.close()).await;
                return Ok(());
            }
            Ok(Err(error)) if is_away(&error) && Instant::now() + AGAIN < until => {
                why = Some(reason(&error));
                sleep(AGAIN).await;
            }
            Ok(Err(error)) => return Err(reason(&error)),
            Err(_) => return Err(why.unwrap_or_else(|| "it does not answer".into())),
        }
    }
}

fn pool(settings: &Settings, kind: Kind, patience: Duration) -> AnyPoolOptions {
    sqlx::any::install_default_drivers();
    let most = match kind {
        Kind::Postgres => settings.connections,
        Kind::Sqlite => SQLITE_CONNECTIONS,
        // It is gone with its last connection.
        Kind::Memory => 1,
    };
    // Requests wait for no longer than `patience` in all: see `Sql::within`.
    let options = AnyPoolOptions::new().max_connections(most).acquire_timeout(patience.max(START));
    let options = if kind == Kind::Memory {
        options.min_connections(1).idle_timeout(None).max_lifetime(None)
    } else {
        options
    };
    // A file does not hang up: to ask it first is two hand-overs between threads for nothing.
    let options = options.test_before_acquire(kind == Kind::Postgres);
    let wait = patience.as_millis();
    let prepare = match kind {
        // Every commit is on the disk when it is said to be done, and what is deleted is overwritten. In pages of
        // this size a block of records takes half the writes; a file that is there keeps its own.
        Kind::Memory | Kind::Sqlite => format!(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 500; \
             PRAGMA synchronous = FULL; PRAGMA busy_timeout = {wait}; PRAGMA cache_size = -512; \
             PRAGMA secure_delete = ON"
        ),
        Kind::Postgres => format!("SET search_path TO sluice; SET statement_timeout = {wait}"),
    };
    let prepare: Arc<str> = prepare.into();
    options.after_connect(move |connection, _| {
        // Made of a number and fixed words.
        let prepare = sqlx::AssertSqlSafe(prepare.to_string());
        Box::pin(async move { sqlx::raw_sql(prepare).execute(connection).await.map(|_| ()) })
    })
}

/// Whether a secret holds the URL of a Postgres.
///
/// # Errors
/// What is wrong with it, in words that hold nothing of it.
pub fn check(from: &SecretFrom) -> Result<(), String> {
    postgres_url(from).map(drop)
}

fn postgres_url(from: &SecretFrom) -> Result<Secret, String> {
    let url = from.read()?;
    let named = ["postgres://", "postgresql://"].iter().any(|scheme| url.reveal().starts_with(scheme));
    // Read by both who will: the library's words could repeat it.
    let sound =
        url.reveal().parse::<AnyConnectOptions>().is_ok() && url.reveal().parse::<PgConnectOptions>().is_ok();
    let bad = || format!("the {from} holds no URL such as `postgres://user:password@host/database`");
    (named && sound).then_some(url).ok_or_else(bad)
}

/// The URL of the database. An SQLite file is made, for its owner alone.
fn place(settings: &Settings) -> Result<(String, Kind), String> {
    if let Some(from) = &settings.postgres {
        let url = postgres_url(from).map_err(|why| format!("`store.postgres`: {why}"))?;
        return Ok((url.reveal().to_owned(), Kind::Postgres));
    }
    if settings.sqlite == Path::new(":memory:") {
        return Ok((MEMORY.into(), Kind::Memory));
    }
    match made(&settings.sqlite) {
        Ok(()) => match is_database(&settings.sqlite) {
            Ok(true) => Ok((sqlite_url(&settings.sqlite), Kind::Sqlite)),
            Ok(false) => Err(format!(
                "`store.sqlite`: `{}` is no SQLite database, or is damaged",
                settings.sqlite.display()
            )),
            Err(error) => {
                Err(format!("`store.sqlite`: `{}` cannot be read: {error}", settings.sqlite.display()))
            }
        },
        Err(error) if settings.sqlite == Path::new(SQLITE) => {
            tracing::warn!(
                "`{SQLITE}` cannot be made ({error}): keys and spending are kept in memory and lost at the end; \
                 `store.sqlite` names another place"
            );
            Ok((MEMORY.into(), Kind::Memory))
        }
        Err(error) => Err(format!("`store.sqlite`: `{}` cannot be made: {error}", settings.sqlite.display())),
    }
}

fn made(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    // SQLite's own files beside it take over its mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(|_| ())
}

/// Whether a file is a database, or nothing yet. The pool would try another one until its time is over.
fn is_database(path: &Path) -> std::io::Result<bool> {
    let mut begin = Vec::with_capacity(MAGIC.len());
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin.is_empty() || begin == MAGIC)
}

fn sqlite_url(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes();
    let path: String = bytes
        .iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("sqlite:{path}?mode=rw")
}
