//! What recordings promise.
use std::future::poll_fn;

use proptest::prelude::*;

use super::*;
use crate::replay::room::Budget;

/// An event; before some stands a comment.
fn event(index: u64) -> String {
    let comment = if index % 5 == 3 { ": a comment\n\n" } else { "" };
    format!("{comment}id: {index}\ndata: {}\n\n", "x".repeat((index % 7) as usize))
}

fn recording(limit: usize, waiting: bool) -> Arc<Recording> {
    Arc::new(Recording::new(limit, Budget::new(1 << 30).share(), waiting))
}

fn now(reader: &mut Reader) -> Poll<Read> {
    reader.poll(&mut Context::from_waker(Waker::noop()))
}

/// All that is there.
fn all(reader: &mut Reader) -> String {
    let mut text = Vec::new();
    while let Poll::Ready(Read::Piece(piece)) = now(reader) {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

proptest! {
    /// Whatever the pieces and the limit: who goes on after an event that is kept reads each later one once.
    #[test]
    fn every_event_is_followed_by_the_next(pieces in prop::collection::vec(1u64..6, 1..40), limit in 40usize..2000) {
        let recording = recording(limit, false);
        let mut count = 0;
        for size in pieces {
            let text: String = (count + 1..=count + size).map(event).collect();
            recording.append(text.as_bytes());
            count += size;
            prop_assert!(recording.state.lock().text.len() <= limit + limit / 4 + 200);
        }
        recording.finish();
        let dropped = recording.state.lock().dropped;
        for after in 0..=count + 1 {
            let found = recording.after(after);
            prop_assert_eq!(found.is_some(), (dropped..=count).contains(&after));
            if let Some(at) = found {
                let rest: String = (after + 1..=count).map(event).collect();
                let events = |text: String| text.replace(": a comment\n\n", "");
                prop_assert_eq!(events(all(&mut recording.read(at))), events(rest));
                prop_assert_eq!(recording.is_read(at), after == count);
            }
        }
    }
}

#[test]
fn a_copy_in_pieces_is_the_same_and_says_where_each_stands() {
    let recording = recording(200 << 10, false);
    (1..=30_000).for_each(|index| recording.append(event(index).as_bytes()));
    recording.finish();
    let (mut reader, first) = recording.copied();
    assert!(!recording.has_readers() && first.at > 0);
    let (mut start, mut copy, mut pieces) = (first, None, 0);
    while let Poll::Ready(Read::Piece(piece)) = now(&mut reader) {
        let packed = [start.packed("r1"), piece.to_vec()].concat();
        let (at, request, text) = Start::unpacked(&packed).unwrap();
        assert_eq!((at, request), (start, "r1"));
        let copy = copy.get_or_insert_with(|| Recording::seeded(1 << 20, Budget::new(1 << 30).share(), at));
        copy.append(text);
        start.go_on(&piece);
        pieces += 1;
    }
    assert!(pieces > 2);
    let copy = copy.unwrap();
    for event in [0, first.events - 1, first.events, first.events + 1, 29_999, 30_000, 30_001] {
        assert_eq!(copy.after(event), recording.after(event), "{event}");
    }
}

proptest! {
    #[test]
    fn whatever_stands_before_a_piece_is_read_without_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = Start::unpacked(&bytes);
    }
}

#[tokio::test]
async fn a_reader_follows_the_writer_to_the_end() {
    let recording = recording(1 << 20, false);
    let mut reader = recording.read(0);
    let read = tokio::spawn(async move {
        let mut text = String::new();
        while let Read::Piece(piece) = poll_fn(|cx| reader.poll(cx)).await {
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        text
    });
    for index in 1..=50 {
        recording.append(event(index).as_bytes());
        tokio::task::yield_now().await;
    }
    recording.finish();
    assert_eq!(read.await.unwrap(), (1..=50).map(event).collect::<String>());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_drops_nothing_unread_and_has_room_when_it_was_read() {
    let recording = recording(100, true);
    let mut reader = recording.read(0);
    (1..=40).for_each(|index| recording.append(event(index).as_bytes()));
    assert!(timeout(Duration::from_secs(1), recording.room()).await.is_err());
    assert_eq!(all(&mut reader), (1..=40).map(event).collect::<String>());
    recording.room().await;
    recording.append(event(41).as_bytes());
    assert!(recording.state.lock().text.len() < 160);
    assert!(recording.whole().is_none());
}

#[test]
fn a_reader_who_is_too_slow_for_a_writer_that_does_not_wait_is_told() {
    let recording = recording(100, false);
    let mut reader = recording.read(0);
    (1..=40).for_each(|index| recording.append(event(index).as_bytes()));
    assert_eq!(now(&mut reader), Poll::Ready(Read::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_recording_is_abandoned_when_nobody_comes_back_in_time() {
    let recording = recording(100, true);
    let grace = Duration::from_secs(30);
    let reader = recording.read(0);
    let (shared, began) = (recording.clone(), tokio::time::Instant::now());
    let abandoned = tokio::spawn(async move { shared.abandoned(grace).await });
    tokio::time::sleep(Duration::from_secs(100)).await;
    drop(reader);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let back = recording.read(0);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!abandoned.is_finished());
    drop(back);
    abandoned.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 250);
}

#[test]
fn too_much_in_all_leaves_a_tail_of_each_and_the_end_gives_all_back() {
    let budget = Budget::new(100 << 10);
    let share = budget.share();
    let many: Vec<_> = (0..50).map(|_| Recording::new(1 << 20, share.clone(), false)).collect();
    for index in 1..=3000 {
        many.iter().for_each(|recording| recording.append(event(index).as_bytes()));
    }
    assert!(budget.used() <= 50 * (TAIL + TAIL / 4), "{}", budget.used());
    drop(many);
    assert_eq!(budget.used(), 0);
}
