//! What an answer has said: written by one, read by any number, bounded.
//!
//! It holds server-sent events as they were spelled, one after the other in one
//! piece of memory. An event ends with an empty line and has none within, so
//! that events are found again by counting: nothing is kept beside the text.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

/// What is kept of a recording while all of them together take too much, in bytes.
const TAIL: usize = 16 << 10;
/// The most that is read at a time, in bytes.
const PIECE: usize = 64 << 10;
/// What ends an event, and a comment that stands between two.
const EVENT_END: &[u8] = b"\n\n";

/// Where each block of a text ends, and whether it is an event.
fn blocks(text: &[u8]) -> impl Iterator<Item = (usize, bool)> {
    let mut begin = 0;
    memchr::memmem::find_iter(text, EVENT_END).map(move |at| {
        let is_event = text[begin] != b':';
        begin = at + EVENT_END.len();
        (begin, is_event)
    })
}

/// The memory that recordings share.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    /// So many bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0) })
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is in use than should be.
    pub fn is_over(&self) -> bool {
        self.used() > self.max
    }
}

/// What an answer has said so far.
#[derive(Debug)]
pub struct Recording {
    state: Mutex<State>,
    limit: usize,
    budget: Arc<Budget>,
    /// Who reads, for a writer that waits for its readers.
    seen: Option<watch::Sender<Seen>>,
}

#[derive(Debug, Default)]
struct State {
    text: Vec<u8>,
    /// How much was dropped at the front, in bytes and in events.
    begin: u64,
    dropped: u64,
    over: bool,
    readers: Vec<Place>,
    next: u64,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    id: u64,
    at: u64,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    readers: usize,
    slowest: u64,
}

impl State {
    fn end(&self) -> u64 {
        self.begin + self.text.len() as u64
    }

    fn seen(&self) -> Seen {
        let slowest = self.readers.iter().map(|place| place.at).min();
        Seen { readers: self.readers.len(), slowest: slowest.unwrap_or_else(|| self.end()) }
    }

    fn wake(&mut self) {
        self.readers.iter_mut().filter_map(|place| place.waker.take()).for_each(Waker::wake);
    }
}

impl Recording {
    /// An empty recording of at most `limit` bytes: of more, the end. With
    /// `waiting`, nothing is dropped that a reader has not read: the writer
    /// asks for [`room`](Self::room).
    pub fn new(limit: usize, budget: Arc<Budget>, waiting: bool) -> Self {
        let seen = waiting.then(|| watch::Sender::new(Seen::default()));
        Self { state: Mutex::default(), limit, budget, seen }
    }

    fn limit(&self) -> usize {
        if self.budget.is_over() { self.limit.min(TAIL) } else { self.limit }
    }

    /// Writes whole events.
    pub fn append(&self, events: &[u8]) {
        let mut state = self.state.lock();
        state.text.extend_from_slice(events);
        self.budget.used.fetch_add(events.len(), Ordering::Relaxed);
        let limit = self.limit();
        // Not for every event: what stays is moved.
        if state.text.len() > limit + limit / 4 {
            let mut excess = state.text.len() - limit;
            if self.seen.is_some() {
                excess = excess.min((state.seen().slowest - state.begin) as usize);
            }
            self.drop_front(&mut state, excess);
        }
        state.wake();
    }

    /// Drops whole events at the front, at most `excess` bytes.
    fn drop_front(&self, state: &mut State, excess: usize) {
        let (mut events, mut cut) = (0, 0);
        for (end, is_event) in blocks(&state.text[..excess]) {
            (events, cut) = (events + u64::from(is_event), end);
        }
        state.text.drain(..cut);
        state.begin += cut as u64;
        state.dropped += events;
        self.budget.used.fetch_sub(cut, Ordering::Relaxed);
    }

    /// Nothing more comes.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        state.over = true;
        state.text.shrink_to_fit();
        state.wake();
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.state.lock().over
    }

    /// All that was said, unless something of it was dropped.
    pub fn whole(&self) -> Option<Bytes> {
        let state = self.state.lock();
        (state.begin == 0).then(|| Bytes::copy_from_slice(&state.text))
    }

    /// Where the text goes on after `event`, counted from 1; `None` where
    /// there is no such event, or it is no longer kept.
    pub fn after(&self, event: u64) -> Option<u64> {
        let state = self.state.lock();
        let skipped = event.checked_sub(state.dropped)?;
        if skipped == 0 {
            return Some(state.begin);
        }
        let mut events = blocks(&state.text).filter(|(_, is_event)| *is_event);
        let (end, _) = events.nth(usize::try_from(skipped - 1).ok()?)?;
        Some(state.begin + end as u64)
    }

    /// Whether nothing is left to be read from `at` on, and nothing more comes.
    pub fn is_read(&self, at: u64) -> bool {
        let state = self.state.lock();
        state.over && at >= state.end()
    }

    /// Reads from `at` on.
    pub fn read(self: &Arc<Self>, at: u64) -> Reader {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.readers.push(Place { id, at, waker: None });
        self.tell(&state);
        drop(state);
        Reader { recording: self.clone(), id }
    }

    fn tell(&self, state: &State) {
        if let Some(seen) = &self.seen {
            seen.send_replace(state.seen());
        }
    }

    /// Waits until the slowest reader has read enough for more to be written.
    pub async fn room(&self) {
        let Some(seen) = &self.seen else { return };
        let (end, limit) = (self.state.lock().end(), self.limit() as u64);
        let enough = |seen: &Seen| seen.readers == 0 || end.saturating_sub(seen.slowest) <= limit;
        // The sender is ours: it cannot have gone.
        let _ = seen.subscribe().wait_for(enough).await;
    }

    /// Waits until nobody has read for so long.
    pub async fn abandoned(&self, grace: Duration) {
        let Some(seen) = &self.seen else { return std::future::pending().await };
        let mut seen = seen.subscribe();
        loop {
            let _ = seen.wait_for(|seen| seen.readers == 0).await;
            if timeout(grace, seen.wait_for(|seen| seen.readers > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Whether somebody reads.
    pub fn has_readers(&self) -> bool {
        !self.state.lock().readers.is_empty()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.state.get_mut().text.len(), Ordering::Relaxed);
    }
}

/// Somebody who reads a recording, while it is written and afterwards.
#[derive(Debug)]
pub struct Reader {
    recording: Arc<Recording>,
    id: u64,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The next piece.
    Piece(Bytes),
    /// The end.
    End,
    /// What came next is no longer kept: the reader was too slow.
    Lost,
}

impl Reader {
    /// The next piece, when it is there.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        let mut state = self.recording.state.lock();
        let state = &mut *state;
        let Some(place) = state.readers.iter_mut().find(|place| place.id == self.id) else {
            return Poll::Ready(Read::End);
        };
        if place.at < state.begin {
            return Poll::Ready(Read::Lost);
        }
        let rest = &state.text[((place.at - state.begin) as usize).min(state.text.len())..];
        if !rest.is_empty() {
            let piece = Bytes::copy_from_slice(&rest[..rest.len().min(PIECE)]);
            place.at += piece.len() as u64;
            self.recording.tell(state);
            return Poll::Ready(Read::Piece(piece));
        }
        if state.over {
            return Poll::Ready(Read::End);
        }
        place.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.recording.state.lock();
        state.readers.retain(|place| place.id != self.id);
        self.recording.tell(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;

    use super::*;

    /// An event; before some stands a comment.
    fn event(index: u64) -> String {
        let comment = if index % 5 == 3 { ": a comment\n\n" } else { "" };
        format!("{comment}id: {index}\ndata: {}\n\n", "x".repeat((index % 7) as usize))
    }

    fn recording(limit: usize, waiting: bool) -> Arc<Recording> {
        Arc::new(Recording::new(limit, Budget::new(1 << 30), waiting))
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
        let many: Vec<_> = (0..50).map(|_| Recording::new(1 << 20, budget.clone(), false)).collect();
        for index in 1..=3000 {
            many.iter().for_each(|recording| recording.append(event(index).as_bytes()));
        }
        assert!(budget.used() <= 50 * (TAIL + TAIL / 4), "{}", budget.used());
        drop(many);
        assert_eq!(budget.used(), 0);
    }
}
