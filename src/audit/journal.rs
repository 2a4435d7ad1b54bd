//! The journal: records on the disk, in the order of their chain.
//!
//! A folder of segments. A segment is made in its full size before a record
//! is written into it: a full disk shows before a call is admitted, and
//! bringing a batch to the disk changes no file's size, which halves what it
//! takes. Nothing is ever appended to what an earlier process wrote: each start
//! and each failed write begins another segment, which says after which record
//! it goes on. A record that was cut at the end of one never counted.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    chain::Hash,
    frame::{Frame, LONGEST},
    lock::Lock,
};

/// The size of a segment, in bytes.
pub(super) const SEGMENT: usize = 4 << 20;
/// What a segment begins with. Another form is another line.
const MAGIC: &[u8; 16] = b"sluice audit 1\n\0";
/// The line, the chain, the first number, the link before it, and a checksum.
const HEAD: usize = 16 + 16 + 8 + 32 + 4;
/// The most that is written at a time, in bytes.
pub(super) const MOST_AT_ONCE: usize = SEGMENT - HEAD;
const _: () = assert!(LONGEST < MOST_AT_ONCE, "a record has to fit into a segment");

/// Where a chain stands: its last record's number and link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The number; 0 while there is none.
    pub seq: u64,
    /// The link.
    pub hash: Hash,
}

/// An open journal. No other process has it open.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    chain: Uuid,
    head: Head,
    /// The newest segment's number.
    number: u64,
    active: Option<Active>,
    spare: Arc<Mutex<Spare>>,
    lock: Lock,
}

#[derive(Debug)]
struct Active {
    file: File,
    /// Where the next record goes.
    at: usize,
}

/// The next segment, made ahead of its time by a thread of its own.
#[derive(Debug, Default)]
enum Spare {
    #[default]
    None,
    Making,
    Ready(File),
    Failed,
}

impl Journal {
    /// Opens or begins the journal of a folder. Also tells how many bytes behind its last record are what is left
    /// of one that was being written.
    pub(super) fn open(lock: Lock) -> io::Result<(Self, usize)> {
        let folder = &lock.folder().to_owned();
        let _ = fs::remove_file(spare_path(folder));
        let (mut number, mut found, mut torn) = (0, None, 0);
        let segments = segments(folder)?;
        let heads: Vec<_> = segments.iter().map(|(_, path)| head(path)).collect::<io::Result<_>>()?;
        for (at, (this, path)) in segments.iter().enumerate() {
            number = *this;
            let chain = heads[at].map(|(chain, _)| chain);
            let next = heads[at + 1..].iter().flatten().next();
            if chain.is_some() && next.map(|(next, _)| *next) == chain {
                // The next one says where it ends, and whoever moves its records sees whether it does: with many
                // of them the start does not wait for that.
                continue;
            }
            match Segment::read(path)? {
                Some(segment) => {
                    let (head, rest) = segment.end(u64::MAX);
                    torn = match rest {
                        Rest::Nothing => 0,
                        Rest::Torn { bytes, .. } => bytes,
                        Rest::Changed { last } => {
                            tracing::error!(
                                segment = *this,
                                from = head.seq + 1,
                                to = last,
                                "audit records cannot be read: their segment is damaged; a copy is kept aside"
                            );
                            keep_aside(path)?;
                            0
                        }
                    };
                    found = Some((segment.chain, head));
                }
                // Made, but not begun, when the process ended.
                None if is_blank(path)? => fs::remove_file(path)?,
                None => {
                    tracing::error!(
                        segment = *this,
                        "an audit segment's head cannot be read; it is put aside"
                    );
                    put_aside(folder, *this)?;
                }
            }
        }
        let (chain, head) = found.unwrap_or_else(|| (Uuid::new_v4(), Head::default()));
        let spare = Arc::default();
        let folder = folder.clone();
        Ok((Self { folder, chain, head, number, active: None, spare, lock }, torn))
    }

    /// The folder's lock.
    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The chain's name.
    pub(super) fn chain(&self) -> Uuid {
        self.chain
    }

    /// The last record on the disk.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Keeps a copy of the newest segment aside, because records of it are gone. Where there is none it leaves an empty
    /// mark for it. Tells whether there was one.
    pub(super) fn keep_aside(&self) -> io::Result<bool> {
        let path = path(&self.folder, self.number);
        if path.exists() {
            return keep_aside(&path).map(|()| true);
        }
        // What was put there already stays as it is.
        OpenOptions::new().append(true).create(true).open(path.with_extension("damaged")).map(|_| false)
    }

    /// Leaves a mark where a segment was that is gone, and goes on behind its number.
    pub(super) fn mark_missing(&mut self, number: u64) -> io::Result<()> {
        File::create_new(path(&self.folder, number).with_extension("damaged"))?;
        self.number = self.number.max(number);
        Ok(())
    }

    /// The newest segment's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Goes on as another chain, from its first record on, in a segment of its own.
    pub(super) fn begin_anew(&mut self) {
        (self.chain, self.head, self.active) = (Uuid::new_v4(), Head::default(), None);
    }

    /// Goes on in a segment of its own, so that those before it can be removed.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.active = None;
        self.ready()
    }

    /// Sees to it that a record could be written now.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        match self.active {
            Some(_) => Ok(()),
            None => self.next(),
        }
    }

    /// Whether there is hardly any room left, and none can be had.
    pub(super) fn is_short(&self) -> bool {
        let full = self.active.as_ref().is_none_or(|active| active.at > SEGMENT / 4 * 3);
        full && matches!(*self.spare.lock(), Spare::Failed)
    }

    /// Appends whole records, at most [`MOST_AT_ONCE`] bytes, and brings them
    /// to the disk. `head` is the last of them. All of them count then, or none.
    pub(super) fn append(&mut self, records: &[u8], head: Head) -> io::Result<()> {
        if self.active.as_ref().is_some_and(|active| active.at + records.len() > SEGMENT) {
            self.active = None;
        }
        self.ready()?;
        let Some(active) = &mut self.active else { return Err(io::Error::other("there is no segment")) };
        let written = active.file.write_all_at(records, active.at as u64);
        if let Err(error) = written.and_then(|()| active.file.sync_data()) {
            // Nobody knows what of it is on the disk: the next one says after which record it goes on.
            self.active = None;
            return Err(error);
        }
        active.at += records.len();
        self.head = head;
        Ok(())
    }

    /// Has the next segment made, where it will be needed soon. Does not wait for it.
    pub(super) fn look_ahead(&self) {
        if self.active.as_ref().is_none_or(|active| active.at < SEGMENT / 2) {
            return;
        }
        let mut spare = self.spare.lock();
        if matches!(*spare, Spare::None | Spare::Failed) {
            *spare = Spare::Making;
            let (folder, place) = (self.folder.clone(), self.spare.clone());
            let made = move || {
                let made = make(&folder);
                *place.lock() = made.map_or(Spare::Failed, Spare::Ready);
            };
            if thread::Builder::new().name("audit-segment".into()).spawn(made).is_err() {
                *spare = Spare::None;
            }
        }
    }

    /// Begins the next segment.
    fn next(&mut self) -> io::Result<()> {
        let ready = {
            let mut spare = self.spare.lock();
            match std::mem::take(&mut *spare) {
                Spare::Ready(file) => Some(file),
                // Its thread still writes it: it is not waited for twice.
                Spare::Making => {
                    *spare = Spare::Making;
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, "the next segment is being made"));
                }
                Spare::None | Spare::Failed => None,
            }
        };
        let file = match ready {
            Some(file) => file,
            None => make(&self.folder)?,
        };
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(self.chain.as_bytes());
        head.extend_from_slice(&(self.head.seq + 1).to_le_bytes());
        head.extend_from_slice(&self.head.hash);
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        file.write_all_at(&head, 0)?;
        file.sync_data()?;
        fs::rename(spare_path(&self.folder), path(&self.folder, self.number + 1))?;
        File::open(&self.folder)?.sync_all()?;
        self.number += 1;
        self.active = Some(Active { file, at: HEAD });
        Ok(())
    }
}

/// Whether a segment's head was never written.
fn is_blank(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut begin)?;
    Ok(begin.iter().all(|byte| *byte == 0))
}

fn spare_path(folder: &Path) -> PathBuf {
    folder.join("next")
}

/// Where a segment is.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.segment"))
}

/// Makes an empty segment of the full size. Where there is no room for it, there is none of it.
fn make(folder: &Path) -> io::Result<File> {
    let place = spare_path(folder);
    let made = || {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&place)?;
        let zeros = vec![0; 64 << 10];
        for _ in 0..SEGMENT / zeros.len() {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(file)
    };
    made().inspect_err(|_| {
        let _ = fs::remove_file(&place);
    })
}

/// The segments of a folder, oldest first.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let number = stem.filter(|_| path.extension().is_some_and(|ext| ext == "segment"));
        if let Some(number) = number.and_then(|stem| stem.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Puts a segment aside whose records cannot all be read.
pub(super) fn put_aside(folder: &Path, number: u64) -> io::Result<()> {
    let path = path(folder, number);
    fs::rename(&path, path.with_extension("damaged"))
}

/// Keeps a copy of a segment whose records cannot all be read.
fn keep_aside(path: &Path) -> io::Result<()> {
    fs::copy(path, path.with_extension("damaged")).map(drop)
}

/// What was put aside because its records could not all be read.
pub(super) fn damaged(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    paths
        .filter(|path| {
            path.as_ref().map_or(true, |path| path.extension().is_some_and(|ext| ext == "damaged"))
        })
        .collect()
}

/// The number of the newest segment of a folder, also of those that are kept aside; 0 where there is none.
pub(super) fn newest(folder: &Path) -> io::Result<u64> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
    let aside = damaged(folder)?.iter().filter_map(number).max();
    Ok(segments(folder)?.last().map(|(number, _)| *number).max(aside).unwrap_or_default())
}

/// Removes a segment.
pub(super) fn remove(folder: &Path, number: u64) -> io::Result<()> {
    fs::remove_file(path(folder, number))
}

/// A segment as it was read.
pub(super) struct Segment {
    /// The chain that it is of.
    pub(super) chain: Uuid,
    /// The record before its first.
    pub(super) before: Head,
    bytes: Vec<u8>,
}

impl Segment {
    /// Reads one; `None` where it was never begun.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::parse(fs::read(path)?))
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let (chain, before) = parse_head(bytes.get(..HEAD)?)?;
        Some(Self { chain, before, bytes })
    }

    /// Its records, from the byte `from` on (0: all), one after the other, and where the next one begins.
    pub(super) fn frames(&self, from: usize) -> impl Iterator<Item = (Frame<'_>, usize)> {
        let from = from.max(HEAD);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let mut at = 0;
        let mut expected = (from == HEAD).then_some(self.before.seq + 1);
        std::iter::from_fn(move || {
            let (frame, length) = Frame::read(rest.get(at..)?)?;
            if expected.is_some_and(|expected| expected != frame.seq) {
                return None;
            }
            expected = Some(frame.seq + 1);
            at += length;
            Some((frame, from + at))
        })
    }

    /// Its last record, and what follows it, of records up to the number `most`.
    pub(super) fn end(&self, most: u64) -> (Head, Rest) {
        let (mut head, mut sound) = (self.before, HEAD);
        for (frame, next) in self.frames(0) {
            head = Head { seq: frame.seq, hash: frame.hash };
            sound = next;
        }
        (head, self.rest(sound, head.seq + 1, most))
    }

    /// What follows the last record that can be read, which ends at `sound`: nothing, or the record `next`, or what
    /// is left of it.
    ///
    /// Segments are zeros before they are written to, and a disk writes whole sectors. So a record of which the
    /// machine wrote only a part has a sector of zeros, and one that has none was there as a whole.
    fn rest(&self, sound: usize, next: u64, most: u64) -> Rest {
        let rest = self.bytes.get(sound..).unwrap_or_default();
        let Some(end) = rest.iter().rposition(|byte| *byte != 0) else { return Rest::Nothing };
        // Behind its last byte that is not zero there is nothing.
        let whole = (0..end).filter_map(|at| Frame::read(rest.get(at..)?));
        let behind = whole.map(|(frame, _)| frame.seq).filter(|seq| (next + 1..=most).contains(seq)).max();
        let (length, first) = (Frame::length(rest), SECTOR - sound % SECTOR);
        let written = |body: &[u8]| {
            let (begin, more) = body.split_at(first.min(body.len()));
            std::iter::once(begin)
                .chain(more.chunks(SECTOR))
                .all(|sector| sector.iter().any(|byte| *byte != 0))
        };
        match length.and_then(|length| rest.get(..length)).is_some_and(written) {
            true => Rest::Changed { last: behind.unwrap_or(next) },
            false => Rest::Torn { bytes: end + 1, last: behind.unwrap_or(next) },
        }
    }
}

/// The least that a disk writes at once, in bytes.
const SECTOR: usize = 512;

/// What follows the last record of a segment that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Zeros.
    Nothing,
    /// So many bytes that look as what a machine leaves that stops while it writes. Nobody can tell whether it was
    /// that. `last` is the last record that they may have been.
    Torn { bytes: usize, last: u64 },
    /// Records up to `last`, the first of which was there as a whole, and is not any more.
    Changed { last: u64 },
}

/// A piece of a segment.
pub(super) struct Piece {
    at: usize,
    bytes: Vec<u8>,
}

/// How much is read of a segment at a time, unless a record is longer, in bytes.
const PIECE: usize = 256 << 10;

impl Piece {
    /// Reads a piece, from the byte `at` on, where a record begins (0: the first).
    pub(super) fn read(path: &Path, at: usize) -> io::Result<Self> {
        let at = at.max(HEAD);
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at as u64))?;
        let mut bytes = Vec::with_capacity(PIECE);
        Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut bytes)?;
        // What follows the last record are zeros: only a record that says so is longer than this.
        if bytes.len() == PIECE && Frame::length(&bytes).is_some_and(|length| length > PIECE) {
            file.take(LONGEST as u64).read_to_end(&mut bytes)?;
        }
        Ok(Self { at, bytes })
    }

    /// Its whole records, their bytes, and where the next one begins in the segment.
    pub(super) fn frames(&self) -> impl Iterator<Item = (Frame<'_>, &[u8], usize)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = self.bytes.get(at..)?;
            let (frame, length) = Frame::read(rest)?;
            at += length;
            Some((frame, &rest[..length], self.at + at))
        })
    }
}

/// After which record a segment goes on, and of which chain; `None` where it was never begun.
pub(super) fn head(path: &Path) -> io::Result<Option<(Uuid, Head)>> {
    let mut bytes = [0; HEAD];
    match File::open(path)?.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(parse_head(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_head(bytes: &[u8]) -> Option<(Uuid, Head)> {
    let (said, sum) = bytes.split_last_chunk::<4>()?;
    let rest = said.strip_prefix(MAGIC)?;
    if crc32fast::hash(said) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (chain, rest) = rest.split_first_chunk::<16>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (hash, _) = rest.split_first_chunk::<32>()?;
    let seq = u64::from_le_bytes(*first).checked_sub(1)?;
    Some((Uuid::from_bytes(*chain), Head { seq, hash: *hash }))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
