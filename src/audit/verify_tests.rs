use std::{fs, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use super::*;
use crate::{
    audit::{
        TABLES,
        archive::Block,
        chain::hex,
        erase::{Cut, Erasure, meta},
        export::{Filter, export_listed},
        frame::{Content, Frame, Kind, frames},
        journal::{Head, Journal},
        lock::Lock,
        watermark::Watermark,
    },
    observe::Metrics,
    store::{self, sql::Sql},
};

/// A journal and a database.
struct Place {
    folder: tempfile::TempDir,
    archive: Archive,
    journal: Journal,
    /// What was written, in one piece.
    bytes: Vec<u8>,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = store::Settings { sqlite: folder.path().join("db"), ..store::Settings::default() };
        let sql = Sql::open(&stores, &[TABLES], &Metrics::new().unwrap()).await.unwrap();
        let archive = Archive::new(sql, Arc::new(Key::new(b"k")));
        let (journal, _) = Journal::open(Lock::of(&folder.path().join("audit")).unwrap()).unwrap();
        Self { folder, archive, journal, bytes: Vec::new() }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    fn segment(&self, number: u64) -> PathBuf {
        journal::path(&self.journal(), number)
    }

    /// Writes a record into the journal.
    fn write(&mut self, kind: Kind, meta: &[u8]) {
        let (bytes, head) = record(self.archive.key(), self.journal.head(), kind, meta);
        self.journal.append(&bytes, head).unwrap();
        self.bytes.extend(bytes);
    }

    fn calls(&mut self, count: usize) {
        (0..count).for_each(|_| self.write(Kind::Call, b"{\"a\":1"));
    }

    /// Moves records into the database, as one block.
    async fn file(&self, from: u64, to: u64) {
        let chain = self.archive.number(self.journal.chain()).await.unwrap();
        self.archive.add(chain, vec![block(&self.bytes, from, to)]).await.unwrap();
    }

    fn note(&self) {
        let (chain, head, segment) = (self.journal.chain(), self.journal.head(), self.journal.number());
        let noted = Noted { chain, head, segment };
        let filed = Noted { head: Head::default(), ..noted };
        Watermark::begin(&self.journal(), self.archive.key(), noted, filed).unwrap();
    }

    /// Checks all, and does something each time the segments were listed; tells how many records there are, and what is
    /// wrong or in doubt.
    async fn verify(&self, mut then: impl FnMut(usize) + Send) -> (u64, Vec<String>) {
        let (folder, mut times) = (self.journal(), 0);
        let mut list = || -> io::Result<_> {
            let listed = journal::segments(&folder)?;
            times += 1;
            then(times);
            Ok(listed)
        };
        let reports = verify_listed(&self.archive, Some(&self.journal()), &[], &mut list).await.unwrap();
        let records = reports.iter().map(|report| report.records).sum();
        (records, reports.into_iter().flat_map(|report| [report.faults, report.doubts].concat()).collect())
    }
}

fn record(key: &Key, before: Head, kind: Kind, meta: &[u8]) -> (Vec<u8>, Head) {
    let content = Content { salt: [1; 16], text: b",\"b\":2" };
    let mut frame = Frame {
        kind,
        seq: before.seq + 1,
        at: 5,
        user: [7; 16],
        tenant: "t",
        request: "r",
        meta,
        content: Some(content),
        content_hash: content.hash(),
        hash: [0; 32],
    };
    frame.hash = frame.link(key, &before.hash);
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    (bytes, Head { seq: frame.seq, hash: frame.hash })
}

fn block(bytes: &[u8], from: u64, to: u64) -> Block {
    let mut block = Block::default();
    for (_, frame) in frames(bytes).filter(|(_, frame)| (from..=to).contains(&frame.seq)) {
        let mut one = Vec::new();
        frame.write(&mut one);
        block.take(&frame, &one);
    }
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_removed_while_it_is_looked_for_hides_nothing_behind_it() {
    // As a start does: it goes on in a segment of its own, and what the one before it held is moved. The pass may see
    // it in the database or not, and the second segment's records are in the database or not.
    for (moved_before, moved_after) in [((1, 3), None), ((1, 2), Some((3, 3))), ((1, 3), Some((4, 5)))] {
        let mut place = Place::new().await;
        place.calls(3);
        place.journal.turn().unwrap();
        place.calls(2);
        place.note();
        place.file(moved_before.0, moved_before.1).await;
        let runtime = tokio::runtime::Handle::current();
        let first = place.segment(1);
        let remove = |times| {
            // The first is for the chains' names; the second for the walk.
            if times == 2 {
                if let Some((from, to)) = moved_after {
                    std::thread::scope(|scope| {
                        scope.spawn(|| runtime.block_on(place.file(from, to)));
                    });
                }
                fs::remove_file(&first).unwrap();
            }
        };
        let found = place.verify(remove).await;
        assert_eq!(found, (5, vec![]), "{moved_before:?} {moved_after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_moved_while_records_are_exported_is_exported() {
    let mut place = Place::new().await;
    place.calls(3);
    place.journal.turn().unwrap();
    place.calls(2);
    place.file(1, 2).await;
    let (runtime, mut times) = (tokio::runtime::Handle::current(), 0);
    let mut list = || {
        let listed = journal::segments(&place.journal());
        times += 1;
        if times == 1 {
            std::thread::scope(|scope| {
                scope.spawn(|| runtime.block_on(place.file(3, 3)));
            });
            fs::remove_file(place.segment(1))?;
        }
        listed
    };
    let mut out = Vec::new();
    let count = export_listed(&place.archive, &Filter::default(), &mut out, &mut list).await.unwrap();
    let lines = String::from_utf8(out).unwrap();
    let seqs: Vec<_> = (1..=5).map(|seq| lines.matches(&format!("\"seq\":{seq},")).count()).collect();
    assert_eq!((count, seqs), (5, vec![1; 5]), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_listed_and_never_there_is_looked_for_once() {
    let mut place = Place::new().await;
    place.calls(3);
    place.journal.turn().unwrap();
    place.calls(2);
    place.note();
    let first = place.segment(1);
    fs::remove_file(&first).unwrap();
    std::os::unix::fs::symlink("nowhere", &first).unwrap();
    let (records, told) = place.verify(|_| {}).await;
    assert!(records == 2 && told[0].contains("records before 4 are missing"), "{records} {told:?}");
    // Nor is one whose records the database has, nor one that would be the newest.
    place.file(1, 3).await;
    std::os::unix::fs::symlink("nowhere", place.segment(9)).unwrap();
    assert_eq!(place.verify(|_| {}).await, (5, vec![]));
    let file = fs::OpenOptions::new().write(true).open(place.segment(2)).unwrap();
    file.write_all_at(b"torn", 4000).unwrap();
    let (records, told) = place.verify(|_| {}).await;
    assert!(records == 5 && told.len() == 1 && told[0].contains("record 6 cannot be read"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_read_is_of_no_account_once_the_next_segment_is_begun() {
    let mut place = Place::new().await;
    place.calls(3);
    // It was being written when the gateway was killed.
    let (torn, _) = record(place.archive.key(), place.journal.head(), Kind::Call, &[b'{'; 2000]);
    let file = fs::OpenOptions::new().write(true).open(place.segment(1)).unwrap();
    file.write_all_at(&torn[..1000], 76 + place.bytes.len() as u64).unwrap();
    place.note();
    let (_, told) = place.verify(|_| {}).await;
    assert!(told.len() == 1 && told[0].contains("record 4 cannot be read (1000 bytes)"), "{told:?}");
    // The next start goes on, just then.
    place.journal.turn().unwrap();
    place.calls(1);
    let old = journal::segments(&place.journal()).unwrap();
    let (folder, mut times) = (place.journal(), 0);
    let mut list = || {
        times += 1;
        if times < 3 { Ok(old[..1].to_vec()) } else { journal::segments(&folder) }
    };
    let reports = verify_listed(&place.archive, Some(&folder), &[], &mut list).await.unwrap();
    let told: Vec<_> = reports.iter().map(|report| (report.records, report.wrong, &report.doubts)).collect();
    assert_eq!(told, [(4, 0, &vec![])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_while_old_records_are_removed_misses_none_that_stay() {
    let mut place = Place::new().await;
    place.calls(6);
    let (_, sixth) = frames(&place.bytes).last().unwrap();
    let (chain, hash) = (place.journal.chain(), hex(&sixth.hash));
    place.calls(2);
    place.write(Kind::Cut, &meta(&Cut { cut: chain, through: 6, hash }));
    place.note();
    // What was read before, and what is there now.
    place.file(1, 2).await;
    place.file(7, 9).await;
    fs::remove_file(place.segment(1)).unwrap();
    place.journal.turn().unwrap();
    assert_eq!(place.verify(|_| {}).await, (5, vec![]));
    // More is gone than that.
    let id = place.archive.number(chain).await.unwrap();
    place.archive.remove(id, 9).await.unwrap();
    place.file(1, 2).await;
    place.file(8, 9).await;
    let (_, told) = place.verify(|_| {}).await;
    assert_eq!(told, ["records 3 to 7 are missing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_in_one_chain_may_be_told_of_in_one_that_was_read_before() {
    let mut place = Place::new().await;
    place.calls(2);
    let first = place.journal.chain();
    place.file(1, 2).await;
    // Another gateway's.
    let mut other = Journal::open(Lock::of(&place.folder.path().join("other")).unwrap()).unwrap().0;
    other.begin_anew();
    let (bytes, head) = record(place.archive.key(), Head::default(), Kind::Call, b"{\"a\":1");
    other.append(&bytes, head).unwrap();
    let second = place.archive.number(other.chain()).await.unwrap();
    place.archive.add(second, vec![block(&bytes, 1, 1)]).await.unwrap();
    place.note();
    let erasure =
        Erasure { erasure: Uuid::new_v4(), tenant: "t".into(), user: hex(&[7; 16]), until: 6, records: 1 };
    let (told, _) = record(place.archive.key(), place.journal.head(), Kind::Erasure, &meta(&erasure));
    let runtime = tokio::runtime::Handle::current();
    let erase = || async {
        let add = "INSERT INTO audit_erasures (id, tenant, usr, until, done) VALUES ($1, 't', $2, 6, 7)";
        let add = sqlx::query(add).bind(erasure.erasure.to_string()).bind(&*erasure.user);
        add.execute(place.archive.sql().pool()).await.unwrap();
        let id = place.archive.number(first).await.unwrap();
        place.archive.add(id, vec![block(&told, 3, 3)]).await.unwrap();
        let (number, old) = place.archive.next(second, 0).await.unwrap().unwrap();
        let (_, frame) = frames(&old).next().unwrap();
        let mut without = Vec::new();
        Frame { content: None, ..frame }.write(&mut without);
        assert!(place.archive.put(second, number, &old, &without).await.unwrap());
    };
    let found = place.verify(|times| {
        // The second is for the first chain's walk, the third for the other's.
        if times == 3 {
            std::thread::scope(|scope| {
                scope.spawn(|| runtime.block_on(erase()));
            });
        }
    });
    assert_eq!(found.await, (3, vec![]));
}
