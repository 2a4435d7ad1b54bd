//! A look at the database's records in the background: one block at a time, round and round, so that damage shows
//! while nobody checks.
//!
//! It sees what a block and the one before it tell: a record that was changed,
//! a block that cannot be read, or is gone, or is found by other ids, and an end
//! of the gateway's own chain that is gone. All else, such as words that are
//! gone without a record of their erasure, is for [`verify`](super::verify::verify).
//!
//! What it found is noted beside the journal: a gateway that starts tells of it at
//! once, and forgets it as one that runs does, when all is well again a round later.
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    archive::{Archive, Chain},
    chain::{Hash, Key},
    frame::frames,
    journal::Head,
    rows::Stored,
};
use crate::store::sql::Failed;

/// The file's name, in the journal's folder, in which is noted what was found.
const NAME: &str = "damaged-blocks";
/// Damaged blocks that are remembered, and told of.
const MOST: usize = 1000;

/// How far it has come, and what it found.
#[derive(Debug, Default)]
pub struct Recheck {
    at: Option<Place>,
    /// The chain that was looked at last.
    last: Option<i64>,
    /// How many chains were looked at.
    pass: u64,
    /// Damaged blocks, by chain and first record, and when they were last found so.
    found: BTreeMap<Block, u64>,
    /// Those that are noted beside the journal.
    noted: Vec<Block>,
}

/// A block, by its chain and its first record.
type Block = (Uuid, u64);

/// Where it is in a chain.
#[derive(Clone, Debug)]
struct Place {
    chain: Chain,
    /// The first record of the block that was looked at last.
    after: u64,
    /// The last record that was seen, where it is known.
    head: Option<Head>,
    /// Whether it began with the chain's first block.
    whole: bool,
}

/// Stands for a chain's end, where a block's first record would.
const END: u64 = u64::MAX;

impl Recheck {
    /// Goes on from what an earlier process found, as is noted in the journal's folder. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(folder.join(NAME)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let block = |line: &str| -> Option<Block> {
            let (chain, first) = line.split_once(' ')?;
            Some((chain.parse().ok()?, first.parse().ok()?))
        };
        let noted: Vec<Block> = text.lines().filter_map(block).take(MOST).collect();
        Ok(Self { found: noted.iter().map(|block| (*block, 0)).collect(), noted, ..Self::default() })
    }

    /// What is to be noted, where that is not what is noted; for [`Note::write`].
    pub(super) fn news(&mut self, folder: &Path) -> Option<Note> {
        if self.found.keys().eq(&self.noted) {
            return None;
        }
        self.noted = self.found.keys().copied().collect();
        Some(Note { path: folder.join(NAME), blocks: self.noted.clone() })
    }

    /// The last note was not written: it is made again.
    pub(super) fn unnoted(&mut self) {
        // No block begins with this record.
        self.noted = vec![(Uuid::nil(), 0)];
    }

    /// How many blocks are damaged, or gone, of those that were looked at.
    pub fn damaged(&self) -> usize {
        self.found.len()
    }

    /// Looks at the next block. `own` is the gateway's own chain, and the last record that was moved into the database.
    ///
    /// # Errors
    /// The database did not answer. The next step tries the same again.
    pub async fn step(&mut self, archive: &Archive, own: (Uuid, u64)) -> Result<(), Failed> {
        let place = match self.at.clone() {
            Some(place) => place,
            None => match self.next(archive).await? {
                Some(place) => place,
                None => return Ok(()),
            },
        };
        self.at = Some(place.clone());
        let mut seen = looked(archive, &place).await?;
        if seen.as_ref().is_some_and(|seen| seen.why.is_some()) {
            // Retention may have removed what was before it: then nobody knows what it follows.
            let first = archive.first(place.chain.id).await?;
            if first.is_none_or(|first| first > place.after) {
                seen = looked(archive, &Place { head: None, ..place.clone() }).await?;
            }
        }
        let Some(Seen { first, why, head }) = seen else { return self.end(archive, &place, own).await };
        if let Some(why) = why {
            self.blame(&place.chain, first, &why);
        }
        self.at = Some(Place { after: first, head, ..place });
        Ok(())
    }

    /// The chain that is next. The first one is any, from any of its records on: who starts often sees all as well.
    async fn next(&mut self, archive: &Archive) -> Result<Option<Place>, Failed> {
        let mut chains = archive.chains().await?;
        self.found.retain(|(name, _), _| chains.iter().any(|chain| chain.name == *name));
        // What was made with another key cannot be checked with this one.
        chains.retain(|chain| chain.key == archive.key().name());
        if chains.is_empty() {
            return Ok(None);
        }
        let (at, after) = if let Some(last) = self.last {
            (chains.iter().position(|chain| chain.id > last).unwrap_or_default(), 0)
        } else {
            let at = rand::random_range(0..chains.len());
            (at, rand::random_range(0..=archive.end(chains[at].id).await?.seq))
        };
        let chain = chains.swap_remove(at);
        (self.last, self.pass) = (Some(chain.id), self.pass + 1);
        Ok(Some(Place { chain, after, head: None, whole: after == 0 }))
    }

    /// A chain has no more blocks.
    async fn end(&mut self, archive: &Archive, place: &Place, own: (Uuid, u64)) -> Result<(), Failed> {
        let chain = &place.chain;
        if chain.name == own.0 {
            let end = archive.end(chain.id).await?.seq;
            if end < own.1 {
                self.blame(chain, END, &format!("records {} to {} are missing at its end", end + 1, own.1));
            }
        }
        if place.whole {
            // What was found in an earlier round, and is well by now.
            let pass = self.pass;
            self.found.retain(|(name, _), found| *name != chain.name || *found == pass);
        }
        self.at = None;
        Ok(())
    }

    fn blame(&mut self, chain: &Chain, first: u64, why: &str) {
        if self.found.len() < MOST && self.found.insert((chain.name, first), self.pass).is_none() {
            tracing::error!(
                chain = %chain.name,
                why,
                "audit records in the database are damaged: `sluice audit verify` tells of all"
            );
        }
    }
}

/// What is noted beside the journal of damaged blocks.
pub(super) struct Note {
    path: PathBuf,
    blocks: Vec<Block>,
}

impl Note {
    /// Writes it, all or none. Blocks.
    pub(super) fn write(&self) -> io::Result<()> {
        if self.blocks.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let text: String = self.blocks.iter().map(|(chain, first)| format!("{chain} {first}\n")).collect();
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(fresh, &self.path)
    }
}

/// A block that was looked at.
struct Seen {
    first: u64,
    /// What is wrong with it.
    why: Option<String>,
    /// Its last record; `None` where it cannot be read, and tells nothing of where the next one begins.
    head: Option<Head>,
}

/// Looks at the block that follows.
async fn looked(archive: &Archive, place: &Place) -> Result<Option<Seen>, Failed> {
    let Some(stored) = archive.stored(place.chain.id, place.after).await? else { return Ok(None) };
    let (key, before) = (archive.key().clone(), place.head);
    Ok(tokio::task::spawn_blocking(move || judge(&stored, &key, before)).await.ok())
}

/// Judges a block that follows the record `before`, where that is known.
fn judge(stored: &Stored, key: &Key, before: Option<Head>) -> Seen {
    let (mut why, mut head) = (stored.fault(), None);
    for (_, frame) in frames(&stored.frames) {
        let first = (frame.seq == 1).then(|| Head { seq: 0, hash: Hash::default() });
        let wrong = match head.or(before).or(first) {
            Some(before) if frame.seq > before.seq + 1 => {
                Some(format!("records {} to {} are missing", before.seq + 1, frame.seq - 1))
            }
            Some(before) if frame.seq != before.seq + 1 || frame.link(key, &before.hash) != frame.hash => {
                Some(format!("record {} was changed, or does not follow record {}", frame.seq, before.seq))
            }
            _ if frame.content.is_some_and(|content| content.hash() != frame.content_hash) => {
                Some(format!("what record {} says was changed", frame.seq))
            }
            _ => None,
        };
        why = why.or(wrong);
        head = Some(Head { seq: frame.seq, hash: frame.hash });
    }
    Seen { first: stored.first(), why, head }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_known_to_the_next_process_until_it_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, at) = (Uuid::new_v4(), folder.path());
        let chain = Chain { id: 1, name: chain, key: String::new() };
        let mut one = Recheck::read(at).unwrap();
        assert!(one.damaged() == 0 && one.news(at).is_none());
        for first in [1, 257, END] {
            one.blame(&chain, first, "it was changed");
        }
        // A disk that does not take it is asked again.
        let gone = one.news(&at.join("none")).unwrap();
        assert!(gone.write().is_err() && one.news(at).is_none());
        one.unnoted();
        one.news(at).unwrap().write().unwrap();
        let mut next = Recheck::read(at).unwrap();
        assert!(next.damaged() == 3 && next.news(at).is_none());
        next.found.remove(&(chain.name, 257));
        next.news(at).unwrap().write().unwrap();
        // Nonsense is none of it.
        let text = fs::read_to_string(at.join(NAME)).unwrap();
        fs::write(at.join(NAME), text + "x 1\n\n1 2 3\n").unwrap();
        let mut last = Recheck::read(at).unwrap();
        assert_eq!(last.damaged(), 2);
        last.found.clear();
        last.news(at).unwrap().write().unwrap();
        assert!(!at.join(NAME).exists());
        assert_eq!(Recheck::read(at).unwrap().damaged(), 0);
    }
}
