//! How far the journal had come, in a file of its own beside it.
//!
//! The end of a journal that a crash cut off looks much like one that
//! somebody cut off, or where a bit of the last record was flipped. Once a
//! second, while there are records, and at the end of the process, the number
//! and the link of the last record that is on the disk are written here: what
//! is up to there was promised, and if it is gone that was no crash. It is
//! written after those who wait for their records have been told, and nobody
//! waits for it. With them stands the newest segment's number, and that is
//! written when a segment is begun, before anybody is told of a record in it:
//! a segment that is gone as a whole is missed. It has two places, used in turn, so that one of them is whole
//! whenever the machine stops.
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use uuid::Uuid;

use super::{
    chain::{Key, hex, unhex},
    journal::Head,
};

/// The file's name, in the journal's folder.
const NAME: &str = "watermark";
/// Bytes of a place: chain, number, segment, link and keyed hash, with what is between them.
const PLACE: usize = 36 + 1 + 20 + 1 + 20 + 1 + 64 + 1 + 64 + 1;

/// How far a journal had come at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// Its chain.
    pub(super) chain: Uuid,
    /// The last record that was on the disk.
    pub(super) head: Head,
    /// The newest segment's number; 0 while there was none.
    pub(super) segment: u64,
}

/// The file. Only the audit's thread writes to it.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    /// Which of the two places is next.
    next: u64,
}

impl Watermark {
    /// Opens it, or makes it.
    pub(super) fn open(folder: &Path, key: &Key) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(folder.join(NAME))?;
        // The one that tells less is written first.
        let told = places(folder, key).map(|place| place.map(|noted| (noted.segment, noted.head.seq)));
        Ok(Self { file, next: u64::from(told[0] > told[1]) })
    }

    /// Says that a chain's records are on the disk, up to one of them, and which segment was begun.
    pub(super) fn set(&mut self, key: &Key, noted: Noted) -> io::Result<()> {
        let Noted { chain, head, segment } = noted;
        let (hash, proof) = (hex(&head.hash), hex(&proof(key, noted)));
        let text = format!("{chain} {:020} {segment:020} {hash} {proof}\n", head.seq);
        self.file.write_all_at(text.as_bytes(), self.next * PLACE as u64)?;
        self.next = 1 - self.next;
        Ok(())
    }

    /// Brings it to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn proof(key: &Key, Noted { chain, head, segment }: Noted) -> [u8; 32] {
    key.mac(&[b"watermark 2", chain.as_bytes(), &head.seq.to_le_bytes(), &segment.to_le_bytes(), &head.hash])
}

/// What a folder's file tells: of chains, how far they had come at least. A place that cannot be read, or was made
/// with another key, tells nothing.
pub(super) fn read(folder: &Path, key: &Key) -> Vec<Noted> {
    places(folder, key).into_iter().flatten().collect()
}

fn places(folder: &Path, key: &Key) -> [Option<Noted>; 2] {
    let bytes = fs::read(folder.join(NAME)).unwrap_or_default();
    [0, 1].map(|place| parse(bytes.get(place * PLACE..(place + 1) * PLACE)?, key))
}

fn parse(place: &[u8], key: &Key) -> Option<Noted> {
    let mut words = std::str::from_utf8(place).ok()?.trim_end().split(' ');
    let chain: Uuid = words.next()?.parse().ok()?;
    let (seq, segment) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let noted = Noted { chain, head: Head { seq, hash: unhex(words.next()?)? }, segment };
    (unhex(words.next()?) == Some(proof(key, noted))).then_some(noted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_are_told_and_one_of_them_is_whole_whatever_is_cut() {
        let (folder, key, chain) = (tempfile::tempdir().unwrap(), Key::new(b"k"), Uuid::new_v4());
        let noted =
            |seq: u64| Noted { chain, head: Head { seq, hash: [seq as u8; 32] }, segment: 1 + seq / 5 };
        let told = || {
            let mut all: Vec<u64> = read(folder.path(), &key).iter().map(|noted| noted.head.seq).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(told(), [0; 0]);
        let mut mark = Watermark::open(folder.path(), &key).unwrap();
        for seq in [1, 5, 9] {
            mark.set(&key, noted(seq)).unwrap();
        }
        assert_eq!(told(), [5, 9]);
        // Another process writes over the lower one.
        let mut mark = Watermark::open(folder.path(), &key).unwrap();
        mark.set(&key, noted(12)).unwrap();
        assert_eq!(told(), [9, 12]);
        assert_eq!(read(folder.path(), &key), [noted(9), noted(12)]);
        assert_eq!(read(folder.path(), &Key::new(b"another")), [], "it was made with another key");
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] = b'?';
            fs::write(&path, &changed).unwrap();
            assert!(!told().is_empty(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(told().iter().all(|seq| [9, 12].contains(seq)));
        }
    }
}
