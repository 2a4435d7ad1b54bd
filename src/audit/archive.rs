//! The records in the database: blocks of some hundred, each a row.
//!
//! A row for each record would cost more than all the rest of the audit: four
//! times as much for its own work, and as much again for an index over ids. A
//! block is written once, as the bytes that are in the journal. Beside it
//! stand eight bytes of a hash of each request's id, which is all that looking
//! for one has to read.
use std::{sync::Arc, time::Duration};

use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use super::{
    chain::{Hash, Key, digest},
    frame::{self, Frame, UserRef, frames},
    journal::Head,
};
use crate::store::sql::{Failed, Kind, Sql, Step, Tables};

/// The tables.
pub const TABLES: Tables = Tables {
    name: "audit",
    steps: &[Step {
        sqlite: "CREATE TABLE audit_chains (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, key TEXT NOT NULL); \
            CREATE TABLE audit_blocks (chain BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, \
            ended BIGINT NOT NULL, frames BLOB NOT NULL, PRIMARY KEY (chain, first)); \
            CREATE TABLE audit_ids (chain BIGINT NOT NULL, first BIGINT NOT NULL, began BIGINT NOT NULL, \
            ended BIGINT NOT NULL, ids BLOB NOT NULL, PRIMARY KEY (chain, first)); \
            CREATE INDEX audit_ids_ended ON audit_ids (ended); \
            CREATE TABLE audit_erasures (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, usr TEXT NOT NULL, \
            until BIGINT NOT NULL, done BIGINT NOT NULL)",
        postgres: "CREATE TABLE audit_chains (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
            name TEXT NOT NULL UNIQUE, key TEXT NOT NULL); \
            CREATE TABLE audit_blocks (chain BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, \
            ended BIGINT NOT NULL, frames BYTEA NOT NULL, PRIMARY KEY (chain, first)); \
            CREATE TABLE audit_ids (chain BIGINT NOT NULL, first BIGINT NOT NULL, began BIGINT NOT NULL, \
            ended BIGINT NOT NULL, ids BYTEA NOT NULL, PRIMARY KEY (chain, first)); \
            CREATE INDEX audit_ids_ended ON audit_ids (ended); \
            CREATE TABLE audit_erasures (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, usr TEXT NOT NULL, \
            until BIGINT NOT NULL, done BIGINT NOT NULL)",
    }],
};

/// Records of a block.
pub(super) const MOST_RECORDS: usize = 256;
/// Bytes of a block, unless one record alone has more.
pub(super) const MOST_BYTES: usize = 512 << 10;
/// Blocks that are removed at a time.
const REMOVED_AT_ONCE: i64 = 32;
/// Rows that are read at a time.
const PAGE: i64 = 500;

/// The records in the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    pub(super) sql: Sql,
    pub(super) key: Arc<Key>,
}

/// Records one after the other, as they are in the journal.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the first of them ended, in microseconds since 1970.
    pub(super) began: i64,
    /// When the last of them did.
    pub(super) ended: i64,
    /// The link of the last of them.
    pub(super) hash: Hash,
    count: usize,
    pub(super) frames: Vec<u8>,
    pub(super) ids: Vec<u8>,
}

impl Block {
    /// Adds a record, whose bytes are `bytes`. Tells whether there was room.
    pub(super) fn add(&mut self, frame: &Frame<'_>, bytes: &[u8]) -> bool {
        if self.count > 0 && (self.count >= MOST_RECORDS || self.frames.len() + bytes.len() > MOST_BYTES) {
            return false;
        }
        self.take(frame, bytes);
        true
    }

    /// The same, whether there is room or not.
    pub(super) fn take(&mut self, frame: &Frame<'_>, bytes: &[u8]) {
        if self.count == 0 {
            (self.first, self.began) = (frame.seq, frame.at);
        }
        self.count += 1;
        (self.last, self.hash) = (frame.seq, frame.hash);
        self.began = self.began.min(frame.at);
        self.ended = self.ended.max(frame.at);
        self.frames.extend_from_slice(bytes);
        self.ids.extend_from_slice(&short(frame.request));
    }

    /// Without the records up to a number.
    pub(super) fn after(self, there: u64) -> Self {
        if self.first > there {
            return self;
        }
        let mut rest = Self::default();
        let mut bytes = &self.frames[..];
        while let Some((frame, length)) = Frame::read(bytes) {
            if frame.seq > there {
                rest.add(&frame, &bytes[..length]);
            }
            bytes = &bytes[length..];
        }
        rest
    }
}

/// Eight bytes that stand for a request's id.
fn short(request: &str) -> [u8; 8] {
    let hash = digest(&[request.as_bytes()]);
    let mut short = [0; 8];
    short.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    short
}

/// A chain in the database.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its number there.
    pub id: i64,
    /// Its name.
    pub name: Uuid,
    /// The name of the key that it was made with.
    pub key: String,
}

/// A record that was found.
#[derive(Debug)]
pub struct Found {
    /// The record, as JSON.
    pub json: Vec<u8>,
    /// Its tenant.
    pub tenant: String,
    /// Whose it is; zeros where nobody was named.
    pub user: UserRef,
    /// Its number in its chain.
    pub seq: u64,
    /// Its link.
    pub hash: Hash,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Whether it is of a call, and not of a reply that was given once more.
    first: bool,
}

impl Archive {
    /// The database.
    pub fn sql(&self) -> &Sql {
        &self.sql
    }

    /// The records in `sql`, linked with `key`.
    pub fn new(sql: Sql, key: Arc<Key>) -> Self {
        Self { sql, key }
    }

    /// The key that records are linked with.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether records outlive the process there.
    pub(super) fn is_lasting(&self) -> bool {
        self.sql.kind() != Kind::Memory
    }

    /// All chains.
    pub async fn chains(&self) -> Result<Vec<Chain>, Failed> {
        let query = sqlx::query("SELECT id, name, key FROM audit_chains ORDER BY id");
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await?;
        let mut chains = Vec::new();
        for row in rows {
            let name: String = row.try_get(1)?;
            if let Ok(name) = name.parse() {
                chains.push(Chain { id: row.try_get(0)?, name, key: row.try_get(2)? });
            }
        }
        Ok(chains)
    }

    /// A chain's number, made where there is none.
    pub(super) async fn number(&self, chain: Uuid) -> Result<i64, Failed> {
        let name = chain.to_string();
        let add = "INSERT INTO audit_chains (name, key) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        let add = sqlx::query(add).bind(&*name).bind(self.key.name());
        self.sql.within(add.execute(self.sql.pool())).await?;
        let find = sqlx::query("SELECT id FROM audit_chains WHERE name = $1").bind(&*name);
        let row = self.sql.within(find.fetch_one(self.sql.pool())).await?;
        Ok(row.try_get(0)?)
    }

    /// Where a chain ends in the database.
    pub(super) async fn end(&self, chain: i64) -> Result<Head, Failed> {
        let query = "SELECT frames FROM audit_blocks WHERE chain = $1 ORDER BY first DESC LIMIT 1";
        let query = sqlx::query(query).bind(chain);
        let row = self.sql.within(query.fetch_optional(self.sql.pool())).await?;
        let Some(row) = row else { return Ok(Head::default()) };
        let bytes: Vec<u8> = row.try_get(0)?;
        let last = frames(&bytes).last();
        Ok(last.map(|(_, frame)| Head { seq: frame.seq, hash: frame.hash }).unwrap_or_default())
    }

    /// The first record of a chain in the database, as its first block says.
    pub(super) async fn first(&self, chain: i64) -> Result<Option<u64>, Failed> {
        let query = "SELECT first FROM audit_blocks WHERE chain = $1 ORDER BY first LIMIT 1";
        let query = sqlx::query(query).bind(chain);
        let row = self.sql.within(query.fetch_optional(self.sql.pool())).await?;
        row.map(|row| row.try_get::<i64, _>(0).map(|first| first as u64)).transpose().map_err(Failed::from)
    }

    /// Adds blocks to a chain, all or none. What is there already stays, and only what follows it is added: a database
    /// that did not answer in time may have taken what it was given, and by now there may be more.
    pub(super) async fn add(&self, chain: i64, blocks: Vec<Block>) -> Result<(), Failed> {
        let work = async {
            let mut tx = self.sql.begin().await?;
            for block in blocks {
                let mut rest = Some(block);
                while let Some(block) = rest.take() {
                    if insert(&mut tx, chain, &block).await? {
                        break;
                    }
                    let query = "SELECT last FROM audit_blocks WHERE chain = $1 AND first = $2";
                    let query = sqlx::query(query).bind(chain).bind(block.first as i64);
                    let last = query.fetch_one(&mut *tx).await?.try_get::<i64, _>(0)? as u64;
                    let there = last.max(block.first);
                    rest = (there < block.last).then(|| block.after(there));
                }
            }
            tx.commit().await
        };
        self.sql.within(work).await
    }

    /// The block of a chain that begins after the record `after`: its first number, and its bytes.
    pub(super) async fn next(&self, chain: i64, after: u64) -> Result<Option<(u64, Vec<u8>)>, Failed> {
        let query =
            "SELECT first, frames FROM audit_blocks WHERE chain = $1 AND first > $2 ORDER BY first LIMIT 1";
        let query = sqlx::query(query).bind(chain).bind(after as i64);
        let row = self.sql.within(query.fetch_optional(self.sql.pool())).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some((row.try_get::<i64, _>(0)? as u64, row.try_get(1)?)))
    }

    /// Puts other bytes into a block, where it has those that were read. Tells whether it had.
    pub(super) async fn put(
        &self,
        chain: i64,
        first: u64,
        read: &[u8],
        bytes: &[u8],
    ) -> Result<bool, Failed> {
        let query = "UPDATE audit_blocks SET frames = $4 WHERE chain = $1 AND first = $2 AND frames = $3";
        let query = sqlx::query(query).bind(chain).bind(first as i64).bind(read).bind(bytes);
        let done = self.sql.within(query.execute(self.sql.pool())).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The last block of a chain whose records all ended before a moment: its last record.
    pub(super) async fn ended_before(&self, chain: i64, moment: i64) -> Result<Option<Head>, Failed> {
        let query =
            "SELECT frames FROM audit_blocks WHERE chain = $1 AND ended < $2 ORDER BY first DESC LIMIT 1";
        let query = sqlx::query(query).bind(chain).bind(moment);
        let row = self.sql.within(query.fetch_optional(self.sql.pool())).await?;
        let Some(row) = row else { return Ok(None) };
        let bytes: Vec<u8> = row.try_get(0)?;
        Ok(frames(&bytes).last().map(|(_, frame)| Head { seq: frame.seq, hash: frame.hash }))
    }

    /// Removes the blocks of a chain up to a record, some at a time: years of records would take longer than the database
    /// is waited for, each time anew.
    pub(super) async fn remove(&self, chain: i64, through: u64) -> Result<(), Failed> {
        loop {
            let next = "SELECT first FROM audit_blocks WHERE chain = $1 AND last <= $2 ORDER BY first LIMIT 1 OFFSET $3";
            let next = sqlx::query(next).bind(chain).bind(through as i64).bind(REMOVED_AT_ONCE);
            let next = self.sql.within(next.fetch_optional(self.sql.pool())).await?;
            let next = next.map(|row| row.try_get::<i64, _>(0)).transpose()?;
            let most = next.map_or(through as i64, |first| first - 1);
            let work = async {
                let mut tx = self.sql.begin().await?;
                let ids = "DELETE FROM audit_ids WHERE chain = $1 AND first <= $2";
                sqlx::query(ids).bind(chain).bind(most).execute(&mut *tx).await?;
                let blocks = "DELETE FROM audit_blocks WHERE chain = $1 AND last <= $2 AND first <= $3";
                let blocks = sqlx::query(blocks).bind(chain).bind(through as i64).bind(most);
                blocks.execute(&mut *tx).await?;
                tx.commit().await
            };
            self.sql.within(work).await?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// The newest record of a request, of those whose tenant `sees` allows.
    pub async fn find(&self, request: &str, sees: impl Fn(&str) -> bool) -> Result<Option<Found>, Failed> {
        let wanted = short(request);
        // The gateway's own ids tell when they were made.
        if let Some(made) = moment(request) {
            let window = (made - MINUTE, made + 60 * MINUTE);
            let query = "SELECT chain, first, ids FROM audit_ids WHERE ended >= $1 AND began <= $2 ORDER BY ended LIMIT $3";
            let query = sqlx::query(query).bind(window.0).bind(window.1).bind(PAGE);
            let rows = self.sql.within(query.fetch_all(self.sql.pool())).await?;
            let mut newest = None;
            for row in rows {
                let (chain, first, ids): (i64, i64, Vec<u8>) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                if has(&ids, wanted) {
                    newest = newer(newest, self.within(chain, first, request, &sees).await?);
                }
            }
            if newest.is_some() {
                return Ok(newest);
            }
        }
        let mut newest = None;
        for chain in self.chains().await? {
            newest = newer(newest, self.search(chain.id, wanted, request, &sees).await?);
        }
        Ok(newest)
    }

    /// Looks through a whole chain, newest first.
    async fn search(
        &self,
        chain: i64,
        wanted: [u8; 8],
        request: &str,
        sees: &impl Fn(&str) -> bool,
    ) -> Result<Option<Found>, Failed> {
        let mut before = i64::MAX;
        loop {
            let query = "SELECT first, ids FROM audit_ids WHERE chain = $1 AND first < $2 ORDER BY first DESC LIMIT $3";
            let query = sqlx::query(query).bind(chain).bind(before).bind(PAGE);
            let rows = self.sql.within(query.fetch_all(self.sql.pool())).await?;
            let Some(last) = rows.last() else { return Ok(None) };
            before = last.try_get(0)?;
            for row in &rows {
                let (first, ids): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
                if has(&ids, wanted)
                    && let Some(found) = self.within(chain, first, request, sees).await?
                {
                    return Ok(Some(found));
                }
            }
        }
    }

    /// The last record of a request within a block.
    async fn within(
        &self,
        chain: i64,
        first: i64,
        request: &str,
        sees: &impl Fn(&str) -> bool,
    ) -> Result<Option<Found>, Failed> {
        let query = sqlx::query("SELECT frames FROM audit_blocks WHERE chain = $1 AND first = $2");
        let query = query.bind(chain).bind(first);
        let row = self.sql.within(query.fetch_optional(self.sql.pool())).await?;
        let Some(row) = row else { return Ok(None) };
        let bytes: Vec<u8> = row.try_get(0)?;
        let fits = |frame: &Frame<'_>| frame.request == request && sees(frame.tenant);
        // Of equals the last: the newest, but what was given once more is not what became of the call.
        let found = frames(&bytes).map(|(_, frame)| frame).filter(fits);
        let found = found.max_by_key(|frame| frame.kind != frame::Kind::Replay);
        Ok(found.map(|frame| Found {
            first: frame.kind != frame::Kind::Replay,
            json: frame.json(),
            tenant: frame.tenant.to_owned(),
            user: frame.user,
            seq: frame.seq,
            hash: frame.hash,
            at: frame.at,
        }))
    }

    /// Takes what was overwritten out of the database's files, as far as it lets us.
    pub(super) async fn scrub(&self) -> Result<(), Failed> {
        match self.sql.kind() {
            Kind::Memory => Ok(()),
            Kind::Sqlite => self.empty_log().await,
            Kind::Postgres => self.sql.scrub("audit_blocks").await,
        }
    }

    /// Empties SQLite's log in front of its file. In the file itself freed bytes are zeros already (see `store/sql.rs`).
    async fn empty_log(&self) -> Result<(), Failed> {
        for _ in 0..SCRUBS {
            let query = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            let row = self.sql.within(query.fetch_one(self.sql.pool())).await?;
            if row.try_get::<i64, _>(0)? == 0 {
                return Ok(());
            }
            // Somebody reads what is in it.
            tokio::time::sleep(BUSY).await;
        }
        Err(Failed::Late)
    }
}

/// Adds a block and its ids; tells whether there was none that begins with the same record.
async fn insert(tx: &mut Transaction<'_, Any>, chain: i64, block: &Block) -> Result<bool, sqlx::Error> {
    let (first, last) = (block.first as i64, block.last as i64);
    let add = "INSERT INTO audit_blocks (chain, first, last, ended, frames) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (chain, first) DO NOTHING";
    let add = sqlx::query(add).bind(chain).bind(first).bind(last).bind(block.ended);
    if add.bind(&block.frames[..]).execute(&mut **tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let add = "INSERT INTO audit_ids (chain, first, began, ended, ids) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (chain, first) DO NOTHING";
    let add = sqlx::query(add).bind(chain).bind(first).bind(block.began).bind(block.ended);
    add.bind(&block.ids[..]).execute(&mut **tx).await?;
    Ok(true)
}

/// How often it is tried to empty SQLite's log, and how long each try waits for the one before.
const SCRUBS: u32 = 40;
const BUSY: Duration = Duration::from_millis(50);

const MINUTE: i64 = 60_000_000;

fn has(ids: &[u8], wanted: [u8; 8]) -> bool {
    ids.chunks_exact(8).any(|id| id == wanted)
}

fn newer(one: Option<Found>, two: Option<Found>) -> Option<Found> {
    [one, two].into_iter().flatten().max_by_key(|found| (found.first, found.at))
}

/// When an id was made, in microseconds since 1970, if it is a UUIDv7.
fn moment(request: &str) -> Option<i64> {
    let uuid: Uuid = request.parse().ok()?;
    let (seconds, nanos) = uuid.get_timestamp().filter(|_| uuid.get_version_num() == 7)?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::Metrics, store};

    /// The records from one number to another.
    fn block(from: u64, to: u64) -> Block {
        let mut block = Block::default();
        for seq in from..=to {
            let frame = Frame {
                kind: frame::Kind::Call,
                seq,
                at: seq as i64,
                user: [0; 16],
                tenant: "t",
                request: "r",
                meta: b"{",
                content: None,
                content_hash: [0; 32],
                hash: [seq as u8; 32],
            };
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            block.take(&frame, &bytes);
        }
        block
    }

    #[tokio::test]
    async fn what_a_late_database_took_after_all_is_not_taken_for_more() {
        let folder = tempfile::tempdir().unwrap();
        let stores = store::Settings { sqlite: folder.path().join("db"), ..store::Settings::default() };
        let sql = Sql::open(&stores, &[TABLES], &Metrics::new().unwrap()).await.unwrap();
        let archive = Archive::new(sql.clone(), Arc::new(Key::new(b"k")));
        let chain = archive.number(Uuid::new_v4()).await.unwrap();
        archive.add(chain, vec![block(1, 3)]).await.unwrap();
        archive.add(chain, vec![block(4, 5), block(6, 6)]).await.unwrap();
        // As who did not hear of it gives it again: by now more has been written behind it.
        archive.add(chain, vec![block(4, 9)]).await.unwrap();
        let (mut after, mut seen) = (0, Vec::new());
        while let Some(stored) = archive.stored(chain, after).await.unwrap() {
            assert_eq!(stored.fault(), None);
            after = stored.first();
            seen.extend(frames(&stored.frames).map(|(_, frame)| frame.seq));
        }
        assert_eq!(seen, (1..=9).collect::<Vec<_>>());
        assert_eq!(archive.end(chain).await.unwrap(), Head { seq: 9, hash: [9; 32] });
        // A row that says nonsense is found by who checks, and does not stop others.
        sqlx::query("UPDATE audit_blocks SET last = 0 WHERE first = 7").execute(sql.pool()).await.unwrap();
        archive.add(chain, vec![block(7, 12)]).await.unwrap();
        sql.close().await;
    }
}
