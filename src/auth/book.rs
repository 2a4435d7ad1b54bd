//! Keys that are made and revoked while the gateway runs.
//!
//! They are in the database, and all of them in memory: a request never asks
//! the database. Every change has a number; each gateway looks a few times a
//! second for changes with a higher one than it knows, so that a revoked key
//! is refused everywhere within a second.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use sqlx::{AnyConnection, Row, any::AnyRow};
use uuid::Uuid;

use super::{Grant, Pepper, settings::bytes};
use crate::{
    error::{Error, Result},
    store::sql::{Failed, Sql, Step, Tables},
};

/// How often a gateway looks for changes.
pub const LOOK: Duration = Duration::from_millis(400);
/// The most keys that are not revoked: all of them are in memory.
const MOST: usize = 100_000;
/// What ids begin with; 32 hexadecimal digits follow.
const ID: &str = "key-";
/// What the pepper is known by: hashed with it, and compared at the start.
const MARK: &[u8] = b"sluice pepper";

/// The tables of the keys. A grant is JSON; the state has one row.
pub const TABLES: Tables = Tables {
    name: "keys",
    steps: &[
        Step::both(
            "CREATE TABLE keys (
            id TEXT PRIMARY KEY,
            hash TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            tenant TEXT NOT NULL,
            granted TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            created_by TEXT NOT NULL,
            revoked_at BIGINT,
            version BIGINT NOT NULL
        );
        CREATE UNIQUE INDEX keys_by_name ON keys (tenant, name) WHERE revoked_at IS NULL;
        CREATE INDEX keys_by_version ON keys (version);
        CREATE TABLE key_state (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, pepper TEXT);
        INSERT INTO key_state (id, version) VALUES (1, 0)",
        ),
        Step::both("ALTER TABLE keys ADD COLUMN account TEXT"),
    ],
};

/// Queries are fixed words: what is looked for is bound.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT id, hash, name, tenant, granted, created_at, created_by, revoked_at, version, \
             account FROM keys ",
            $which
        )
    };
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What it is known by; it stays when the key is renamed, and is never used twice.
    pub id: Arc<str>,
    /// What its limits and its budget are counted under: its id, or, where it was made in the place of
    /// a revoked key of its name, what that one was counted under.
    pub account: Arc<str>,
    /// HMAC-SHA-256 of the key.
    pub hash: [u8; 32],
    /// Its name, for logs and records.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant: String,
    /// What it may do.
    pub grant: Grant,
    /// When it was made.
    pub created_at: Timestamp,
    /// The id of the key that made it.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// All keys that are not revoked.
#[derive(Debug, Default)]
pub struct Page {
    /// The number of the last change.
    pub version: i64,
    /// The keys, by their hash.
    pub keys: HashMap<[u8; 32], Arc<Stored>>,
}

/// The stored keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Book(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sql: Sql,
    pepper: Option<Arc<Pepper>>,
    page: ArcSwap<Page>,
    read_at: Mutex<Instant>,
    reading: tokio::sync::Mutex<()>,
}

impl Book {
    /// Reads all keys. Without a pepper none can be made. `of_records`: records are made with it, too.
    ///
    /// # Errors
    /// The keys were made with another pepper, or cannot be read; in words.
    pub async fn open(sql: &Sql, pepper: Option<Arc<Pepper>>, of_records: bool) -> Result<Self, String> {
        let this = Self(Arc::new(Inner {
            sql: sql.clone(),
            pepper,
            page: ArcSwap::default(),
            read_at: Mutex::new(Instant::now()),
            reading: tokio::sync::Mutex::new(()),
        }));
        this.refresh().await.map_err(|error| format!("the keys cannot be read: {error}"))?;
        this.try_pepper(of_records).await?;
        Ok(this)
    }

    /// What is known of the keys.
    pub fn page(&self) -> Arc<Page> {
        self.0.page.load_full()
    }

    /// What the keys are hashed with.
    pub fn pepper(&self) -> Option<&Arc<Pepper>> {
        self.0.pepper.as_ref()
    }

    /// How long ago the database was asked.
    pub fn age(&self) -> Duration {
        self.0.read_at.lock().elapsed()
    }

    /// Takes up what has changed.
    pub async fn refresh(&self) -> Result<(), Failed> {
        let inner = &*self.0;
        // Two at once could put an older page over a newer one.
        let _one = inner.reading.lock().await;
        let began = Instant::now();
        let known = inner.page.load_full();
        let changed = inner.sql.within(async {
            let state = sqlx::query("SELECT version FROM key_state WHERE id = 1");
            let version: i64 = state.fetch_one(inner.sql.pool()).await?.try_get(0)?;
            if version <= known.version {
                return Ok(None);
            }
            let changed = sqlx::query(select!("WHERE version > $1 ORDER BY version")).bind(known.version);
            Ok(Some((version, changed.fetch_all(inner.sql.pool()).await?)))
        });
        if let Some((version, changed)) = changed.await? {
            // A change that came to nothing has a number, too.
            let mut page = Page { version, keys: known.keys.clone() };
            for row in &changed {
                page.take(row)?;
            }
            inner.page.store(Arc::new(page));
        }
        *inner.read_at.lock() = began;
        Ok(())
    }

    /// Makes a key; gives back the key itself, which nobody can ask for again.
    pub async fn add(&self, name: &str, tenant: &str, grant: Grant, by: &str) -> Result<(String, Stored)> {
        let pepper = self.0.pepper.as_ref().ok_or_else(|| {
            Error::Conflict("keys can be made here only when `auth.pepper` is configured".into())
        })?;
        if self.page().keys.len() >= MOST {
            return Err(Error::Conflict(format!("there are {MOST} keys, more are not kept; revoke some")));
        }
        let key = super::make::key();
        let id: Arc<str> = format!("{ID}{}", Uuid::now_v7().simple()).into();
        let mut stored = Stored {
            account: id.clone(),
            id,
            hash: pepper.hash(key.as_bytes()),
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            grant,
            created_at: now(),
            created_by: by.to_owned(),
            revoked_at: None,
        };
        let added = self.write(async |tx, version| {
            // Who makes a key anew has no second budget with it.
            let before = "SELECT COALESCE(account, id) FROM keys WHERE tenant = $1 AND name = $2 \
                          AND revoked_at IS NOT NULL ORDER BY revoked_at DESC, id DESC LIMIT 1";
            let before = sqlx::query(before).bind(tenant).bind(name).fetch_optional(&mut *tx).await?;
            if let Some(before) = before {
                stored.account = before.try_get::<String, _>(0)?.into();
            }
            put(tx, &stored, version).await?;
            Ok(stored)
        });
        Ok((key, added.await?))
    }

    /// Changes a key that is not revoked. `change` gets it as it is now, and says how it is to be.
    pub async fn change(&self, id: &str, change: impl FnOnce(Stored) -> Result<Stored>) -> Result<Stored> {
        let changed = self.write(async |tx, version| {
            let found = sqlx::query(select!("WHERE id = $1")).bind(id).fetch_optional(&mut *tx).await?;
            let found = found.as_ref().map(stored).transpose()?;
            let changed = match found.ok_or_else(|| absent(id)).and_then(change) {
                Ok(changed) => changed,
                Err(refused) => return Ok(Err(refused)),
            };
            put(tx, &changed, version).await?;
            Ok(Ok(changed))
        });
        changed.await?
    }

    /// One key, revoked or not.
    pub async fn get(&self, id: &str) -> Result<Stored> {
        let sql = &self.0.sql;
        let found = sqlx::query(select!("WHERE id = $1")).bind(id).fetch_optional(sql.pool());
        let found = sql.within(found).await.map_err(away)?;
        let found = found.as_ref().map(stored).transpose().map_err(|error| away(error.into()))?;
        found.ok_or_else(|| absent(id))
    }

    /// Up to `most` keys after the one with the id `after`, oldest first: of one tenant or of all, revoked ones too.
    pub async fn list(&self, tenant: Option<&str>, after: &str, most: u32) -> Result<Vec<Stored>> {
        let sql = &self.0.sql;
        let rows = match tenant {
            Some(tenant) => sqlx::query(select!("WHERE id > $1 AND tenant = $3 ORDER BY id LIMIT $2"))
                .bind(after)
                .bind(i64::from(most))
                .bind(tenant)
                .fetch_all(sql.pool()),
            None => sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
                .bind(after)
                .bind(i64::from(most))
                .fetch_all(sql.pool()),
        };
        let rows = sql.within(rows).await.map_err(away)?;
        rows.iter().map(stored).collect::<Result<_, _>>().map_err(|error| away(error.into()))
    }

    /// One change: it has a number of its own, and no other is written beside it.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut AnyConnection, i64) -> Result<T, sqlx::Error>,
    ) -> Result<T> {
        let sql = &self.0.sql;
        let written = sql.within(async {
            let mut tx = sql.begin().await?;
            // Whoever changes something holds this row until it is done: numbers are seen in their order.
            let next = "UPDATE key_state SET version = version + 1 WHERE id = 1 RETURNING version";
            let version: i64 = sqlx::query(next).fetch_one(&mut *tx).await?.try_get(0)?;
            let done = work(&mut tx, version).await?;
            tx.commit().await?;
            Ok(done)
        });
        written.await.map_err(away)
    }

    /// Whether the database was used with a pepper before.
    ///
    /// # Errors
    /// It does not answer; in words.
    pub async fn knows_pepper(sql: &Sql) -> Result<bool, String> {
        let known = sql.within(async {
            let row =
                sqlx::query("SELECT pepper FROM key_state WHERE id = 1").fetch_optional(sql.pool()).await?;
            row.map_or(Ok(None), |row| row.try_get::<Option<String>, _>(0))
        });
        known.await.map(|known| known.is_some()).map_err(|error| error.to_string())
    }

    /// Whether the keys, and where records stand on it those, were made with this pepper.
    async fn try_pepper(&self, of_records: bool) -> Result<(), String> {
        let Inner { sql, pepper, .. } = &*self.0;
        let is_unused = self.page().keys.is_empty();
        let Some(pepper) = pepper else {
            return match is_unused {
                true => {
                    tracing::warn!("no key can be made at run time: with Postgres, `auth.pepper` must be configured");
                    Ok(())
                }
                false => Err("there are keys in the database; `auth.pepper`, which they were made with, is not configured".into()),
            };
        };
        let mark = Pepper::hex(&pepper.hash(MARK));
        let replaced = is_unused && !of_records;
        let known = sql.within(async {
            let set = "UPDATE key_state SET pepper = $1 WHERE id = 1 AND (pepper IS NULL OR $2 = 1)";
            sqlx::query(set).bind(&*mark).bind(i64::from(replaced)).execute(sql.pool()).await?;
            let known =
                sqlx::query("SELECT pepper FROM key_state WHERE id = 1").fetch_one(sql.pool()).await?;
            known.try_get::<Option<String>, _>(0)
        });
        match known.await.map_err(|error| error.to_string())? {
            Some(known) if known != mark && is_unused => Err("the pepper (`auth.pepper`, or the file beside the SQLite file) \
                is not the one that the records in the database were made with, and they could not be checked any more: put \
                it back; to begin anew without them, move the database and `audit.folder` away"
                .into()),
            Some(known) if known != mark => {
                Err("`auth.pepper` is not the one that the keys in the database were made with".into())
            }
            _ => Ok(()),
        }
    }
}

impl Page {
    fn take(&mut self, row: &AnyRow) -> Result<(), sqlx::Error> {
        self.version = self.version.max(row.try_get(8)?);
        let revoked: Option<i64> = row.try_get(7)?;
        match stored(row) {
            Ok(key) if revoked.is_none() => {
                self.keys.insert(key.hash, Arc::new(key));
            }
            Ok(key) => {
                self.keys.remove(&key.hash);
            }
            // Refused is safe, and the others go on.
            Err(error) => {
                let id: String = row.try_get(0)?;
                self.keys.retain(|_, key| *key.id != *id);
                tracing::error!(%error, key_id = id, "a stored key is not understood and opens nothing");
            }
        }
        Ok(())
    }
}

/// Writes a key, whether or not it is there.
async fn put(tx: &mut AnyConnection, key: &Stored, version: i64) -> Result<(), sqlx::Error> {
    let put =
        "INSERT INTO keys (id, hash, name, tenant, granted, created_at, created_by, revoked_at, version, account)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, granted = excluded.granted,
            revoked_at = excluded.revoked_at, version = excluded.version";
    let grant = serde_json::to_string(&key.grant).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(put)
        .bind(&*key.id)
        .bind(Pepper::hex(&key.hash))
        .bind(&*key.name)
        .bind(&*key.tenant)
        .bind(grant)
        .bind(key.created_at.as_microsecond())
        .bind(&*key.created_by)
        .bind(key.revoked_at.map(Timestamp::as_microsecond))
        .bind(version)
        .bind(&*key.account)
        .execute(tx)
        .await
        .map(|_| ())
}

fn stored(row: &AnyRow) -> Result<Stored, sqlx::Error> {
    let bad = |what: &str| sqlx::Error::Decode(format!("a stored key has a bad {what}").into());
    let time = |micros| Timestamp::from_microsecond(micros).map_err(|_| bad("time"));
    let id: Arc<str> = row.try_get::<String, _>(0)?.into();
    let account: Option<String> = row.try_get(9)?;
    Ok(Stored {
        account: account.map_or_else(|| id.clone(), Into::into),
        id,
        hash: bytes(&row.try_get::<String, _>(1)?).ok_or_else(|| bad("hash"))?,
        name: row.try_get(2)?,
        tenant: row.try_get(3)?,
        grant: serde_json::from_str(&row.try_get::<String, _>(4)?).map_err(|_| bad("grant"))?,
        created_at: time(row.try_get(5)?)?,
        created_by: row.try_get(6)?,
        revoked_at: row.try_get::<Option<i64>, _>(7)?.map(time).transpose()?,
    })
}

/// Now, as exactly as it is stored.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Whether a text can be the id of a key.
pub fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix(ID).unwrap_or_default();
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The same for a key that is not there and for one that is somebody else's.
pub fn absent(id: &str) -> Error {
    Error::Absent(format!("there is no key `{id}`"))
}

fn away(error: Failed) -> Error {
    match error {
        Failed::Sql(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Error::Conflict("the tenant has a key of this name already".into())
        }
        error => Error::StoreAway(error.into()),
    }
}
