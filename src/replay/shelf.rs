//! Replies in the database, so that they outlive the process.
//!
//! It is read once, at the start; from then on replies are in memory, and what
//! is kept or forgotten there is written down in batches.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt;
use sqlx::Row as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::kept::{Name, Owner, Person, Print, now};
use crate::store::sql::{Failed, Sql, Step, Tables};

/// The table. Times are microseconds since 1970.
pub const TABLES: Tables = Tables {
    name: "idempotency",
    steps: &[
        Step::both(
            "CREATE TABLE idempotency (name TEXT PRIMARY KEY, print TEXT NOT NULL, ends BIGINT NOT NULL, \
             reply TEXT NOT NULL); CREATE INDEX idempotency_ends ON idempotency (ends)",
        ),
        // What was there was sealed without the pepper, under names that are made otherwise now.
        Step::both(
            "DELETE FROM idempotency; ALTER TABLE idempotency ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        ),
        Step::both("ALTER TABLE idempotency ADD COLUMN person TEXT NOT NULL DEFAULT ''"),
    ],
};

/// Rows on their way.
const QUEUE: usize = 1024;
/// Rows that are written as one.
const BATCH: usize = 256;
/// How long a reply is held back for the database.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long an erasure waits for the database.
const ERASED: Duration = Duration::from_secs(5);
/// So many replies in a row that were held back in vain mean that the database is away.
const TOO_LATE: u32 = 3;
/// How soon what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The most that waits for the database, in bytes.
const MOST_BYTES: usize = 32 << 20;
/// How often what has had its time is deleted.
const TIDY: Duration = Duration::from_secs(300);

/// A way to the table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shelf {
    changes: mpsc::Sender<Change>,
    state: Arc<State>,
}

/// How the database does.
#[derive(Debug, Default)]
struct State {
    /// What is on its way to it, in bytes.
    bytes: AtomicUsize,
    /// How many replies in a row were held back for it in vain.
    late: AtomicU32,
}

/// A reply as it is written down.
#[derive(Debug)]
pub struct Row {
    /// What it is kept under.
    pub name: Name,
    /// The request that it answers.
    pub print: Print,
    /// The tenant that it belongs to.
    pub owner: Owner,
    /// Whose question it answers, where somebody was named.
    pub person: Option<Person>,
    /// How long it is kept, in microseconds since 1970.
    pub ends: i64,
    /// The reply itself.
    pub sealed: Vec<u8>,
}

#[derive(Debug)]
enum Change {
    Put(Row, oneshot::Sender<()>),
    Forget(Name),
    Erase(Person, oneshot::Sender<()>),
}

impl Change {
    fn size(&self) -> usize {
        match self {
            Self::Put(row, _) => row.sealed.len(),
            Self::Forget(_) | Self::Erase(..) => 0,
        }
    }
}

impl Shelf {
    /// Reads what is there, up to `max_bytes`, and writes from now on. Oldest first; where there
    /// is more, every tenant's newest are taken, to even shares.
    pub async fn open(sql: Sql, max_bytes: usize) -> (Self, Vec<Row>) {
        let rows = match sql.within(read(&sql, max_bytes)).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "kept replies cannot be read: repeats are answered anew");
                Vec::new()
            }
        };
        let (changes, receiver) = mpsc::channel(QUEUE);
        let this = Self { changes, state: Arc::default() };
        tokio::spawn(write(sql, receiver, this.state.clone()));
        (this, rows)
    }

    /// Writes a reply down. Tells whether it is on the disk; waits for that, but not for long, and
    /// not at all while the database is known to be away: then it is written when that is back.
    pub async fn put(&self, row: Row) -> bool {
        let State { bytes, late } = &*self.state;
        let size = row.sealed.len();
        if bytes.fetch_add(size, Relaxed) + size > MOST_BYTES {
            bytes.fetch_sub(size, Relaxed);
            return false;
        }
        let (done, written) = oneshot::channel();
        if self.changes.try_send(Change::Put(row, done)).is_err() {
            bytes.fetch_sub(size, Relaxed);
            return false;
        }
        if late.load(Relaxed) >= TOO_LATE {
            return false;
        }
        if let Ok(written) = timeout(PATIENCE, written).await {
            return written.is_ok();
        }
        if late.fetch_add(1, Relaxed) + 1 == TOO_LATE {
            tracing::warn!("the database takes too long: replies are kept in memory, and written later");
        }
        false
    }

    /// Deletes a reply. What is not deleted now is when its time is over.
    pub fn forget(&self, name: Name) {
        let _ = self.changes.try_send(Change::Forget(name));
    }

    /// Deletes all that is kept for a person, what is on its way included. Tells whether that is done.
    pub async fn erase(&self, person: Person) -> bool {
        let (done, erased) = oneshot::channel();
        let sent = self.changes.send_timeout(Change::Erase(person, done), ERASED).await.is_ok();
        sent && matches!(timeout(ERASED, erased).await, Ok(Ok(())))
    }
}

async fn read(sql: &Sql, max_bytes: usize) -> Result<Vec<Row>, sqlx::Error> {
    // The sum of a tenant's newer ones and of a row itself: in this order all tenants fill up evenly.
    let query = "SELECT name, print, ends, owner, reply, person FROM (SELECT name, print, ends, owner, reply, person, \
                 SUM(LENGTH(reply)) OVER (PARTITION BY owner ORDER BY ends DESC, name) AS upto \
                 FROM idempotency WHERE ends > $1) AS kept ORDER BY upto";
    let mut found = sqlx::query(query).bind(now()).fetch(sql.pool());
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.try_next().await? {
        let text = |column: usize| row.try_get::<String, _>(column);
        let (name, print) = (Name::from_hex(&text(0)?), Print::from_hex(&text(1)?));
        let (owner, sealed) = (Owner::from_hex(&text(3)?), STANDARD.decode(text(4)?));
        let (Some(name), Some(print), Some(owner), Ok(sealed)) = (name, print, owner, sealed) else {
            continue;
        };
        bytes += sealed.len();
        if bytes > max_bytes {
            break;
        }
        let person = Person::from_hex(&text(5)?);
        rows.push(Row { name, print, owner, person, ends: row.try_get(2)?, sealed });
    }
    rows.sort_by_key(|row| row.ends);
    Ok(rows)
}

async fn write(sql: Sql, mut changes: mpsc::Receiver<Change>, state: Arc<State>) {
    let mut batch = Vec::new();
    let mut tidied: Option<Instant> = None;
    while !batch.is_empty() || changes.recv_many(&mut batch, BATCH).await > 0 {
        let tidy = tidied.is_none_or(|at| at.elapsed() > TIDY);
        let written = sql.within(commit(&sql, &batch, tidy)).await;
        match written {
            Ok(()) => {
                state.late.store(0, Relaxed);
                if tidy {
                    tidied = Some(Instant::now());
                }
            }
            // Written twice is written once.
            Err(Failed::Late) => {
                sleep(AGAIN).await;
                continue;
            }
            Err(_) if !sql.is_up() => {
                sleep(AGAIN).await;
                continue;
            }
            // Dropped, it tells who waits that it is not written.
            Err(error) => {
                tracing::warn!(%error, rows = batch.len(), "replies are kept in memory only");
                state.bytes.fetch_sub(batch.iter().map(Change::size).sum(), Relaxed);
                batch.clear();
            }
        }
        for change in batch.drain(..) {
            state.bytes.fetch_sub(change.size(), Relaxed);
            if let Change::Put(_, done) | Change::Erase(_, done) = change {
                let _ = done.send(());
            }
        }
    }
}

async fn commit(sql: &Sql, batch: &[Change], tidy: bool) -> Result<(), sqlx::Error> {
    let put = "INSERT INTO idempotency (name, print, ends, owner, reply, person) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (name) DO UPDATE SET print = excluded.print, ends = excluded.ends, \
               owner = excluded.owner, reply = excluded.reply, person = excluded.person";
    let mut tx = sql.begin().await?;
    if tidy {
        sqlx::query("DELETE FROM idempotency WHERE ends <= $1").bind(now()).execute(&mut *tx).await?;
    }
    for change in batch {
        match change {
            Change::Put(row, _) => {
                let query = sqlx::query(put).bind(row.name.hex()).bind(row.print.hex()).bind(row.ends);
                let query = query.bind(row.owner.hex()).bind(STANDARD.encode(&row.sealed));
                let query = query.bind(row.person.map_or_else(String::new, Person::hex));
                query.execute(&mut *tx).await?;
            }
            Change::Erase(person, _) => {
                let query = sqlx::query("DELETE FROM idempotency WHERE person = $1").bind(person.hex());
                query.execute(&mut *tx).await?;
            }
            Change::Forget(name) => {
                let query = sqlx::query("DELETE FROM idempotency WHERE name = $1").bind(name.hex());
                query.execute(&mut *tx).await?;
            }
        }
    }
    tx.commit().await
}
