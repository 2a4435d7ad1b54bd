//! Opens the journal, and holds it against all that is known of it: what is
//! noted beside it, and what the database has. What is gone leaves a mark in
//! its folder, or a record, so that who checks the records later is told.
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    archive::Archive,
    chain::Key,
    journal::{self, Head, Journal, Segment},
    lock::Lock,
    watermark::{self, Noted, Told, Watermark},
};
use crate::store::sql::Kind;

/// A journal that can be written to.
pub(super) struct Started {
    pub(super) journal: Journal,
    /// Where it is noted how far it has come, and how far the database has.
    pub(super) watermark: Watermark,
    pub(super) mark: Watermark,
    /// The last of its records that the database has.
    pub(super) filed: u64,
    /// Bytes behind its last record that are what is left of another.
    pub(super) torn: usize,
    /// Segments that are kept aside because records of them cannot be read, or are gone.
    pub(super) damaged: usize,
    /// Nothing tells how far it had come, though it was used before.
    pub(super) unnoted: bool,
    /// Lines that tell so and cannot be read, beside others that can.
    pub(super) unreadable: usize,
    /// It is new, and the database has records of so many chains.
    pub(super) unknown_before: usize,
}

/// A journal as it was found.
struct Found {
    folder: PathBuf,
    key: Arc<Key>,
    journal: Journal,
    torn: usize,
    told: Told,
}

/// What the database knows.
struct Known {
    /// How many chains had records in it.
    chains: usize,
    /// Where the journal's chain ends in it.
    end: Head,
    /// Records that are noted, of other chains, and that it does not have: up to where it has them, and what is noted.
    short: Vec<(u64, Noted)>,
    kind: Kind,
}

/// Opens a folder's journal, which is this process's alone.
///
/// # Errors
/// It cannot be used, or the database does not answer; in words.
pub(super) async fn start(lock: Lock, archive: &Archive) -> Result<Started, String> {
    let key = archive.key.clone();
    let found = tokio::task::spawn_blocking(move || Found::of(lock, key));
    let found = found.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let known = Known::of(archive, &found).await.map_err(|error| error.to_string())?;
    let held = tokio::task::spawn_blocking(move || found.hold(&known));
    held.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

impl Known {
    async fn of(archive: &Archive, found: &Found) -> Result<Self, crate::store::sql::Failed> {
        let all = archive.chains().await?;
        let mut short = Vec::new();
        for noted in found.elsewhere() {
            let there = match all.iter().find(|chain| chain.name == noted.chain) {
                Some(chain) => archive.end(chain.id).await?.seq,
                None => 0,
            };
            if there < noted.head.seq {
                short.push((there, noted));
            }
        }
        let number = archive.number(found.journal.chain()).await?;
        let end = archive.end(number).await?;
        Ok(Self { chains: all.len(), end, short, kind: archive.sql.kind() })
    }
}

impl Found {
    /// Opens the journal, and reads what is noted of it. Blocks.
    fn of(lock: Lock, key: Arc<Key>) -> io::Result<Self> {
        let folder = lock.folder().to_owned();
        let (journal, torn) = Journal::open(lock)?;
        let told = watermark::read(&folder, &key);
        Ok(Self { folder, key, journal, torn, told })
    }

    /// The last that is noted of each chain that is not the journal's.
    fn elsewhere(&self) -> Vec<Noted> {
        let mut last: Vec<Noted> = Vec::new();
        let others = self.told.noted.iter().filter(|noted| noted.chain != self.journal.chain());
        for noted in others.filter(|noted| noted.head.seq > 0) {
            match last.iter_mut().find(|other| other.chain == noted.chain) {
                Some(other) if other.head.seq >= noted.head.seq => {}
                Some(other) => *other = *noted,
                None => last.push(*noted),
            }
        }
        last
    }

    /// Holds it against what is known. Blocks.
    fn hold(self, known: &Known) -> io::Result<Started> {
        let Self { folder, key, mut journal, mut torn, told } = self;
        let Told { noted, filed, unreadable } = told;
        let was_used = journal.lock().was_used();
        let head = journal.head();
        let mut lost = false;
        let begun = noted.iter().map(|noted| noted.segment).max().unwrap_or_default();
        if begun > journal::newest(&folder)? {
            tracing::error!(
                segment = begun,
                after = head.seq,
                "an audit segment that was begun is not there: its records are lost, but for those that the database has"
            );
            journal.mark_missing(begun)?;
            torn = 0;
        }
        let own = noted.iter().filter(|noted| noted.chain == journal.chain());
        if let Some(to) = own.map(|noted| noted.head.seq).max().filter(|noted| *noted > head.seq) {
            tracing::error!(
                from = head.seq + 1,
                to,
                "audit records that were on the disk are not there, or cannot be read"
            );
            lost = true;
        }
        for (there, noted) in &known.short {
            let there = last_of(&folder, noted.chain)?.max(*there);
            if there < noted.head.seq {
                tracing::error!(
                    chain = %noted.chain,
                    from = there + 1,
                    to = noted.head.seq,
                    "audit records of an earlier chain are neither in the journal nor in the database"
                );
                lost = true;
            }
        }
        let end = known.end;
        let anew = end.seq > head.seq || (end.seq == head.seq && end.hash != head.hash);
        if anew {
            tracing::error!(
                journal = head.seq,
                database = end.seq,
                "the audit's journal does not go on from the database's records; a chain of its own begins"
            );
            lost = true;
        } else if let Some(noted) = filed
            && noted.chain == journal.chain()
            && noted.head.seq > end.seq
            && known.kind != Kind::Memory
        {
            tracing::error!(
                from = end.seq + 1,
                to = noted.head.seq,
                "audit records that the database had are not there; what the journal still has of them is moved again"
            );
        }
        if lost {
            torn = 0;
            if journal.keep_aside()? {
                tracing::error!("a copy of the journal's newest segment is kept aside (`*.damaged`)");
            } else {
                tracing::error!(
                    "there is no segment to keep aside: an empty file stands for it (`*.damaged`)"
                );
            }
        }
        if anew {
            journal.begin_anew();
        }
        if torn > 0 {
            tracing::warn!(
                bytes = torn,
                after = head.seq,
                "what was written last to the audit's journal was cut off, and is left out"
            );
        }
        let unnoted = noted.is_empty() && was_used;
        // With none that can be read nothing is noted.
        let unreadable = if noted.is_empty() { 0 } else { unreadable };
        told_unnoted(head.seq, unnoted, unreadable);
        let damaged = journal::damaged(&folder)?.len();
        if damaged > 0 {
            tracing::error!(
                segments = damaged,
                "audit records cannot be read, or are gone: `sluice audit verify` tells which; `*.damaged` in `audit.folder` \
                 are what is left of their segments, an empty one of a segment that was gone"
            );
        }
        let unknown_before = if was_used { 0 } else { known.chains };
        told_new(unknown_before, known.kind);
        let filed = if anew { Head::default() } else { end };
        let [watermark, mark] = note(&folder, &key, &journal, filed)?;
        journal.lock().use_it()?;
        let filed = filed.seq;
        Ok(Started { journal, watermark, mark, filed, torn, damaged, unnoted, unreadable, unknown_before })
    }
}

/// Says that nothing tells how far a journal had come, or not all that does can be read.
fn told_unnoted(after: u64, unnoted: bool, unreadable: usize) {
    if unnoted {
        tracing::warn!(
            after,
            "nothing tells how far the audit's journal had come (`watermark`): nobody can tell whether records at its end are gone"
        );
    }
    if unreadable > 0 {
        tracing::warn!(
            lines = unreadable,
            after,
            "not all that tells how far the audit's journal had come (`watermark`) can be read: the machine stopped while it was \
             written, or somebody changed it, and nobody can tell whether records at the journal's end are gone"
        );
    }
}

/// Says that a journal is new beside the records of others.
fn told_new(chains: usize, kind: Kind) {
    const WHAT: &str = "the audit's journal is new, and the database has records: if there was another journal \
                        (`audit.folder`), what it held and had not moved is not here";
    match kind {
        _ if chains == 0 => {}
        // Each new gateway of those that share it is this.
        Kind::Postgres => tracing::info!(chains, "{WHAT}"),
        Kind::Memory | Kind::Sqlite => tracing::warn!(chains, "{WHAT}"),
    }
}

/// Notes in all places how far both have come now: what was noted before is held against the journal by now, and of
/// a chain that is not gone on with nothing else would be noted.
fn note(folder: &Path, key: &Key, journal: &Journal, filed: Head) -> io::Result<[Watermark; 2]> {
    // A process that was killed may have left records that the system has, and the disk does not.
    let newest = journal::path(folder, journal.number());
    if newest.exists() {
        File::open(newest)?.sync_data()?;
    }
    let (chain, segment) = (journal.chain(), journal.number());
    let [journal, database] = [journal.head(), filed].map(|head| Noted { chain, head, segment });
    Watermark::begin(folder, key, journal, database)
}

/// The last record of a chain that a folder has; 0 where it has none.
fn last_of(folder: &Path, chain: Uuid) -> io::Result<u64> {
    for (_, path) in journal::segments(folder)?.iter().rev() {
        if journal::head(path)?.is_some_and(|(this, _)| this == chain) {
            let segment = Segment::read(path)?;
            return Ok(segment.map_or(0, |segment| segment.end(u64::MAX).0.seq));
        }
    }
    Ok(0)
}
