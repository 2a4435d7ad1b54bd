//! Takes records where their calls end, and hands them to the thread that keeps them.
//!
//! Spelling a record takes a microsecond or two while it is in the processor's
//! cache, and then it is gone; kept for the thread, it would cost more, and
//! memory for thousands of calls that are over.
use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use super::{
    Ends, Masking, Record, Settings, Spelling,
    chain::Key,
    commit::{COME_BACK, Commit, Ticket},
    counter::{self, Counter},
    erase::meta,
    frame::Kind,
    journal::Journal,
    keeper::Keeper,
    line::{How, Spelled},
    queue::{Parts, Queue, Turned},
    settings::{Content, Durability, OnFailure},
    watermark::Watermark,
};
use crate::{
    error::{Error, Result},
    observe::Metrics,
};

/// Records that may be on their way at once; calls in flight included.
const PLACES: usize = 65_536;

/// Takes records. Cheap to clone; [`Writer::close`] waits for the disk.
#[derive(Clone)]
pub struct Writer(pub(super) Arc<Shared>);

/// What the writer, its thread and the filing share.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// Records in the queue, to be read without its lock.
    pub(super) waiting: AtomicUsize,
    /// Records whose tokens are being counted.
    pub(super) counting: AtomicUsize,
    /// Records that the thread has taken out of the queue, and that are not on the disk yet.
    pub(super) writing: AtomicUsize,
    counter: Counter,
    /// Places that are taken: calls under way, and records that are not on the disk yet.
    pub(super) taken: AtomicUsize,
    /// Whether the thread sleeps until somebody wakes it.
    pub(super) idle: AtomicBool,
    /// While the thread waits for more records to write at once: how many it goes on with if no more can come.
    pub(super) enough: AtomicUsize,
    pub(super) closed: AtomicBool,
    pub(super) format: ArcSwap<Format>,
    thread: Mutex<Option<JoinHandle<()>>>,
    wake: OnceLock<Thread>,
    /// The plain copy. Locked while it is written to.
    pub(super) copy: Mutex<Option<File>>,
    /// What keeps records from being taken, a bit each.
    trouble: AtomicU8,
    /// The last record on the disk.
    pub(super) durable: AtomicU64,
    /// The newest segment.
    pub(super) segment: AtomicU64,
    /// Told when there is more on the disk.
    pub(super) more: Notify,
    pub(super) ends: Ends,
    pub(super) metrics: Arc<Metrics>,
}

/// What keeps records from being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Trouble {
    /// Nothing can be written to the disk, or soon nothing can.
    Disk = 1,
    /// The database takes nothing.
    Database = 2,
    /// Too much waits for the database.
    Spool = 4,
}

/// How records are spelled and kept: what a reload changes.
pub(super) struct Format {
    how: How,
    masks: Arc<dyn Masking>,
    durability: Durability,
    refuse: bool,
    pub(super) gather: Duration,
    pub(super) anchor_every: Duration,
}

impl Format {
    fn new(spelling: &Spelling<'_>) -> Self {
        let Spelling { settings, log, masks } = spelling;
        // Where there are no records nobody reads what they would hold.
        let kept = settings.durability != Durability::Off || settings.file.is_some();
        let content = kept && settings.content == Content::Masked;
        let gather = match settings.durability {
            Durability::Strict => settings.gather.0,
            // Nobody waits: a wake-up for each would cost more than the record.
            Durability::Relaxed | Durability::Off => RELAXED,
        };
        Self {
            how: How { content, most: settings.max_content.0, log: *log },
            masks: masks.clone(),
            durability: settings.durability,
            refuse: settings.on_failure == OnFailure::Refuse,
            gather,
            anchor_every: settings.anchor_every.0,
        }
    }

    pub(super) fn spell(&self, record: &Record, spelled: &mut Spelled) {
        let mut mask = self.masks.masker();
        record.context.trail.note(|notes| spelled.spell(record, notes, self.how, &mut *mask));
    }
}

/// How long records gather where nobody waits for them.
const RELAXED: Duration = Duration::from_millis(20);

thread_local! {
    /// Where a record is spelled before it is put into the queue, so that nobody waits for it.
    static SPELLED: RefCell<Spelled> = RefCell::default();
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("places_taken", &self.0.taken.load(Relaxed)).finish_non_exhaustive()
    }
}

/// A place for one record, reserved before its call starts.
#[derive(Debug)]
pub struct Place {
    writer: Writer,
    /// Its record is in the queue: the thread lets go of it.
    passed_on: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.passed_on {
            self.writer.0.taken.fetch_sub(1, Relaxed);
        }
    }
}

impl Writer {
    /// Starts the thread. Without a journal there are no records, only log lines.
    pub(super) fn start(
        spelling: &Spelling<'_>,
        ends: Ends,
        kept: Option<(Journal, Key, Watermark)>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (durable, segment) =
            kept.as_ref().map_or((0, 0), |(journal, ..)| (journal.head().seq, journal.number()));
        let writer = Self(Arc::new(Shared {
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            counting: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            counter: Counter::default(),
            taken: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            enough: AtomicUsize::new(usize::MAX),
            closed: AtomicBool::new(false),
            format: ArcSwap::from_pointee(Format::new(spelling)),
            thread: Mutex::default(),
            wake: OnceLock::new(),
            copy: Mutex::new(copy(spelling.settings)?),
            trouble: AtomicU8::new(0),
            durable: AtomicU64::new(durable),
            segment: AtomicU64::new(segment),
            more: Notify::new(),
            ends,
            metrics,
        }));
        writer.0.metrics.audit_disk.set(1);
        writer.0.metrics.audit_database.set(1);
        let keeper = Keeper::new(writer.0.clone(), kept);
        let thread = thread::Builder::new().name("audit".into()).spawn(move || keeper.run())?;
        let _ = writer.0.wake.set(thread.thread().clone());
        *writer.0.thread.lock() = Some(thread);
        writer.0.counter.start(writer.0.clone())?;
        Ok(writer)
    }

    /// The most of an answer that a record holds, in bytes; `None`: nothing of it is wanted.
    pub fn wanted(&self) -> Option<usize> {
        let format = self.0.format.load();
        format.how.content.then_some(format.how.most)
    }

    /// Reserves a record's place.
    pub fn reserve(&self) -> Result<Place> {
        if self.refuses() {
            return Err(Error::AuditAway { retry_after: COME_BACK });
        }
        if self.0.taken.fetch_add(1, Relaxed) >= PLACES {
            self.0.taken.fetch_sub(1, Relaxed);
            return Err(Error::Overloaded { retry_after: COME_BACK });
        }
        Ok(Place { writer: self.clone(), passed_on: false })
    }

    /// Hands a record over. Never waits for the disk: the ticket does, where that is promised.
    pub fn record(&self, mut place: Place, record: Record) -> Ticket {
        place.passed_on = true;
        let format = self.0.format.load();
        let (commit, place) = if record.context.trail.note(|notes| !notes.uncounted.is_empty()) {
            let commit = Arc::new(Commit::default());
            self.0.counting.fetch_add(1, Relaxed);
            if let Some(record) = self.0.counter.count(record, &commit) {
                self.0.counting.fetch_sub(1, Relaxed);
                // The process ends: nobody is left to be held up.
                counter::settled(&self.0, &record, &mut Spelled::default(), Some(commit.clone()));
            }
            (commit, 0)
        } else {
            record.context.trail.note(|notes| (self.0.ends.done)(&record, notes));
            let (commit, place, waiting) = SPELLED.with_borrow_mut(|spelled| {
                format.spell(&record, spelled);
                let mut queue = self.0.queue.lock();
                queue.push(&record, spelled);
                let (commit, waiting) = self.0.came(&queue);
                let place = queue.len() - 1;
                drop(queue);
                spelled.clear();
                (commit, place, waiting)
            });
            self.0.rouse(waiting);
            (commit, place)
        };
        match format.durability {
            Durability::Strict => Ticket::new(commit, place),
            Durability::Relaxed | Durability::Off => Ticket::default(),
        }
    }

    /// Adds a record of something that somebody did, such as a decision about an answer. What it says stays: it
    /// holds ids, and no words of a user's. Its ticket always waits.
    pub fn act(&self, tenant: &str, said: &impl Serialize) -> Ticket {
        if self.0.format.load().durability == Durability::Off {
            // There is no chain for it.
            return Ticket::default();
        }
        self.note(Kind::Act, tenant, "", &meta(said))
    }

    /// Adds a record of the audit's own: of an erasure, or of a cut. Its ticket always waits.
    pub(super) fn note(&self, kind: Kind, tenant: &str, user: &str, meta: &[u8]) -> Ticket {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_micros() as i64);
        self.0.taken.fetch_add(1, Relaxed);
        let (commit, place, waiting) = {
            let mut queue = self.0.queue.lock();
            queue.add(kind, at, &Parts { tenant, request: "", user, meta, content: b"" });
            let (commit, waiting) = self.0.came(&queue);
            (commit, queue.len() - 1, waiting)
        };
        self.0.rouse(waiting);
        Ticket::new(commit, place)
    }

    /// Begins a segment of its own for all records that come. Those whose tokens are being counted were there before.
    pub(super) async fn turn(&self) -> Option<Turned> {
        self.0.counter.passed().await;
        let (told, hears) = oneshot::channel();
        self.0.queue.lock().turns.push(told);
        self.0.wake();
        hears.await.ok()
    }

    /// How many records are not on the disk yet.
    pub fn pending(&self) -> usize {
        // In the order in which a record goes through them, so that none is missed on its way.
        [&self.0.counting, &self.0.waiting, &self.0.writing].iter().map(|records| records.load(Acquire)).sum()
    }

    /// Whether calls are refused because no record could be kept of them.
    pub fn refuses(&self) -> bool {
        let trouble = self.0.trouble.load(Relaxed);
        trouble != 0 && self.0.format.load().refuses(trouble)
    }

    /// Whether records can be written and filed.
    pub fn is_well(&self) -> bool {
        self.0.trouble.load(Relaxed) == 0
    }

    /// Spells and copies otherwise from here on; on failure all stays as it was.
    pub fn reload(&self, spelling: &Spelling<'_>) -> io::Result<()> {
        let file = copy(spelling.settings)?;
        *self.0.copy.lock() = file;
        self.0.format.store(Arc::new(Format::new(spelling)));
        Ok(())
    }

    /// Waits until all records are on the disk and ends the thread.
    pub fn close(&self) {
        self.0.counter.close();
        self.0.closed.store(true, Release);
        let thread = self.0.thread.lock().take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Format {
    /// Whether calls are refused while there is this trouble.
    fn refuses(&self, trouble: u8) -> bool {
        let is = |one: Trouble| trouble & one as u8 != 0;
        match self.durability {
            Durability::Off => false,
            _ if is(Trouble::Spool) || (self.refuse && trouble != 0) => true,
            Durability::Strict => is(Trouble::Disk),
            // As many as there are places wait in memory.
            Durability::Relaxed => false,
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.durability == Durability::Strict
    }
}

impl Shared {
    /// A record is in the queue: what it waits for, and how many are there.
    pub(super) fn came(&self, queue: &Queue) -> (Arc<Commit>, usize) {
        (queue.commit.clone(), self.waiting.fetch_add(1, AcqRel) + 1)
    }

    /// Wakes the thread, where that is needed.
    pub(super) fn rouse(&self, waiting: usize) {
        // Asleep, it gathers from now on. Gathering, it need not wait for more than can come.
        let all = waiting >= self.enough.load(Acquire) && waiting >= self.taken.load(Relaxed);
        if all || self.idle.swap(false, AcqRel) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = self.wake.get() {
            thread.unpark();
        }
    }

    pub(super) fn is_well(&self, what: Trouble) -> bool {
        self.trouble.load(Relaxed) & what as u8 == 0
    }

    /// Notes a trouble, or that it is over. Tells whether that is news.
    pub(super) fn trouble(&self, what: Trouble, is: bool) -> bool {
        let bit = what as u8;
        let before =
            if is { self.trouble.fetch_or(bit, AcqRel) } else { self.trouble.fetch_and(!bit, AcqRel) };
        (before & bit != 0) != is
    }
}

fn copy(settings: &Settings) -> io::Result<Option<File>> {
    let Some(path) = &settings.file else { return Ok(None) };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(Some)
}
