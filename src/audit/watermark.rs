//! How far the journal had come, and how far the database, in a file of its own beside the journal.
//!
//! The end of a journal that a crash cut off looks much like one that
//! somebody cut off, or where a bit of the last record was flipped. So the
//! number and the link of the last record that is on the disk are written here:
//! a moment after it, at most [`NOTED_EVERY`](super::keeper) later, and at the
//! end of the process. What is up to there was promised, and if it is gone that
//! was no crash. It is written after those who wait for their records have been
//! told, and nobody waits for it. With them stands the newest segment's number,
//! and that is written when a segment is begun, before anybody is told of a
//! record in it: a segment that is gone as a whole is missed. Whoever moves
//! records into the database notes here how far that has come, as soon as it
//! has: what is gone from both is missed as well. Each of the two has two
//! places, used in turn, so that one of them is whole whenever the machine stops.
//!
//! A start writes all four places, with one write. So each is whole from then
//! on, also after `kill -9`, since a write within a page is done or not. One that
//! is not was changed, or the machine stopped while the disk wrote two of its
//! sectors: nobody can tell which, and what it told of may be gone.
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

/// What a note is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// What is on the disk.
    Journal,
    /// What the database has.
    Database,
}

impl Of {
    /// Its first place.
    fn first(self) -> u64 {
        match self {
            Self::Journal => 0,
            Self::Database => 2,
        }
    }
}

/// How far a journal had come at least, or the database with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// Its chain.
    pub(super) chain: Uuid,
    /// The last record that was on the disk.
    pub(super) head: Head,
    /// The newest segment's number; 0 while there was none.
    pub(super) segment: u64,
}

/// What a folder's file tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Of chains, how far they had come at least, and how far the database.
    pub(super) noted: Vec<Noted>,
    /// How far the database had come at least.
    pub(super) filed: Option<Noted>,
    /// Places that cannot be read. With all of them the file tells nothing, or was made with another key.
    pub(super) unreadable: usize,
}

/// Notes how far one of the two has come. Each has one writer.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    of: Of,
    /// Which of the two places is next.
    next: u64,
}

impl Watermark {
    /// Opens the file, or makes it.
    pub(super) fn open(folder: &Path, key: &Key, of: Of) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(folder.join(NAME))?;
        // The one that tells less is written first.
        let bytes = fs::read(folder.join(NAME))?;
        let told = places(&bytes, key, of).map(|place| place.map(|noted| (noted.segment, noted.head.seq)));
        Ok(Self { file, of, next: u64::from(told[0] > told[1]) })
    }

    /// Writes all places anew, brings them to the disk, and opens both.
    pub(super) fn begin(folder: &Path, key: &Key, journal: Noted, database: Noted) -> io::Result<[Self; 2]> {
        let both = [Self::open(folder, key, Of::Journal)?, Self::open(folder, key, Of::Database)?];
        let [journal, database] = [place(key, Of::Journal, journal), place(key, Of::Database, database)]
            .map(|place| place.repeat(2));
        both[0].file.write_all_at((journal + &database).as_bytes(), 0)?;
        both[0].sync()?;
        Ok(both)
    }

    /// Says that a chain's records are there, up to one of them, and which segment was begun.
    pub(super) fn set(&mut self, key: &Key, noted: Noted) -> io::Result<()> {
        let text = place(key, self.of, noted);
        self.file.write_all_at(text.as_bytes(), (self.of.first() + self.next) * PLACE as u64)?;
        self.next = 1 - self.next;
        Ok(())
    }

    /// Brings it to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A place as it is written.
fn place(key: &Key, of: Of, noted: Noted) -> String {
    let Noted { chain, head, segment } = noted;
    let (hash, proof) = (hex(&head.hash), hex(&proof(key, of, noted)));
    format!("{chain} {:020} {segment:020} {hash} {proof}\n", head.seq)
}

fn proof(key: &Key, of: Of, Noted { chain, head, segment }: Noted) -> [u8; 32] {
    let what: &[u8] = match of {
        Of::Journal => b"watermark 2",
        Of::Database => b"filed 2",
    };
    key.mac(&[what, chain.as_bytes(), &head.seq.to_le_bytes(), &segment.to_le_bytes(), &head.hash])
}

/// What a folder's file tells. A place that cannot be read, or was made with another key, tells nothing, and is
/// counted. While a gateway writes, one may be read that is half written: who finds any reads again.
pub(super) fn read(folder: &Path, key: &Key) -> Told {
    let bytes = fs::read(folder.join(NAME)).unwrap_or_default();
    let [journal, database] = [Of::Journal, Of::Database].map(|of| places(&bytes, key, of));
    let filed = database.into_iter().flatten().filter(|noted| noted.head.seq > 0);
    let filed = filed.max_by_key(|noted| (noted.segment, noted.head.seq));
    let all = journal.into_iter().chain(database);
    let unreadable = if bytes.is_empty() { 0 } else { all.clone().filter(Option::is_none).count() };
    Told { noted: all.flatten().collect(), filed, unreadable }
}

fn places(bytes: &[u8], key: &Key, of: Of) -> [Option<Noted>; 2] {
    [0, 1].map(|place| {
        let at = (of.first() as usize + place) * PLACE;
        parse(bytes.get(at..at + PLACE)?, key, of)
    })
}

fn parse(place: &[u8], key: &Key, of: Of) -> Option<Noted> {
    let mut words = std::str::from_utf8(place).ok()?.strip_suffix('\n')?.split(' ');
    let chain: Uuid = words.next()?.parse().ok()?;
    let (seq, segment) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let noted = Noted { chain, head: Head { seq, hash: unhex(words.next()?)? }, segment };
    (unhex(words.next()?) == Some(proof(key, of, noted))).then_some(noted)
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
            let mut all: Vec<u64> =
                read(folder.path(), &key).noted.iter().map(|noted| noted.head.seq).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(told(), [0; 0]);
        let mut mark = Watermark::open(folder.path(), &key, Of::Journal).unwrap();
        for seq in [1, 5, 9] {
            mark.set(&key, noted(seq)).unwrap();
        }
        assert_eq!(told(), [5, 9]);
        // Another process writes over the lower one.
        let mut mark = Watermark::open(folder.path(), &key, Of::Journal).unwrap();
        mark.set(&key, noted(12)).unwrap();
        assert_eq!(told(), [9, 12]);
        assert_eq!(read(folder.path(), &key).noted, [noted(9), noted(12)]);
        assert_eq!(read(folder.path(), &Key::new(b"another")).noted, [], "it was made with another key");
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

    #[test]
    fn the_journal_and_the_database_have_places_of_their_own() {
        let (folder, key, chain) = (tempfile::tempdir().unwrap(), Key::new(b"k"), Uuid::new_v4());
        let noted = |seq: u64| Noted { chain, head: Head { seq, hash: [seq as u8; 32] }, segment: 1 };
        // One that was never written leaves zeros before those that were.
        let mut database = Watermark::open(folder.path(), &key, Of::Database).unwrap();
        let filed = || read(folder.path(), &key).filed;
        assert_eq!(filed(), None);
        assert_eq!(read(folder.path(), &key).noted, []);
        database.set(&key, noted(0)).unwrap();
        assert_eq!(filed(), None, "it has none yet");
        database.set(&key, noted(3)).unwrap();
        let mut journal = Watermark::open(folder.path(), &key, Of::Journal).unwrap();
        for seq in [4, 5, 6] {
            journal.set(&key, noted(seq)).unwrap();
        }
        let told: Vec<u64> = read(folder.path(), &key).noted.iter().map(|noted| noted.head.seq).collect();
        assert_eq!((told, filed()), (vec![6, 5, 0, 3], Some(noted(3))));
        // What is said of the one is not said of the other.
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.copy_within(..PLACE, 2 * PLACE);
        fs::write(&path, bytes).unwrap();
        assert_eq!(filed(), Some(noted(3)));
    }

    #[test]
    fn all_is_whole_from_the_start_on_and_what_is_not_is_counted() {
        let (folder, key, chain) = (tempfile::tempdir().unwrap(), Key::new(b"k"), Uuid::new_v4());
        let noted = |seq: u64| Noted { chain, head: Head { seq, hash: [seq as u8; 32] }, segment: 1 };
        let told = || read(folder.path(), &key);
        assert_eq!((told().noted.len(), told().unreadable), (0, 0), "there is none");
        let path = folder.path().join(NAME);
        fs::write(&path, b"").unwrap();
        assert_eq!(told().unreadable, 0, "it was made, and the process ended");
        let [mut journal, mut database] = Watermark::begin(folder.path(), &key, noted(7), noted(3)).unwrap();
        assert_eq!((told().noted, told().unreadable), (vec![noted(7), noted(7), noted(3), noted(3)], 0));
        journal.set(&key, noted(8)).unwrap();
        database.set(&key, noted(4)).unwrap();
        assert_eq!((told().filed, told().unreadable), (Some(noted(4)), 0));
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 4 * PLACE);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert_eq!((told().noted.len(), told().unreadable), (3, 1), "{at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(told().unreadable, if at == 0 { 0 } else { 4 - at / PLACE }, "{at}");
        }
        let mut zeroed = whole.clone();
        zeroed[..PLACE].fill(0);
        fs::write(&path, &zeroed).unwrap();
        assert_eq!(told().unreadable, 1);
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(folder.path(), &Key::new(b"another")).unreadable, 4);
    }
}
