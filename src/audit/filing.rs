//! Moves records from the journal into the database.
//!
//! It reads what the thread has written, a few times a second, and removes a
//! segment when the database has all of it. While the database takes nothing
//! the records stay where they are: the journal is the spool. What was moved
//! and not removed when the process ended is not moved again, because the
//! database tells how far it has come.
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{
    archive::{Archive, Block},
    journal::{self, Head, SEGMENT},
    queue::Turned,
    recheck::Recheck,
    watermark::{Noted, Watermark},
    writer::{Shared, Trouble, Writer},
};
use crate::error::{Error, Result};

/// How often records are moved, unless somebody waits for one.
const EVERY: Duration = Duration::from_millis(250);
/// The longest pause after the database took nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Records that are moved at a time, in bytes.
const AT_ONCE: usize = 4 << 20;
/// How long somebody waits for a record to be moved.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long while the database is known to take none.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Moves records. Cheap to clone.
#[derive(Clone)]
pub struct Filing(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    archive: Archive,
    writer: Writer,
    max_spool: u64,
    /// The journal's chain.
    chain: Uuid,
    /// Where it is noted how far the database has come.
    mark: Arc<Mutex<Watermark>>,
    /// Somebody waits.
    asked: Notify,
    /// The last record that the database has.
    filed: watch::Sender<u64>,
    /// How often it was tried to move what there is.
    rounds: watch::Sender<u64>,
    /// Since when it does not have all.
    behind: Mutex<Option<Instant>>,
    /// Whether there was something to move when the process began.
    began_behind: bool,
    /// Erasures that were carried out here, and that who follows those of others does not know of yet.
    erased: Mutex<Vec<String>>,
    /// What is known of the database's blocks, until somebody looks at them.
    recheck: Mutex<Recheck>,
}

impl std::fmt::Debug for Filing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filing").field("filed", &*self.0.filed.borrow()).finish_non_exhaustive()
    }
}

/// Up to where the journal was read.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    segment: u64,
    /// The byte where the next record begins; 0: the first one.
    at: usize,
    /// That record's number; 0: as the segment says.
    next: u64,
}

/// What was read of one chain.
struct Part {
    chain: Uuid,
    blocks: Vec<Block>,
    cursor: Cursor,
}

impl Filing {
    /// Moves records from now on, until all handles are gone. The database has `filed` records of the journal's chain.
    pub(super) fn start(
        folder: &Path,
        archive: Archive,
        writer: Writer,
        mark: Watermark,
        max_spool: usize,
        (chain, filed): (Uuid, u64),
    ) -> Self {
        let began_behind = writer.0.durable.load(Acquire) > filed;
        let filed = watch::Sender::new(filed);
        let (asked, behind) = (Notify::new(), Mutex::default());
        let folder = folder.to_owned();
        let this = Self(Arc::new(Inner {
            folder,
            archive,
            writer,
            max_spool: max_spool as u64,
            chain,
            mark: Arc::new(Mutex::new(mark)),
            asked,
            filed,
            rounds: watch::Sender::default(),
            behind,
            began_behind,
            erased: Mutex::default(),
            recheck: Mutex::default(),
        }));
        let weak = Arc::downgrade(&this.0);
        let shared = this.0.writer.0.clone();
        tokio::spawn(async move {
            let (mut cursor, mut numbers, mut pause) = (Cursor::default(), HashMap::new(), EVERY);
            loop {
                let Some(inner) = weak.upgrade() else { return };
                let began = Instant::now();
                let result = inner.round(&mut cursor, &mut numbers).await;
                inner.told(&shared, cursor, began, result.as_ref().err());
                inner.rounds.send_modify(|rounds| *rounds += 1);
                pause = if result.is_ok() { EVERY } else { (pause * 2).min(LONGEST_PAUSE) };
                if result.is_ok() && shared.durable.load(Acquire) <= *inner.filed.borrow() {
                    tokio::select! {
                        () = shared.more.notified() => {}
                        () = inner.asked.notified() => continue,
                        // A handle that is let go is noticed.
                        () = tokio::time::sleep(LONGEST_PAUSE) => {}
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = inner.asked.notified() => {}
                }
            }
        });
        this
    }

    /// Waits until the database has all records that are on the disk now.
    ///
    /// # Errors
    /// [`Error::StoreAway`]: it takes none.
    pub async fn flush(&self) -> Result<()> {
        let target = self.0.writer.0.durable.load(Acquire);
        self.through(target).await
    }

    /// Waits until the database has a record and all before it.
    pub(super) async fn through(&self, target: u64) -> Result<()> {
        let mut filed = self.0.filed.subscribe();
        if *filed.borrow() >= target {
            return Ok(());
        }
        self.0.asked.notify_one();
        let there = filed.wait_for(|filed| *filed >= target);
        // Not for long where it is known to take none.
        let well = self.0.writer.0.is_well(Trouble::Database);
        match tokio::time::timeout(if well { PATIENCE } else { SHORT_PATIENCE }, there).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::StoreAway("audit records could not be moved into the database".into())),
        }
    }

    /// Waits until the database has all records before a segment, and the journal holds none of them any more.
    ///
    /// # Errors
    /// [`Error::StoreAway`]: the database takes none, or they cannot be removed.
    pub(super) async fn left(&self, turned: Turned) -> Result<()> {
        self.through(turned.last).await?;
        let gone = async {
            let mut rounds = self.0.rounds.subscribe();
            while self.oldest().await.is_none_or(|oldest| oldest < turned.segment) {
                self.0.asked.notify_one();
                let _ = rounds.changed().await;
            }
        };
        let late = |_| Error::StoreAway("audit records could not be removed from the journal".into());
        tokio::time::timeout(PATIENCE, gone).await.map_err(late)
    }

    /// The first segment that is there.
    async fn oldest(&self) -> Option<u64> {
        let folder = self.0.folder.clone();
        let segments = tokio::task::spawn_blocking(move || journal::segments(&folder)).await;
        Some(segments.ok()?.ok()?.first().map_or(u64::MAX, |(number, _)| *number))
    }

    /// Records that the database does not have yet, and since when it does not have all.
    pub fn behind(&self) -> (u64, Duration) {
        let many = self.0.writer.0.durable.load(Relaxed).saturating_sub(*self.0.filed.borrow());
        let since = self.0.behind.lock().filter(|_| many > 0).map_or(Duration::ZERO, |since| since.elapsed());
        (many, since)
    }

    /// Counts the segments that are kept aside because records of them cannot be read.
    pub(super) async fn look_aside(&self) {
        let folder = self.0.folder.clone();
        if let Ok(Ok(aside)) = tokio::task::spawn_blocking(move || journal::damaged(&folder)).await {
            self.0.writer.0.metrics.audit_damaged.set(aside.len() as i64);
        }
    }

    /// Looks at the next of the database's blocks.
    pub(super) async fn look_at_block(&self, recheck: &mut Recheck) {
        let own = (self.0.chain, *self.0.filed.borrow());
        // The database says itself when it is away, and it is tried again.
        let _ = recheck.step(&self.0.archive, own).await;
        self.0.writer.0.metrics.audit_damaged_blocks.set(recheck.damaged() as i64);
        if let Some(note) = recheck.news(&self.0.folder) {
            let written = tokio::task::spawn_blocking(move || note.write()).await;
            if let Err(error) = written.map_err(io::Error::other).and_then(|written| written) {
                tracing::warn!(%error, "it could not be noted which of the database's audit records are damaged");
                recheck.unnoted();
            }
        }
    }

    /// Tells of what an earlier process found damaged in the database, and goes on with that.
    pub(super) async fn remember(&self) {
        let folder = self.0.folder.clone();
        let read = tokio::task::spawn_blocking(move || Recheck::read(&folder)).await;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(found) => {
                self.0.writer.0.metrics.audit_damaged_blocks.set(found.damaged() as i64);
                *self.0.recheck.lock() = found;
            }
            Err(error) => tracing::warn!(
                %error,
                "it is not known which of the database's audit records were found damaged before; they are looked at anew"
            ),
        }
    }

    /// What is known of the database's blocks; for who looks at them.
    pub(super) fn recheck(&self) -> Recheck {
        std::mem::take(&mut *self.0.recheck.lock())
    }

    /// How many of the database's blocks were found damaged.
    pub fn damaged_blocks(&self) -> u64 {
        u64::try_from(self.0.writer.0.metrics.audit_damaged_blocks.get()).unwrap_or_default()
    }

    /// How many segments are kept aside because records of them cannot be read.
    pub fn damaged(&self) -> u64 {
        u64::try_from(self.0.writer.0.metrics.audit_damaged.get()).unwrap_or_default()
    }

    /// An erasure was carried out here.
    pub(super) fn erased_here(&self, id: String) {
        self.0.erased.lock().push(id);
    }

    /// The erasures that were carried out here since this was asked.
    pub(super) fn erased_lately(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.erased.lock())
    }

    pub(super) fn began_behind(&self) -> bool {
        self.0.began_behind
    }

    /// The records in the database.
    pub fn archive(&self) -> &Archive {
        &self.0.archive
    }

    /// The writer.
    pub(super) fn writer(&self) -> &Writer {
        &self.0.writer
    }
}

impl Inner {
    /// Moves all that is on the disk when it begins. What comes in the meantime waits for the next
    /// round: under load there would always be a little more, and a transaction for each few records.
    async fn round(
        &self,
        cursor: &mut Cursor,
        numbers: &mut HashMap<Uuid, (i64, Head)>,
    ) -> Result<(), String> {
        let durable = self.writer.0.durable.load(Acquire);
        // Before a segment is removed, of which the database has all: not one that is gone itself.
        self.archive.sql().there().map_err(|error| error.to_string())?;
        loop {
            let (folder, from) = (self.folder.clone(), *cursor);
            let read = tokio::task::spawn_blocking(move || read(&folder, from, durable)).await;
            let part =
                read.map_err(|error| error.to_string())?.map_err(|error| format!("the journal: {error}"))?;
            let Some(Part { chain, blocks, cursor: next }) = part else { return Ok(()) };
            let (number, there) = if let Some(known) = numbers.get(&chain) {
                *known
            } else {
                let number = self.archive.number(chain).await.map_err(|error| error.to_string())?;
                let end = self.archive.end(number).await.map_err(|error| error.to_string())?;
                (number, end)
            };
            let fresh = blocks.into_iter().filter(|block| block.last > there.seq);
            let blocks: Vec<_> = fresh.map(|block| block.after(there.seq)).collect();
            let head = blocks.last().map_or(there, |block| Head { seq: block.last, hash: block.hash });
            if !blocks.is_empty() {
                self.archive.add(number, blocks).await.map_err(|error| error.to_string())?;
            }
            numbers.insert(chain, (number, head));
            *cursor = next;
            self.filed.send_replace(head.seq);
            let (mark, key) = (self.mark.clone(), self.archive.key.clone());
            let noted = Noted { chain, head, segment: next.segment };
            let marked = tokio::task::spawn_blocking(move || mark.lock().set(&key, noted)).await;
            marked.map_err(|error| error.to_string())?.map_err(|error| format!("the journal: {error}"))?;
            if head.seq >= durable && cursor.segment >= self.writer.0.segment.load(Acquire) {
                return Ok(());
            }
        }
    }

    /// Notes how it went, and says so where that is news.
    fn told(&self, shared: &Shared, cursor: Cursor, began: Instant, error: Option<&String>) {
        let all = shared.durable.load(Acquire) <= *self.filed.borrow();
        let mut behind = self.behind.lock();
        *behind = match error {
            _ if all => None,
            // What it does not have came since.
            None => Some(began),
            Some(_) => Some(behind.unwrap_or(began)),
        };
        drop(behind);
        shared.metrics.audit_database.set(i64::from(error.is_none()));
        if shared.trouble(Trouble::Database, error.is_some()) {
            if let Some(why) = error {
                tracing::error!(
                    why,
                    "audit records cannot be moved into the database; they wait in the journal"
                );
            } else {
                tracing::info!("audit records are moved into the database again");
            }
        }
        let segments = shared.segment.load(Acquire).saturating_sub(cursor.segment.max(1)) + 1;
        let full = error.is_some() && segments * SEGMENT as u64 > self.max_spool;
        if shared.trouble(Trouble::Spool, full) && full {
            tracing::error!(
                "`audit.max_spool` is reached: calls are refused until the database takes records"
            );
        }
    }
}

/// Reads on, in the first segment that has more, and removes those before it:
/// the database has what was read of them. Blocks.
fn read(folder: &Path, from: Cursor, durable: u64) -> io::Result<Option<Part>> {
    let segments = journal::segments(folder)?;
    let mut following = segments.iter().skip_while(|(number, _)| *number < from.segment).peekable();
    while let Some((number, path)) = following.next() {
        let Some((chain, before)) = journal::head(path)? else { continue };
        let here = from.segment == *number;
        let (at, next) = if here && from.at > 0 { (from.at, from.next) } else { (0, before.seq + 1) };
        // Where the next one goes on, this one ends, whatever else is in it.
        let most = match following.peek() {
            Some((_, path)) => {
                journal::head(path)?.filter(|(next, _)| *next == chain).map_or(u64::MAX, |(_, head)| head.seq)
            }
            None => durable,
        };
        let (blocks, cursor) = part(path, Cursor { segment: *number, at, next }, most)?;
        if !blocks.is_empty() {
            return Ok(Some(Part { chain, blocks, cursor }));
        }
        if following.peek().is_some() {
            if most != u64::MAX && cursor.next <= most {
                tracing::error!(
                    segment = *number,
                    from = cursor.next,
                    to = most,
                    "audit records cannot be read; their segment is put aside"
                );
                journal::put_aside(folder, *number)?;
            } else {
                journal::remove(folder, *number)?;
            }
        }
    }
    Ok(None)
}

/// The records of a segment from a place on, at most the number `most`, as blocks.
fn part(path: &Path, from: Cursor, most: u64) -> io::Result<(Vec<Block>, Cursor)> {
    let (mut blocks, mut cursor, mut size) = (Vec::new(), from, 0);
    let mut block = Block::default();
    while size < AT_ONCE && cursor.next <= most {
        let piece = journal::Piece::read(path, cursor.at)?;
        let before = cursor.at;
        for (frame, bytes, next) in piece.frames() {
            if frame.seq != cursor.next || frame.seq > most {
                break;
            }
            if !block.add(&frame, bytes) {
                blocks.push(std::mem::take(&mut block));
                block.add(&frame, bytes);
            }
            size += bytes.len();
            (cursor.at, cursor.next) = (next, frame.seq + 1);
        }
        if cursor.at == before {
            break;
        }
    }
    if !block.frames.is_empty() {
        blocks.push(block);
    }
    Ok((blocks, cursor))
}
