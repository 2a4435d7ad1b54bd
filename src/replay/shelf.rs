//! Replies in the database, so that they outlive the process.
//!
//! It is read once, at the start; from then on replies are in memory, and what
//! is kept or forgotten there is written down in batches.
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt;
use sqlx::Row as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::kept::{Name, Print, now};
use crate::store::sql::{Failed, Sql, Step, Tables};

/// The table. Times are microseconds since 1970.
pub const TABLES: Tables = Tables {
    name: "idempotency",
    steps: &[Step::both(
        "CREATE TABLE idempotency (name TEXT PRIMARY KEY, print TEXT NOT NULL, ends BIGINT NOT NULL, \
         reply TEXT NOT NULL); CREATE INDEX idempotency_ends ON idempotency (ends)",
    )],
};

/// Rows on their way.
const QUEUE: usize = 1024;
/// Rows that are written as one.
const BATCH: usize = 256;
/// How long a reply is held back for the database.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often what has had its time is deleted.
const TIDY: Duration = Duration::from_secs(300);

/// A way to the table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shelf(mpsc::Sender<Change>);

/// A reply as it is written down.
#[derive(Debug)]
pub struct Row {
    /// What it is kept under.
    pub name: Name,
    /// The request that it answers.
    pub print: Print,
    /// How long it is kept, in microseconds since 1970.
    pub ends: i64,
    /// The reply itself.
    pub sealed: Vec<u8>,
}

enum Change {
    Put(Row, oneshot::Sender<()>),
    Forget(Name),
}

impl Shelf {
    /// Reads what is there, the newest first, up to `max_bytes`, and writes from now on.
    pub async fn open(sql: Sql, max_bytes: usize) -> (Self, Vec<Row>) {
        let rows = match sql.within(read(&sql, max_bytes)).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "kept replies cannot be read: repeats are answered anew");
                Vec::new()
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write(sql, receiver));
        (Self(sender), rows)
    }

    /// Writes a reply down. Tells whether it is on the disk; waits for that, but not for long.
    pub async fn put(&self, row: Row) -> bool {
        let (done, written) = oneshot::channel();
        let sent = self.0.try_send(Change::Put(row, done)).is_ok();
        sent && matches!(timeout(PATIENCE, written).await, Ok(Ok(())))
    }

    /// Deletes a reply. What is not deleted now is when its time is over.
    pub fn forget(&self, name: Name) {
        let _ = self.0.try_send(Change::Forget(name));
    }
}

async fn read(sql: &Sql, max_bytes: usize) -> Result<Vec<Row>, sqlx::Error> {
    let query = "SELECT name, print, ends, reply FROM idempotency WHERE ends > $1 ORDER BY ends DESC";
    let mut found = sqlx::query(query).bind(now()).fetch(sql.pool());
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.try_next().await? {
        let name = Name::from_hex(&row.try_get::<String, _>(0)?);
        let print = Print::from_hex(&row.try_get::<String, _>(1)?);
        let sealed = STANDARD.decode(row.try_get::<String, _>(3)?);
        let (Some(name), Some(print), Ok(sealed)) = (name, print, sealed) else { continue };
        bytes += sealed.len();
        if bytes > max_bytes {
            break;
        }
        rows.push(Row { name, print, ends: row.try_get(2)?, sealed });
    }
    Ok(rows)
}

async fn write(sql: Sql, mut changes: mpsc::Receiver<Change>) {
    let mut batch = Vec::new();
    let mut tidied: Option<Instant> = None;
    while changes.recv_many(&mut batch, BATCH).await > 0 {
        let tidy = tidied.is_none_or(|at| at.elapsed() > TIDY);
        match sql.within(commit(&sql, &batch, tidy)).await {
            Ok(()) => {
                if tidy {
                    tidied = Some(Instant::now());
                }
                for change in batch.drain(..) {
                    if let Change::Put(_, done) = change {
                        let _ = done.send(());
                    }
                }
            }
            // Dropped, it tells who waits that it is not written.
            Err(Failed::Late) => batch.clear(),
            Err(error) => {
                tracing::warn!(%error, rows = batch.len(), "replies are kept in memory only");
                batch.clear();
            }
        }
    }
}

async fn commit(sql: &Sql, batch: &[Change], tidy: bool) -> Result<(), sqlx::Error> {
    let put = "INSERT INTO idempotency (name, print, ends, reply) VALUES ($1, $2, $3, $4) ON CONFLICT (name) \
               DO UPDATE SET print = excluded.print, ends = excluded.ends, reply = excluded.reply";
    let mut tx = sql.begin().await?;
    if tidy {
        sqlx::query("DELETE FROM idempotency WHERE ends <= $1").bind(now()).execute(&mut *tx).await?;
    }
    for change in batch {
        match change {
            Change::Put(row, _) => {
                let query = sqlx::query(put).bind(row.name.hex()).bind(row.print.hex()).bind(row.ends);
                query.bind(STANDARD.encode(&row.sealed)).execute(&mut *tx).await?;
            }
            Change::Forget(name) => {
                let query = sqlx::query("DELETE FROM idempotency WHERE name = $1").bind(name.hex());
                query.execute(&mut *tx).await?;
            }
        }
    }
    tx.commit().await
}
