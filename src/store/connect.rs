//! How the database is connected to.
use std::{sync::Arc, time::Duration};

use sqlx::{
    AnyConnection, Connection,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Settings,
    sql::{Kind, START, is_away, sqlite_code},
};

/// Connections to the SQLite file: one may write while another reads.
const SQLITE_CONNECTIONS: u32 = 2;
/// How long the start waits before it knocks again at a server that is not there.
const AGAIN: Duration = Duration::from_millis(100);

/// Connects once, by itself: a server that is just starting is waited for, as is a file that somebody has locked; of
/// what does not come the true cause is told. The pool would say of every cause that its time is over.
pub(super) async fn reach(
    options: &AnyConnectOptions,
    kind: Kind,
    patience: Duration,
) -> Result<(), sqlx::Error> {
    let until = Instant::now() + if kind == Kind::Postgres { patience } else { patience.max(START) };
    let mut why = None;
    loop {
        let connected = async {
            let mut connection = AnyConnection::connect_with(options).await?;
            prepared(&mut connection, &words(kind, patience)).await?;
            Ok(connection)
        };
        match timeout_at(until, connected).await {
            Ok(Ok(connection)) => {
                let _ = timeout_at(until, connection.close()).await;
                return Ok(());
            }
            Ok(Err(error))
                if (is_away(&error) || is_locked(&error, kind)) && Instant::now() + AGAIN < until =>
            {
                why = Some(error);
                sleep(AGAIN).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(why.unwrap_or(sqlx::Error::PoolTimedOut)),
        }
    }
}

/// The connections.
pub(super) fn pool(settings: &Settings, kind: Kind, patience: Duration) -> AnyPoolOptions {
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
    // Where SQLite ends a transaction by itself, on a full disk for one, the library goes on counting it: all that
    // would begin there afterwards is refused. A database in memory has no disk, and is gone with its connection.
    let options = if kind == Kind::Memory {
        options
    } else {
        options.before_acquire(|connection, _| {
            let is_free = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_free) })
        })
    };
    let words: Arc<str> = words(kind, patience).into();
    options.after_connect(move |connection, _| {
        let words = words.clone();
        Box::pin(async move { prepared(connection, &words).await })
    })
}

/// Makes a connection ready for use.
async fn prepared(connection: &mut AnyConnection, words: &str) -> Result<(), sqlx::Error> {
    // Made of a number and fixed words.
    let words = sqlx::AssertSqlSafe(words.to_owned());
    sqlx::raw_sql(words).execute(connection).await.map(drop)
}

/// What a connection is told first.
fn words(kind: Kind, patience: Duration) -> String {
    let wait = patience.as_millis();
    match kind {
        // Every commit is on the disk when it is said to be done, and what is deleted is overwritten. In pages of
        // this size a block of records takes half the writes; a file that is there keeps its own.
        Kind::Memory | Kind::Sqlite => format!(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 500; \
             PRAGMA synchronous = FULL; PRAGMA busy_timeout = {wait}; PRAGMA cache_size = -512; \
             PRAGMA secure_delete = ON"
        ),
        Kind::Postgres => format!("SET search_path TO sluice; SET statement_timeout = {wait}"),
    }
}

/// Whether somebody else holds an SQLite file (`SQLITE_BUSY`, `SQLITE_LOCKED`).
fn is_locked(error: &sqlx::Error, kind: Kind) -> bool {
    kind == Kind::Sqlite && matches!(sqlite_code(error), Some(5 | 6))
}
