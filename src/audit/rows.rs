//! What the database says beside the records themselves, checked against them.
//!
//! A block's numbers and times, and the ids by which its records are found,
//! follow from its records, which the chain goes over: whoever changes one of
//! them alone is seen. A row that asks for an erasure has a record that says
//! the same.
use sqlx::Row;

use super::{
    archive::{Archive, Block},
    frame::Frame,
};
use crate::store::sql::{Failed, Sql};

/// Whether the database holds records already.
///
/// # Errors
/// It does not answer; in words.
pub async fn has_records(sql: &Sql) -> Result<bool, String> {
    let query = sqlx::query("SELECT first FROM audit_blocks LIMIT 1").fetch_optional(sql.pool());
    sql.within(query).await.map(|row| row.is_some()).map_err(|error| error.to_string())
}

/// A block as it is in the database.
pub(super) struct Stored {
    first: i64,
    last: i64,
    ended: i64,
    pub(super) frames: Vec<u8>,
    /// When its first record ended, when its last did, and the ids of all.
    ids: Option<(i64, i64, Vec<u8>)>,
}

/// A row that asks for an erasure.
pub(super) struct AskedRow {
    pub(super) id: String,
    pub(super) tenant: String,
    /// The user, as hexadecimal digits of a keyed hash.
    pub(super) user: String,
    pub(super) until: i64,
    pub(super) done: bool,
}

impl Archive {
    /// The block of a chain that begins after the record `after`, with all that is said of it.
    pub(super) async fn stored(&self, chain: i64, after: u64) -> Result<Option<Stored>, Failed> {
        let query = "SELECT b.first, b.last, b.ended, b.frames, i.began, i.ended, i.ids FROM audit_blocks b \
                     LEFT JOIN audit_ids i ON i.chain = b.chain AND i.first = b.first \
                     WHERE b.chain = $1 AND b.first > $2 ORDER BY b.first LIMIT 1";
        let query = sqlx::query(query).bind(chain).bind(after as i64);
        let row = self.sql().within(query.fetch_optional(self.sql().pool())).await?;
        let Some(row) = row else { return Ok(None) };
        let began: Option<i64> = row.try_get(4)?;
        let ids = match began {
            Some(began) => Some((began, row.try_get(5)?, row.try_get(6)?)),
            None => None,
        };
        let (first, last) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Some(Stored { first, last, ended: row.try_get(2)?, frames: row.try_get(3)?, ids }))
    }

    /// Chains that have blocks and are not named.
    pub(super) async fn nameless(&self) -> Result<Vec<i64>, Failed> {
        let query =
            "SELECT DISTINCT chain FROM audit_blocks WHERE chain NOT IN (SELECT id FROM audit_chains)";
        let rows = self.sql().within(sqlx::query(query).fetch_all(self.sql().pool())).await?;
        rows.iter().map(|row| row.try_get(0).map_err(Failed::from)).collect()
    }

    /// All rows that ask for an erasure, up to `most`.
    pub(super) async fn erasures(&self, most: usize) -> Result<Vec<AskedRow>, Failed> {
        let query = "SELECT id, tenant, usr, until, done FROM audit_erasures ORDER BY until DESC LIMIT $1";
        let query = sqlx::query(query).bind(most as i64);
        let rows = self.sql().within(query.fetch_all(self.sql().pool())).await?;
        let asked = rows.iter().map(|row| {
            let (id, tenant, user) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(AskedRow { id, tenant, user, until: row.try_get(3)?, done: row.try_get::<i64, _>(4)? > 0 })
        });
        asked.collect::<Result<_, sqlx::Error>>().map_err(Failed::from)
    }
}

impl Stored {
    /// The number that it is found by.
    pub(super) fn first(&self) -> u64 {
        self.first as u64
    }

    /// What is wrong with what is said of it.
    pub(super) fn fault(&self) -> Option<String> {
        let (mut block, mut rest) = (Block::default(), &self.frames[..]);
        while let Some((frame, length)) = Frame::read(rest) {
            block.take(&frame, &rest[..length]);
            rest = &rest[length..];
        }
        let first = self.first;
        if block.frames.is_empty() || !rest.is_empty() {
            return Some(format!("the block of record {first} cannot all be read"));
        }
        let of = |numbers: (u64, u64)| (numbers.0 as i64, numbers.1 as i64);
        if (self.first, self.last) != of((block.first, block.last)) || self.ended != block.ended {
            return Some(format!(
                "`first`, `last` or `ended` of the block of record {first} is not what its records say: {} to {}",
                block.first, block.last
            ));
        }
        match &self.ids {
            None => Some(format!("the ids of the block of record {first} are missing")),
            Some((began, ended, ids)) => {
                (*began != block.began || *ended != block.ended || *ids != block.ids)
                    .then(|| format!("the ids of the block of record {first} are not those of its records"))
            }
        }
    }
}
