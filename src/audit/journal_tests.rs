use super::*;
use crate::audit::{
    chain::Key,
    frame::{Content, Kind},
};
use proptest::prelude::*;

fn open(folder: &Path) -> io::Result<(Journal, usize)> {
    Journal::open(Lock::of(folder)?)
}

/// The records after `head`, so many, and where the chain stands then.
fn records(key: &Key, mut head: Head, count: u64, text: &str) -> (Vec<u8>, Head) {
    let mut out = Vec::new();
    for _ in 0..count {
        let content = Content { salt: [1; 16], text: text.as_bytes() };
        let mut frame = Frame {
            kind: Kind::Call,
            seq: head.seq + 1,
            at: 0,
            user: [0; 16],
            tenant: "t",
            request: "r",
            meta: b"{",
            content: Some(content),
            content_hash: content.hash(),
            hash: [0; 32],
        };
        frame.hash = frame.link(key, &head.hash);
        head = Head { seq: frame.seq, hash: frame.hash };
        frame.write(&mut out);
    }
    (out, head)
}

fn add(journal: &mut Journal, count: u64) {
    let (bytes, head) = records(&Key::new(b"k"), journal.head(), count, "hello");
    journal.append(&bytes, head).unwrap();
}

fn read(folder: &Path) -> Vec<u64> {
    let found = segments(folder).unwrap().into_iter();
    let segments = found.filter_map(|(_, path)| Segment::read(&path).unwrap());
    segments.flat_map(|segment| segment.frames(0).map(|(frame, _)| frame.seq).collect::<Vec<_>>()).collect()
}

#[test]
fn it_goes_on_where_it_stopped_and_nobody_else_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, torn) = open(folder.path()).unwrap();
    assert_eq!(torn, 0);
    add(&mut journal, 3);
    assert!(open(folder.path()).is_err(), "two have it open");
    let (chain, head) = (journal.chain(), journal.head());
    drop(journal);
    let (mut journal, torn) = open(folder.path()).unwrap();
    assert_eq!((journal.chain(), journal.head(), torn), (chain, head, 0));
    add(&mut journal, 2);
    assert_eq!((journal.head().seq, read(folder.path())), (5, vec![1, 2, 3, 4, 5]));
}

#[test]
fn a_segment_that_is_full_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    let text = "x".repeat(1 << 20);
    for _ in 0..9 {
        let (bytes, head) = records(&Key::new(b"k"), journal.head(), 1, &text);
        while let Err(error) = journal.append(&bytes, head) {
            assert_eq!(
                error.kind(),
                io::ErrorKind::WouldBlock,
                "only the thread that makes one is waited for"
            );
            thread::yield_now();
        }
        journal.look_ahead();
    }
    assert_eq!(read(folder.path()), (1..=9).collect::<Vec<_>>());
    assert_eq!(journal.number(), 3);
}

#[test]
fn what_stands_behind_damage_is_told_and_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    add(&mut journal, 8);
    drop(journal);
    let (_, path) = segments(folder.path()).unwrap().pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let segment = |bytes: &[u8]| Segment::parse(bytes.to_vec()).unwrap();
    assert_eq!(segment(&whole).end(u64::MAX).1, Rest::Nothing);
    let third = segment(&whole).frames(0).nth(1).unwrap().1;
    let mut flipped = whole;
    flipped[third + 40] ^= 1;
    assert_eq!(segment(&flipped).end(u64::MAX).1, Rest::Changed { last: 8 });
    assert_eq!(segment(&flipped).end(2).1, Rest::Changed { last: 3 }, "what follows was never promised");
    fs::write(&path, &flipped).unwrap();
    let (journal, torn) = open(folder.path()).unwrap();
    assert_eq!((torn, journal.head().seq), (0, 2));
    let aside = damaged(folder.path()).unwrap().pop().unwrap();
    assert_eq!(fs::read(aside).unwrap(), flipped);
}

#[test]
fn an_end_that_was_cut_at_any_byte_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    add(&mut journal, 2);
    let from = journal.active.as_ref().unwrap().at;
    let two = journal.head();
    add(&mut journal, 1);
    let to = journal.active.as_ref().unwrap().at;
    drop(journal);
    let place = path(folder.path(), 1);
    // With some of the zeros that follow.
    let mut whole = fs::read(&place).unwrap();
    whole.truncate(to + 100);
    for cut in from..to {
        // What was not written is zeros, or not there at all.
        for mut bytes in [whole.clone(), whole[..cut].to_vec()] {
            bytes.iter_mut().skip(cut).for_each(|byte| *byte = 0);
            let segment = Segment::parse(bytes).unwrap();
            assert_eq!(segment.end(u64::MAX).0, two, "cut at {cut}");
        }
    }
    fs::write(&place, &whole[..to - 1]).unwrap();
    let (mut journal, torn) = open(folder.path()).unwrap();
    assert_eq!((journal.head(), torn), (two, to - 1 - from));
    add(&mut journal, 1);
    assert_eq!(read(folder.path()), [1, 2, 3], "another record has the number now");
}

#[test]
fn a_bit_of_the_last_record_that_is_flipped_is_no_end_that_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    add(&mut journal, 2);
    let from = journal.active.as_ref().unwrap().at;
    // Over some sectors, so that a part of it could have been written.
    let (bytes, head) = records(&Key::new(b"k"), journal.head(), 1, &"words ".repeat(300));
    journal.append(&bytes, head).unwrap();
    let to = journal.active.as_ref().unwrap().at;
    drop(journal);
    let mut whole = fs::read(path(folder.path(), 1)).unwrap();
    whole.truncate(to + 2 * SECTOR);
    let rest = |bytes: Vec<u8>| Segment::parse(bytes).unwrap().end(u64::MAX).1;
    for at in (from..to).step_by(7).chain(from..from + 60).chain(to - 5..to) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        match rest(flipped) {
            Rest::Changed { last: 3 } => {}
            // Its length: nobody knows what it was.
            Rest::Torn { last: 3, .. } if at < from + 4 => {}
            other => panic!("byte {at}: {other:?}"),
        }
    }
    // A machine that stops writes some of its sectors.
    let sectors = (from.next_multiple_of(SECTOR)..to).step_by(SECTOR);
    assert!(sectors.clone().count() > 2);
    for cut in sectors {
        let mut front = whole.clone();
        front[cut..to].fill(0);
        let mut hole = whole.clone();
        hole[cut..to.min(cut + SECTOR)].fill(0);
        for torn in [front, hole, whole[..cut].to_vec()] {
            let rest = rest(torn);
            assert!(matches!(rest, Rest::Torn { last: 3, .. }), "cut at {cut}: {rest:?}");
        }
    }
    let mut nothing = whole.clone();
    nothing[from..to].fill(0);
    assert_eq!(rest(nothing), Rest::Nothing);
}

#[test]
fn what_was_made_and_never_begun_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    add(&mut journal, 1);
    let head = journal.head();
    drop(journal);
    fs::write(path(folder.path(), 2), vec![0; 100]).unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    assert_eq!(journal.head(), head);
    assert!(!path(folder.path(), 2).exists());
}

#[test]
fn a_segment_whose_head_is_damaged_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    add(&mut journal, 1);
    drop(journal);
    let place = path(folder.path(), 1);
    let mut bytes = fs::read(&place).unwrap();
    bytes[20] ^= 1;
    fs::write(&place, &bytes).unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    assert_eq!((journal.head().seq, damaged(folder.path()).unwrap().len()), (0, 1));
}

#[test]
fn of_many_segments_the_start_reads_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path()).unwrap();
    for _ in 0..3 {
        add(&mut journal, 2);
        journal.turn().unwrap();
    }
    add(&mut journal, 1);
    let head = journal.head();
    drop(journal);
    // Whatever became of the others: who moves their records finds it, and says so.
    let place = path(folder.path(), 2);
    let whole = fs::read(&place).unwrap();
    fs::write(&place, &whole[..HEAD + 10]).unwrap();
    let (mut journal, torn) = open(folder.path()).unwrap();
    assert_eq!((journal.head(), torn), (head, 0));
    add(&mut journal, 1);
    fs::write(&place, whole).unwrap();
    assert_eq!(read(folder.path()), (1..=8).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn any_bytes_are_a_segment_or_none(bytes in prop::collection::vec(any::<u8>(), 0..500), begun in any::<bool>()) {
        let mut segment = Vec::new();
        if begun {
            segment.extend_from_slice(MAGIC);
            segment.extend_from_slice(&[0; 16]);
            segment.extend_from_slice(&1_u64.to_le_bytes());
            segment.extend_from_slice(&[0; 32]);
            let sum = crc32fast::hash(&segment);
            segment.extend_from_slice(&sum.to_le_bytes());
        }
        segment.extend_from_slice(&bytes);
        if let Some(segment) = Segment::parse(segment) {
            prop_assert!(segment.end(u64::MAX).0.seq <= bytes.len() as u64);
        }
    }
}
