//! The thread that keeps records: links them, brings them to the disk many at
//! a time, and tells who waits for it.
//!
//! While one batch is on its way the next one gathers. A batch that cannot be
//! written is tried again until it can: those who wait for it are told after
//! a while that it is not there, but a record that was taken is never dropped.
use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    anchor::Anchor,
    chain::Key,
    commit::ALL,
    frame::{Content, Frame},
    journal::{Head, Journal, MOST_AT_ONCE},
    pace::{ENOUGH, Pace},
    queue::{Parts, Queue, Turned},
    watermark::{Noted, Watermark},
    writer::{Shared, Trouble},
};

/// How long who waits for a record is left without an answer while the disk takes none.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked whether the next segment is made.
const SOON: Duration = Duration::from_millis(1);
/// How often it is noted how far the journal has come, while there is more of it. It takes some microseconds.
pub(super) const NOTED_EVERY: Duration = Duration::from_millis(20);
/// How long it is tried when the process ends.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// The thread.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    kept: Option<Kept>,
    pace: Pace,
}

/// What it writes with.
struct Kept {
    journal: Journal,
    key: Key,
    /// The records of a batch as they go to the disk.
    out: Vec<u8>,
    /// Up to where parts of it go, each at one time, and their last record.
    parts: Vec<(usize, Head)>,
    /// When the chain's end was last told, and what it was.
    anchored: (Instant, u64),
    /// Where it is noted how far the journal has come, and when that was last done, and how far it was.
    watermark: Watermark,
    noted: (Instant, u64),
    /// The newest segment of which that was noted.
    segment: u64,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, kept: Option<(Journal, Key, Watermark)>) -> Self {
        let kept = kept.map(|(journal, key, watermark)| {
            let told = (Instant::now(), journal.head().seq);
            let (out, parts) = (Vec::new(), Vec::new());
            Kept { journal, key, out, parts, anchored: told, watermark, noted: told, segment: 0 }
        });
        Self { shared, kept, pace: Pace::default() }
    }

    pub(super) fn run(mut self) {
        let mut batch = Queue::default();
        loop {
            self.look();
            if !self.rest() {
                self.note(true);
                self.anchor(true);
                return;
            }
            {
                let mut queue = self.shared.queue.lock();
                std::mem::swap(&mut batch, &mut queue);
                self.shared.writing.store(batch.len(), Release);
                self.shared.waiting.fetch_sub(batch.len(), AcqRel);
            }
            if let (Some(first), Some(last)) = (batch.entries.first(), batch.entries.last()) {
                let apart = Duration::from_micros(last.at.saturating_sub(first.at).max(0).unsigned_abs());
                let gather = self.shared.format.load().gather;
                self.pace.learn(Instant::now(), batch.len(), apart, gather);
            }
            if !batch.is_empty() {
                self.keep(&mut batch);
                batch.clear();
            }
            self.note(false);
            self.anchor(false);
        }
    }

    /// Looks whether a record could be written, and whether one still can soon.
    fn look(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        let ready = match kept.journal.ready() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.to_string()),
            _ => {
                kept.journal.look_ahead();
                match kept.journal.is_short() {
                    true => Err("there is no room for what comes next".to_owned()),
                    false => Ok(()),
                }
            }
        };
        kept.note_segment();
        tell(&self.shared, ready);
        self.shared.segment.store(kept.journal.number(), Release);
    }

    /// Sleeps until there is something to do, and a moment longer, in which
    /// more may come. Tells whether there can still be something.
    fn rest(&mut self) -> bool {
        let shared = &*self.shared;
        let is_closed = || shared.closed.load(Acquire);
        if shared.queue.lock().is_empty() {
            if is_closed() {
                return false;
            }
            shared.idle.store(true, Release);
            // What came in between has seen `idle` unset: look once more before sleeping.
            if shared.queue.lock().is_empty() && !is_closed() {
                let most = match (&self.kept, shared.is_well(Trouble::Disk)) {
                    (_, false) => AGAIN,
                    (Some(kept), true) if kept.journal.head().seq > kept.noted.1 => {
                        NOTED_EVERY.saturating_sub(kept.noted.0.elapsed())
                    }
                    (_, true) => shared.format.load().anchor_every,
                };
                thread::park_timeout(most);
            }
            shared.idle.store(false, Release);
        }
        let format = shared.format.load();
        let (now, gather, strict) = (Instant::now(), format.gather, format.is_strict());
        drop(format);
        let until = now + gather;
        // Where nobody waits for the disk there is time for more to come.
        let least = match (strict, self.pace.waits(now, gather)) {
            (false, _) => usize::MAX,
            (true, false) => 1,
            (true, true) => ENOUGH,
        };
        shared.enough.store(least, Release);
        loop {
            let waiting = shared.waiting.load(Acquire);
            let left = until.saturating_duration_since(Instant::now());
            // Nobody else is under way whose record could come along.
            let all = waiting >= least && waiting >= shared.taken.load(Relaxed);
            if waiting == 0 || all || left.is_zero() || is_closed() {
                break;
            }
            thread::park_timeout(left);
        }
        shared.enough.store(usize::MAX, Release);
        true
    }

    /// Keeps a batch.
    fn keep(&mut self, batch: &mut Queue) {
        let count = batch.len();
        let there = match &mut self.kept {
            None => count,
            Some(kept) => {
                let before = kept.journal.head().seq;
                kept.link(batch, 0);
                kept.write(&self.shared, batch);
                kept.note_segment();
                (kept.journal.head().seq - before) as usize
            }
        };
        self.shared.metrics.audit_records.inc_by(there as u64);
        let missing = count - there;
        if missing > 0 {
            self.shared.metrics.audit_failures.inc_by(missing as u64);
            tracing::error!(
                records = missing,
                "audit records are lost: the process ends and the disk takes none"
            );
        }
        // First: who is woken may look for a place, or for the record.
        self.shared.taken.fetch_sub(count, Relaxed);
        if let Some(kept) = &self.kept {
            self.shared.durable.store(kept.journal.head().seq, Release);
        }
        self.shared.writing.store(0, Release);
        batch.decide(if missing == 0 { ALL } else { there });
        if let Some(kept) = &mut self.kept {
            for turn in batch.turns.drain(..) {
                kept.turn();
                let (last, segment) = (kept.journal.head().seq, kept.journal.number());
                let _ = turn.send(Turned { last, segment });
            }
            self.shared.segment.store(kept.journal.number(), Release);
            self.shared.more.notify_one();
        }
        self.copy(batch);
        log(&mut batch.log);
    }

    /// Writes the plain copy, for which nobody waits.
    fn copy(&self, batch: &Queue) {
        let Some(file) = &mut *self.shared.copy.lock() else { return };
        let mut lines = Vec::with_capacity(batch.bytes.len() + batch.entries.len());
        for (entry, Parts { meta, content, .. }) in batch.each() {
            let meta = entry.whole(meta);
            [&*meta, content, b"}\n"].iter().for_each(|part| lines.extend_from_slice(part));
        }
        if let Err(error) = file.write_all(&lines) {
            self.shared.metrics.audit_failures.inc_by(batch.entries.len() as u64);
            tracing::error!(%error, records = batch.entries.len(), "`audit.file` could not be written");
        }
    }

    /// Notes how far the journal has come, where it is time and there is more of it.
    fn note(&mut self, now: bool) {
        let Some(kept) = &mut self.kept else { return };
        let (head, (when, seq)) = (kept.journal.head(), kept.noted);
        if head.seq <= seq || !(now || when.elapsed() >= NOTED_EVERY) {
            return;
        }
        kept.note(now);
    }

    /// Tells the chain's end, where it is time and there is something to tell.
    fn anchor(&mut self, now: bool) {
        let Some(kept) = &mut self.kept else { return };
        let (head, (when, seq)) = (kept.journal.head(), kept.anchored);
        if head.seq > seq && (now || when.elapsed() >= self.shared.format.load().anchor_every) {
            kept.anchored = (Instant::now(), head.seq);
            (self.shared.ends.anchored)(Anchor::new(kept.journal.chain(), head));
        }
    }
}

impl Kept {
    /// Notes how far the journal has come, and may wait until that is on the disk.
    fn note(&mut self, synced: bool) {
        let (head, segment) = (self.journal.head(), self.journal.number());
        (self.noted, self.segment) = ((Instant::now(), head.seq), segment);
        let set = self.watermark.set(&self.key, Noted { chain: self.journal.chain(), head, segment });
        if let Err(error) = set.and_then(|()| if synced { self.watermark.sync() } else { Ok(()) }) {
            // The next one tells more than this one would have.
            tracing::warn!(%error, "it could not be noted how far the audit's journal has come");
        }
    }

    /// Notes that a segment was begun, before anybody is told of a record in it.
    fn note_segment(&mut self) {
        if self.journal.number() != self.segment {
            self.note(false);
        }
    }

    /// Makes a batch, from one of its records on, the chain's next links.
    fn link(&mut self, batch: &Queue, from: usize) {
        self.out.clear();
        self.parts.clear();
        let mut head = self.journal.head();
        for (entry, parts) in batch.each().skip(from) {
            let meta = entry.whole(parts.meta);
            let content = Content { salt: rand::random(), text: parts.content };
            let mut frame = Frame {
                kind: entry.kind,
                seq: head.seq + 1,
                at: entry.at,
                user: self.key.user(parts.tenant, parts.user),
                tenant: parts.tenant,
                request: parts.request,
                meta: &meta,
                content: Some(content),
                content_hash: content.hash(),
                hash: [0; 32],
            };
            frame.hash = frame.link(&self.key, &head.hash);
            let begin = self.out.len();
            frame.write(&mut self.out);
            // What does not fit into one segment with what is before it goes by itself.
            let from = self.parts.last().map_or(0, |(to, _)| *to);
            if self.out.len() - from > MOST_AT_ONCE {
                self.parts.push((begin, head));
            }
            head = Head { seq: frame.seq, hash: frame.hash };
        }
        self.parts.push((self.out.len(), head));
    }

    /// Writes it, however long that takes; only the end of the process is waited for no longer.
    fn write(&mut self, shared: &Shared, batch: &mut Queue) {
        let first = self.journal.head().seq;
        let (mut from, mut at, mut since, mut failed) = (0, 0, None, false);
        while let Some((to, head)) = self.parts.get(at).copied() {
            if from == to {
                at += 1;
                continue;
            }
            let error = match self.journal.append(&self.out[from..to], head) {
                Ok(()) => {
                    from = to;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(SOON);
                    continue;
                }
                Err(error) => error,
            };
            tell(shared, Err(error.to_string()));
            // They need not wait for the disk.
            log(&mut batch.log);
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            if waited >= PATIENCE && shared.format.load().is_strict() {
                // These, and what came since; new calls are refused by now. None of them is on the disk, and when
                // they are they say that their callers were told otherwise.
                if !failed {
                    failed = true;
                    let there = (self.journal.head().seq - first) as usize;
                    batch.fail(there);
                    self.link(batch, there);
                    (from, at) = (0, 0);
                }
                let mut queue = shared.queue.lock();
                queue.fail(0);
                queue.commit = Arc::default();
            }
            if waited >= LAST_TRIES && shared.closed.load(Acquire) {
                return;
            }
            thread::park_timeout(AGAIN);
        }
        if since.is_some() {
            tell(shared, Ok(()));
        }
    }

    fn turn(&mut self) {
        while let Err(error) = self.journal.turn() {
            if error.kind() != io::ErrorKind::WouldBlock {
                // The next record tries again, and tells.
                return;
            }
            thread::park_timeout(SOON);
        }
    }
}

/// Notes whether the disk takes records, and tells where that has changed.
fn tell(shared: &Shared, state: Result<(), String>) {
    shared.metrics.audit_disk.set(i64::from(state.is_ok()));
    if shared.trouble(Trouble::Disk, state.is_err()) {
        match state {
            Ok(()) => tracing::info!("audit records can be written again"),
            Err(why) => {
                tracing::error!(why, "audit records cannot be written; calls are refused where they must be");
            }
        }
    }
}

/// Writes log lines. A log that nobody reads any more is no reason to fail a call.
fn log(lines: &mut Vec<u8>) {
    if !lines.is_empty() {
        let _ = io::stderr().lock().write_all(lines);
        lines.clear();
    }
}
