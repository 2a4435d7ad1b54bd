//! The books on disk: what is set aside is appended before its call is made.
//!
//! A record is its length, a checksum and the change. Records are handed to
//! the system with plain writes, those of one moment with one, so that they
//! survive the end of the process at any moment; a thread brings them to the
//! disk shortly after, for the end of the machine. A record that was cut at the end of the file never
//! counted, and is removed at the next start.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    books::{Books, Change, Entries},
    claim::{Name, Scope},
    window::Period,
};

/// What the file begins with. Another version is another line.
pub(super) const HEADER: &[u8] = b"sluice budget journal 1\n";
/// No record is longer, in bytes.
const LONGEST: usize = 4096;
/// How much may wait for a disk that takes nothing, in bytes.
const MOST_WAITING: usize = 1 << 20;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    /// Whether a part of a record may stand after `length`.
    torn: bool,
    /// Records that are yet to be written.
    waiting: Vec<u8>,
    /// How many changes were put down, and how many of them are written.
    placed: u64,
    written: u64,
    /// What is written while a shorter file is being made.
    meanwhile: Option<Vec<u8>>,
}

/// A shorter file with the same books, on its way.
#[derive(Debug)]
pub(super) struct Shorter {
    bytes: Vec<u8>,
    path: PathBuf,
}

impl Journal {
    /// Opens or creates the file, and reads it. Also tells how many bytes at its end were cut off.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Books, u64)> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.try_lock().is_err() {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another gateway uses this file"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (books, sound) = read(&bytes)?;
        if let Some(at) = goes_on(&bytes[sound..]) {
            // Cut here, what is written further on would be free to be spent once more.
            let why = format!(
                "it is damaged between bytes {sound} and {}, and whole changes follow; put a copy of it in its place, \
                 or move it away, and all budgets begin with nothing spent",
                sound + at
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let cut = (bytes.len() - sound) as u64;
        if cut > 0 || bytes.is_empty() {
            file.set_len(sound as u64)?;
        }
        file.seek(SeekFrom::Start(sound as u64))?;
        if sound == 0 {
            file.write_all(HEADER)?;
        }
        let length = sound.max(HEADER.len()) as u64;
        file.sync_all()?;
        let (path, waiting) = (path.to_owned(), Vec::new());
        let this = Self { file, path, length, torn: false, waiting, placed: 0, written: 0, meanwhile: None };
        Ok((this, books, cut))
    }

    /// Puts changes down, to be written with the next ones. Tells their place.
    pub(super) fn place(&mut self, changes: &[Change]) -> u64 {
        changes.iter().for_each(|change| spell(change, &mut self.waiting));
        self.placed += changes.len() as u64;
        self.placed
    }

    /// Whether all up to this place is written.
    pub(super) fn has(&self, place: u64) -> bool {
        self.written >= place
    }

    /// Whether no more may be put down before something is written.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() > MOST_WAITING
    }

    /// Writes what waits, with one write. On failure all of it goes on waiting.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.torn {
            // Half a record would hide all that come after it.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(&self.waiting) {
            self.torn = true;
            return Err(error);
        }
        self.length += self.waiting.len() as u64;
        self.written = self.placed;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.extend_from_slice(&self.waiting);
        }
        self.waiting.clear();
        Ok(())
    }

    /// Its length, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The file, to be brought to the disk by another thread.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Begins a shorter file with the books as they are. Nothing may be waiting.
    pub(super) fn shorten(&mut self, books: &Books) -> Shorter {
        let (mut changes, mut bytes) = (Vec::new(), HEADER.to_vec());
        books.snapshot(&mut changes);
        changes.iter().for_each(|change| spell(change, &mut bytes));
        self.meanwhile = Some(Vec::new());
        Shorter { bytes, path: self.path.with_extension("new") }
    }

    /// Goes on in the shorter file, whose beginning is on the disk.
    pub(super) fn replace(&mut self, mut file: File, beginning: u64) -> io::Result<()> {
        let Some(meanwhile) = self.meanwhile.take() else { return Ok(()) };
        file.write_all(&meanwhile)?;
        std::fs::rename(self.path.with_extension("new"), &self.path)?;
        self.length = beginning + meanwhile.len() as u64;
        self.file = file;
        self.torn = false;
        Ok(())
    }

    /// Puts another file in the place of its own.
    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Stays in the old file.
    pub(super) fn stay(&mut self) {
        self.meanwhile = None;
    }
}

impl Shorter {
    /// Writes it and brings it to the disk. Takes long; needs nobody to wait.
    pub(super) fn write(self) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        if file.try_lock().is_err() {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another gateway uses this file"));
        }
        file.write_all(&self.bytes)?;
        file.sync_all()?;
        Ok((file, self.bytes.len() as u64))
    }
}

/// Reads a journal; tells up to where it is sound.
pub(super) fn read(bytes: &[u8]) -> io::Result<(Books, usize)> {
    let mut books = Books::default();
    if !bytes.starts_with(HEADER) {
        // A process that ended while it created the file left a part of the line.
        if HEADER.starts_with(bytes) {
            return Ok((books, 0));
        }
        let what = "it is not a budget journal that this version reads";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut sound = HEADER.len();
    while let Some((change, length)) = record(&bytes[sound..]) {
        books.apply(&change);
        sound += length;
    }
    Ok((books, sound))
}

/// Where a whole record begins beyond what cannot be read: then that is no torn end.
fn goes_on(rest: &[u8]) -> Option<usize> {
    (1..rest.len()).find(|at| record(&rest[*at..]).is_some())
}

/// The first record, if it is whole, and its length.
fn record(bytes: &[u8]) -> Option<(Change, usize)> {
    let mut reader = Reader(bytes);
    let (length, sum) = (reader.u32()? as usize, reader.u32()?);
    let body = reader.0.get(..length).filter(|_| length <= LONGEST)?;
    if crc32fast::hash(body) != sum {
        return None;
    }
    Some((Reader(body).change()?, 8 + length))
}

pub(super) fn spell(change: &Change, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; 8]);
    match change {
        Change::Open { account, name, end } => {
            out.push(1);
            put(out, &[u64::from(*account), name.start as u64, *end as u64]);
            out.push(u8::from(name.period == Period::Month));
            let (tag, one, two): (u8, &str, &str) = match &name.scope {
                Scope::Global => (0, "", ""),
                Scope::Tenant(tenant) => (1, tenant, ""),
                Scope::Key(tenant, id) => (2, tenant, id),
                Scope::User(tenant, user) => (3, tenant, user),
            };
            out.push(tag);
            for text in [one, two] {
                out.extend_from_slice(&(text.len() as u16).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        Change::State { account, cap, spent, unsettled, told } => {
            out.push(2);
            put(out, &[u64::from(*account), *cap, *spent, *unsettled, u64::from(*told)]);
        }
        Change::Reserve { call, amount, expires, on } => {
            out.push(3);
            put(out, &[*call, *amount, *expires]);
            out.push(on.as_slice().len() as u8);
            for (account, cap) in on.as_slice() {
                put(out, &[u64::from(*account), *cap]);
            }
        }
        Change::Extend { call, more } => {
            out.push(4);
            put(out, &[*call, *more]);
        }
        Change::Settle { call, cost } => {
            out.push(5);
            put(out, &[*call, *cost]);
        }
        Change::Expire { call } => {
            out.push(6);
            put(out, &[*call]);
        }
        Change::Tell { account, mark } => {
            out.push(7);
            put(out, &[u64::from(*account), u64::from(*mark)]);
        }
        Change::Close { account } => {
            out.push(8);
            put(out, &[u64::from(*account)]);
        }
        Change::Forget { call } => {
            out.push(9);
            put(out, &[*call]);
        }
    }
    let length = (out.len() - begin - 8) as u32;
    let sum = crc32fast::hash(&out[begin + 8..]);
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&sum.to_le_bytes());
}

fn put(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn account(&mut self) -> Option<u32> {
        self.u64()?.try_into().ok()
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Into::into)
    }

    fn change(&mut self) -> Option<Change> {
        let change = match self.u8()? {
            1 => {
                let (account, start, end) = (self.account()?, self.u64()? as i64, self.u64()? as i64);
                let period = if self.u8()? == 1 { Period::Month } else { Period::Day };
                let (tag, one, two) = (self.u8()?, self.text()?, self.text()?);
                let scope = match tag {
                    0 => Scope::Global,
                    1 => Scope::Tenant(one),
                    2 => Scope::Key(one, two),
                    3 => Scope::User(one, two),
                    _ => return None,
                };
                Change::Open { account, name: Name { scope, period, start }, end }
            }
            2 => Change::State {
                account: self.account()?,
                cap: self.u64()?,
                spent: self.u64()?,
                unsettled: self.u64()?,
                told: self.u64()? as u8,
            },
            3 => {
                let (call, amount, expires) = (self.u64()?, self.u64()?, self.u64()?);
                let mut on = Entries::default();
                for _ in 0..self.u8()? {
                    let (account, cap) = (self.account()?, self.u64()?);
                    if !on.push(account, cap) {
                        return None;
                    }
                }
                Change::Reserve { call, amount, expires, on }
            }
            4 => Change::Extend { call: self.u64()?, more: self.u64()? },
            5 => Change::Settle { call: self.u64()?, cost: self.u64()? },
            6 => Change::Expire { call: self.u64()? },
            7 => Change::Tell { account: self.account()?, mark: self.u64()? as u8 },
            8 => Change::Close { account: self.account()? },
            9 => Change::Forget { call: self.u64()? },
            _ => return None,
        };
        self.0.is_empty().then_some(change)
    }
}
