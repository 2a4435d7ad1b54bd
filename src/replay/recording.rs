//! What an answer has said: written by one, read by any number, bounded.
//!
//! It holds server-sent events as they were spelled, one after the other in one
//! piece of memory. An event ends with an empty line and has none within, so
//! that events are found again by counting: nothing is kept beside the text.
use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::room::Share;

/// What is kept of a recording while its tenant's take too much, in bytes.
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

/// What an answer has said so far.
#[derive(Debug)]
pub struct Recording {
    state: Mutex<State>,
    limit: usize,
    share: Arc<Share>,
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
    /// Whether it only copies: a writer does not wait for it.
    copies: bool,
    waker: Option<Waker>,
}

/// Where a piece stands: what was said before it, in bytes and in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// In bytes.
    pub at: u64,
    /// In events.
    pub events: u64,
}

impl Start {
    /// Goes on behind a piece.
    pub fn go_on(&mut self, piece: &[u8]) {
        self.at += piece.len() as u64;
        self.events += blocks(piece).filter(|(_, is_event)| *is_event).count() as u64;
    }

    /// As it is written before a piece that answers a request.
    pub fn packed(&self, request: &str) -> Vec<u8> {
        let request = &request.as_bytes()[..request.len().min(usize::from(u8::MAX))];
        let length = [request.len() as u8];
        [&self.at.to_le_bytes()[..], &self.events.to_le_bytes(), &length, request].concat()
    }

    /// Reads what was written before a piece, the request, and the piece.
    pub fn unpacked(text: &[u8]) -> Option<(Self, &str, &[u8])> {
        let number = |from: usize| Some(u64::from_le_bytes(text.get(from..from + 8)?.try_into().ok()?));
        let end = 17 + usize::from(*text.get(16)?);
        let request = std::str::from_utf8(text.get(17..end)?).ok()?;
        Some((Self { at: number(0)?, events: number(8)? }, request, &text[end..]))
    }
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
        let readers = || self.readers.iter().filter(|place| !place.copies);
        let slowest = readers().map(|place| place.at).min();
        Seen { readers: readers().count(), slowest: slowest.unwrap_or_else(|| self.end()) }
    }

    fn wake(&mut self) {
        self.readers.iter_mut().filter_map(|place| place.waker.take()).for_each(Waker::wake);
    }
}

impl Recording {
    /// An empty recording of at most `limit` bytes: of more, the end. With
    /// `waiting`, nothing is dropped that a reader has not read: the writer
    /// asks for [`room`](Self::room).
    pub fn new(limit: usize, share: Arc<Share>, waiting: bool) -> Self {
        let seen = waiting.then(|| watch::Sender::new(Seen::default()));
        Self { state: Mutex::default(), limit, share, seen }
    }

    /// A recording that goes on where another one was heard first.
    pub fn seeded(limit: usize, share: Arc<Share>, start: Start) -> Self {
        let this = Self::new(limit, share, false);
        {
            let mut state = this.state.lock();
            (state.begin, state.dropped) = (start.at, start.events);
        }
        this
    }

    fn limit(&self) -> usize {
        if self.share.is_over() { self.limit.min(TAIL) } else { self.limit }
    }

    /// Writes whole events.
    pub fn append(&self, events: &[u8]) {
        let mut state = self.state.lock();
        state.text.extend_from_slice(events);
        self.share.take(events.len());
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
        self.share.give_back(cut);
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

    /// How many events were dropped at the front.
    pub fn first(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Whether nothing is left to be read from `at` on, and nothing more comes.
    pub fn is_read(&self, at: u64) -> bool {
        let state = self.state.lock();
        state.over && at >= state.end()
    }

    /// Reads from `at` on.
    pub fn read(self: &Arc<Self>, at: u64) -> Reader {
        self.reader(&mut self.state.lock(), at, false)
    }

    /// Copies all that is there and all that comes, unseen by the writer.
    pub fn copied(self: &Arc<Self>) -> (Reader, Start) {
        let mut state = self.state.lock();
        let start = Start { at: state.begin, events: state.dropped };
        (self.reader(&mut state, start.at, true), start)
    }

    fn reader(self: &Arc<Self>, state: &mut State, at: u64, copies: bool) -> Reader {
        let id = state.next;
        state.next += 1;
        state.readers.push(Place { id, at, copies, waker: None });
        self.tell(state);
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
        self.state.lock().seen().readers > 0
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.share.give_back(self.state.get_mut().text.len());
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
            // Whole events: who reads in pieces counts them.
            let cut = memchr::memmem::rfind(&rest[..rest.len().min(PIECE)], EVENT_END);
            let piece = Bytes::copy_from_slice(&rest[..cut.map_or(rest.len(), |at| at + EVENT_END.len())]);
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
mod tests;
