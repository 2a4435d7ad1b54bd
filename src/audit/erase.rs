//! What takes records, or what they say, away again: erasure and retention.
//! Both leave a record of themselves, and a chain that is sound.
//!
//! An erasure takes the words of one user's records: in the database here, in
//! the journal by moving on from its segments. Other gateways on the same
//! database find it there, and do the same with their own journals.
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use uuid::Uuid;

use super::{
    archive::Archive,
    chain::{hex, unhex},
    filing::Filing,
    frame::{Frame, Kind, UserRef},
};
use crate::{
    error::{Error, Result},
    store::sql::Failed,
};

/// How often what is too old is looked for.
const TIDY: Duration = Duration::from_secs(3600);
/// How often it is looked whether segments are kept aside: somebody may have taken them away.
const ASIDE: Duration = Duration::from_secs(60);
/// How often erasures that other gateways began are looked for, and one of the database's blocks is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// For how long other gateways look for an erasure.
const HEARD: i64 = 7 * DAY;
const DAY: i64 = 86_400_000_000;

/// What a record of an erasure says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its id.
    pub erasure: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The user, as a keyed hash.
    pub user: String,
    /// Records up to this moment, in microseconds since 1970.
    pub until: i64,
    /// How many records had something to erase. Its own record is written before anything is erased, and does not know.
    #[serde(skip)]
    pub records: u64,
}

impl Erasure {
    /// One where no records are kept, and nothing of the audit's has to be erased.
    pub fn without_records(tenant: &str, user: UserRef) -> Self {
        Self { erasure: Uuid::new_v4(), tenant: tenant.into(), user: hex(&user), until: now(), records: 0 }
    }
}

/// What a record of a cut says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The chain.
    pub cut: Uuid,
    /// The last record that was removed.
    pub through: u64,
    /// Its link, in hexadecimal digits: the next one goes on from it.
    pub hash: String,
}

/// What a record says of a journal's end that was no record, when a gateway started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeftOut {
    /// Its bytes, up to the last that is not zero.
    pub(super) left_out_bytes: u64,
    /// The last record before it.
    pub(super) after: u64,
}

/// What a record says of a journal beside which nothing told how far it had come, when a gateway started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unnoted {
    /// The last record that it had.
    pub(super) no_watermark_after: u64,
}

/// What a record says of lines that told how far the journal had come, and could not be read when a gateway started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unreadable {
    /// How many of them.
    pub(super) unreadable_watermark_lines: u64,
    /// The last record that the journal had.
    pub(super) after: u64,
}

/// What a record says of a journal that was new when a gateway started, beside a database that had records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewJournal {
    /// Of how many chains.
    pub(super) new_journal_beside_chains: u64,
}

/// Forgets what else is kept of a user, told by the tenant and by what stands for the user: each gateway what it keeps.
pub type Forget = Arc<dyn Fn(Arc<str>, UserRef) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// As a record has it: an object without its end.
pub(super) fn meta(said: &impl Serialize) -> Vec<u8> {
    let at = jiff::Timestamp::now();
    let mut meta = format!("{{\"timestamp\":\"{at:.6}\",").into_bytes();
    let said = serde_json::to_vec(said).unwrap_or_default();
    meta.extend_from_slice(said.strip_prefix(b"{").unwrap_or_default());
    if meta.last() == Some(&b'}') {
        meta.pop();
    }
    meta
}

/// What a record of an erasure or of a cut says, read again.
pub(super) fn said<'a, T: Deserialize<'a>>(whole: &'a [u8]) -> Option<T> {
    serde_json::from_slice(whole).ok()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_micros() as i64)
}

fn away(error: Failed) -> Error {
    Error::StoreAway(Box::new(error))
}

impl Filing {
    /// Erases what a user's records up to now say. What they are stays.
    ///
    /// # Errors
    /// [`Error::StoreAway`]: the database did not take part. What was done by then stays done, and it may be asked for again.
    pub async fn erase(&self, tenant: &str, user: &str) -> Result<Erasure> {
        let archive = self.archive();
        let whose = archive.key.user(tenant, user);
        let (id, until) = (Uuid::new_v4(), now());
        let mut erasure =
            Erasure { erasure: id, tenant: tenant.into(), user: hex(&whose), until, records: 0 };
        archive.ask(&erasure).await.map_err(away)?;
        // First: words that are gone without a record of it would look as if somebody had taken them.
        self.writer().note(Kind::Erasure, tenant, user, &meta(&erasure)).wait().await?;
        self.leave().await?;
        let asked = Asked { id: id.to_string(), tenant: tenant.into(), user: whose, until };
        erasure.records = archive.erase(&[asked]).await.map_err(away)?;
        archive.scrub().await.map_err(away)?;
        archive.done(&id.to_string()).await.map_err(away)?;
        self.erased_here(id.to_string());
        tracing::info!(tenant, records = erasure.records, erasure = %id, "a user's content was erased");
        Ok(erasure)
    }

    /// Has the database take all that the journal holds, and the journal let go of it.
    async fn leave(&self) -> Result<()> {
        let Some(turned) = self.writer().turn().await else {
            return Err(Error::internal("the audit's thread has gone"));
        };
        self.left(turned).await
    }

    /// Looks after what is too old, after erasures of others, and whether records are damaged, until all other handles
    /// are gone.
    pub fn tidy(&self, retention_days: Option<u32>, forget: Forget) -> tokio::task::JoinHandle<()> {
        let (this, mut recheck) = (self.clone(), self.recheck());
        tokio::spawn(async move {
            let mut seen = None;
            let mut clock = tokio::time::interval(LOOK);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let rounds = (TIDY.as_secs() / LOOK.as_secs()) as u32;
            let aside = (ASIDE.as_secs() / LOOK.as_secs()) as u32;
            for round in 0_u32.. {
                clock.tick().await;
                if round % aside == 0 {
                    this.look_aside().await;
                }
                this.look_at_block(&mut recheck).await;
                // The database says itself when it is away, and it is tried again.
                let _ = this.follow(&mut seen, &forget).await;
                if let Some(days) = retention_days.filter(|_| round % rounds == 0)
                    && let Err(error) = this.cut(now() - i64::from(days) * DAY).await
                {
                    tracing::warn!(
                        error = error.chain(),
                        "audit records that are too old could not be removed"
                    );
                }
            }
        })
    }

    /// Does what erasures of other gateways ask for, and what was not brought to its end here.
    async fn follow(&self, seen: &mut Option<HashSet<String>>, forget: &Forget) -> Result<()> {
        let archive = self.archive();
        let asked = archive.asked(now() - HEARD).await.map_err(away)?;
        // What was done before this process began concerns it only where its journal held something by then.
        let known = seen.get_or_insert_with(|| {
            let over = asked.iter().filter(|(_, done)| *done && !self.began_behind());
            over.map(|(asked, _)| asked.id.clone()).collect()
        });
        // What was erased here is not erased again, with what was said since.
        known.extend(self.erased_lately());
        known.retain(|id| asked.iter().any(|(other, _)| other.id == *id));
        let fresh: Vec<_> = asked.into_iter().filter(|(asked, _)| !known.contains(&asked.id)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        for (asked, done) in &fresh {
            forget((*asked.tenant).into(), asked.user).await?;
            // Whoever was asked may have stopped before it wrote its record.
            if let Some(erasure) = asked.told().filter(|_| !done) {
                self.writer().note(Kind::Erasure, &asked.tenant, "", &meta(&erasure)).wait().await?;
            }
        }
        self.leave().await?;
        let (fresh, done): (Vec<Asked>, Vec<bool>) = fresh.into_iter().unzip();
        archive.erase(&fresh).await.map_err(away)?;
        archive.scrub().await.map_err(away)?;
        for (asked, _) in fresh.iter().zip(done).filter(|(_, done)| !done) {
            archive.done(&asked.id).await.map_err(away)?;
        }
        known.extend(fresh.into_iter().map(|asked| asked.id));
        Ok(())
    }

    /// Removes records that ended before a moment, after it has said so in a record.
    pub async fn cut(&self, moment: i64) -> Result<()> {
        let archive = self.archive();
        for chain in archive.chains().await.map_err(away)? {
            let last = archive.ended_before(chain.id, moment).await.map_err(away)?;
            let Some(last) = last else { continue };
            let cut = Cut { cut: chain.name, through: last.seq, hash: hex(&last.hash) };
            self.writer().note(Kind::Cut, "*", "", &meta(&cut)).wait().await?;
            // A chain that has records is never without all of them in the database.
            self.flush().await?;
            archive.remove(chain.id, last.seq).await.map_err(away)?;
            tracing::info!(chain = %chain.name, through = last.seq, "audit records that are too old were removed");
        }
        Ok(())
    }
}

/// What is to be erased.
pub(super) struct Asked {
    id: String,
    tenant: String,
    user: UserRef,
    /// Records up to this moment.
    until: i64,
}

impl Asked {
    /// As a record says it; `None` where the row's id is none of an erasure's.
    fn told(&self) -> Option<Erasure> {
        let (erasure, user) = (self.id.parse().ok()?, hex(&self.user));
        Some(Erasure { erasure, tenant: self.tenant.clone(), user, until: self.until, records: 0 })
    }
}

/// How often a block is read again that others change at the same time.
const MOST_AGAIN: u32 = 100;

/// A block without the words of some.
struct Rest {
    bytes: Vec<u8>,
    /// Records whose words are gone now.
    found: u64,
    /// Bytes behind the last record that can be read. They stay as they are: further records may be in them.
    unreadable: usize,
}

/// Takes the words out of those records of a block that are concerned.
fn without(bytes: &[u8], concerned: impl Fn(&Frame<'_>) -> bool) -> Rest {
    let mut rest = Rest { bytes: Vec::with_capacity(bytes.len()), found: 0, unreadable: 0 };
    let mut left = bytes;
    while let Some((mut frame, length)) = Frame::read(left) {
        if concerned(&frame) {
            frame.content = None;
            rest.found += 1;
        }
        frame.write(&mut rest.bytes);
        left = left.get(length..).unwrap_or_default();
    }
    rest.unreadable = left.len();
    rest.bytes.extend_from_slice(left);
    rest
}

impl Archive {
    /// Tells all gateways of an erasure.
    async fn ask(&self, erasure: &Erasure) -> Result<(), Failed> {
        let add = "INSERT INTO audit_erasures (id, tenant, usr, until, done) VALUES ($1, $2, $3, $4, 0)";
        let add = sqlx::query(add).bind(erasure.erasure.to_string()).bind(&*erasure.tenant);
        let add = add.bind(&*erasure.user).bind(erasure.until);
        self.sql.within(add.execute(self.sql.pool())).await.map(|_| ())
    }

    async fn done(&self, id: &str) -> Result<(), Failed> {
        let set = sqlx::query("UPDATE audit_erasures SET done = $2 WHERE id = $1").bind(id).bind(now());
        self.sql.within(set.execute(self.sql.pool())).await.map(|_| ())
    }

    /// What is to be erased, and whether the gateway that was asked has done so.
    async fn asked(&self, since: i64) -> Result<Vec<(Asked, bool)>, Failed> {
        let query = "SELECT id, tenant, usr, until, done FROM audit_erasures WHERE until > $1 ORDER BY until LIMIT 10000";
        let query = sqlx::query(query).bind(since);
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await?;
        let mut asked = Vec::new();
        for row in rows {
            let user: String = row.try_get(2)?;
            if let Some(user) = unhex(&user) {
                let (id, tenant, until) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
                asked.push((Asked { id, tenant, user, until }, row.try_get::<i64, _>(4)? > 0));
            }
        }
        Ok(asked)
    }

    /// Takes the words out of users' records up to a moment; tells of how many.
    pub(super) async fn erase(&self, asked: &[Asked]) -> Result<u64, Failed> {
        let concerned = |frame: &Frame<'_>| {
            frame.content.is_some()
                && matches!(frame.kind, Kind::Call | Kind::Replay)
                && asked.iter().any(|asked| {
                    frame.user == asked.user && frame.tenant == asked.tenant && frame.at <= asked.until
                })
        };
        let (mut erased, mut again) = (0, 0);
        for chain in self.chains().await? {
            let mut after = 0;
            while let Some((first, bytes)) = self.next(chain.id, after).await? {
                let before = std::mem::replace(&mut after, first);
                let Rest { bytes: rest, found, unreadable } = without(&bytes, concerned);
                if unreadable > 0 {
                    tracing::error!(
                        chain = %chain.name,
                        block = first,
                        bytes = unreadable,
                        "records of a damaged block cannot be read: if they are of somebody whose words are erased, theirs stay"
                    );
                }
                if found == 0 {
                    continue;
                }
                // Another erasure may have changed it meanwhile, and retention may have removed it: then it is read again.
                if self.put(chain.id, first, &bytes, &rest).await? {
                    (erased, again) = (erased + found, 0);
                } else if again < MOST_AGAIN {
                    (after, again) = (before, again + 1);
                } else {
                    return Err(Failed::Late);
                }
            }
        }
        Ok(erased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{
            TABLES,
            archive::Block,
            chain::Key,
            frame::{Content, frames},
        },
        observe::Metrics,
        store::{self, sql::Sql},
    };

    const USERS: u8 = 6;

    /// A record of each user's, `many` times over, from the number `first` on.
    fn block(first: u64, many: u64) -> Block {
        let mut block = Block::default();
        for number in 0..many * u64::from(USERS) {
            let content = Content { salt: [1; 16], text: b"words" };
            let frame = Frame {
                kind: Kind::Call,
                seq: first + number,
                at: 1,
                user: [(number % u64::from(USERS)) as u8; 16],
                tenant: "t",
                request: "r",
                meta: b"{",
                content: Some(content),
                content_hash: content.hash(),
                hash: [0; 32],
            };
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            block.take(&frame, &bytes);
        }
        block
    }

    fn asked(user: u8) -> [Asked; 1] {
        [Asked { id: String::new(), tenant: "t".into(), user: [user; 16], until: 2 }]
    }

    async fn archive(folder: &tempfile::TempDir) -> Archive {
        let stores = store::Settings { sqlite: folder.path().join("db"), ..store::Settings::default() };
        let sql = Sql::open(&stores, &[TABLES], &Metrics::new().unwrap()).await.unwrap();
        Archive::new(sql, Arc::new(Key::new(b"k")))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn erasures_at_the_same_time_do_not_bring_words_back() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(&folder).await;
        let chain = archive.number(Uuid::new_v4()).await.unwrap();
        let blocks = (0..20).map(|number| block(1 + number * 12, 2)).collect();
        archive.add(chain, blocks).await.unwrap();
        // As it was before another erasure changed it.
        let (first, old) = archive.next(chain, 0).await.unwrap().unwrap();
        let tasks: Vec<_> = (0..USERS)
            .map(|user| {
                let archive = archive.clone();
                tokio::spawn(async move { archive.erase(&asked(user)).await.unwrap() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 40);
        }
        assert!(!archive.put(chain, first, &old, &old).await.unwrap());
        let mut after = 0;
        while let Some((first, bytes)) = archive.next(chain, after).await.unwrap() {
            after = first;
            assert_eq!(frames(&bytes).filter(|(_, frame)| frame.content.is_some()).count(), 0, "{first}");
            assert_eq!(frames(&bytes).count(), 12);
        }
        archive.sql.close().await;
    }

    #[tokio::test]
    async fn what_cannot_be_read_of_a_block_is_not_lost_with_an_erasure() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(&folder).await;
        let chain = archive.number(Uuid::new_v4()).await.unwrap();
        let mut block = block(1, 2);
        let begins: Vec<usize> = frames(&block.frames).map(|(at, _)| at).collect();
        block.frames[begins[7] + 20] ^= 1;
        let tail = block.frames[begins[7]..].to_vec();
        archive.add(chain, vec![block]).await.unwrap();
        assert_eq!(archive.erase(&asked(1)).await.unwrap(), 1, "the other one cannot be read");
        let (_, bytes) = archive.next(chain, 0).await.unwrap().unwrap();
        assert_eq!(frames(&bytes).count(), 7);
        assert!(bytes.ends_with(&tail));
        archive.sql.close().await;
    }

    #[tokio::test]
    async fn what_is_too_old_is_removed_in_steps() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(&folder).await;
        let chain = archive.number(Uuid::new_v4()).await.unwrap();
        let per_block = u64::from(USERS);
        archive.add(chain, (0..80).map(|number| block(1 + number * per_block, 1)).collect()).await.unwrap();
        for blocks in [3, 35, 67, 79, 79] {
            archive.remove(chain, blocks * per_block).await.unwrap();
            assert_eq!(archive.first(chain).await.unwrap(), Some(blocks * per_block + 1));
            let ids = "SELECT MIN(first) FROM audit_ids";
            let ids = sqlx::query(ids).fetch_one(archive.sql.pool()).await.unwrap();
            assert_eq!(ids.get::<i64, _>(0) as u64, blocks * per_block + 1);
        }
        archive.remove(chain, u64::MAX >> 1).await.unwrap();
        assert_eq!(archive.first(chain).await.unwrap(), None);
        archive.sql.close().await;
    }
}
