//! Spells records where their calls end, and writes them in batches on a thread of its own.
//!
//! Spelling a record takes a microsecond or two while it is in the processor's
//! cache, and then it is gone; kept for the thread, it would cost more, and
//! memory for thousands of calls that are over.
use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    Ends, Record, Settings,
    line::{self, Lines},
};
use crate::{
    error::{Error, Result},
    observe::Metrics,
};

/// Records that may be on their way at once; calls in flight included.
const PLACES: usize = 65_536;
/// How long the thread gathers a batch: a wake-up a call would cost more than the line.
const GATHER: Duration = Duration::from_millis(20);

/// Writes records. Cheap to clone; the last [`Writer::close`] waits for the disk.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    taken: AtomicUsize,
    idle: AtomicBool,
    closed: AtomicBool,
    format: ArcSwap<Format>,
    writer: Mutex<Option<JoinHandle<()>>>,
    wake: Mutex<Option<Thread>>,
    /// Where the audit lines go. Locked while the disk is written to.
    file: Mutex<Option<File>>,
    ends: Ends,
    metrics: Arc<Metrics>,
}

/// What waits for the thread.
#[derive(Default)]
struct Queue {
    audit: Vec<u8>,
    log: Vec<u8>,
    /// How many records `audit` and `log` hold.
    records: usize,
    /// Records whose tokens have yet to be counted, which takes too long where a call ends.
    uncounted: Vec<Record>,
}

impl Queue {
    fn len(&self) -> usize {
        self.records + self.uncounted.len()
    }

    fn clear(&mut self) {
        self.audit.clear();
        self.log.clear();
        self.records = 0;
        self.uncounted.clear();
    }
}

/// How records are spelled.
#[derive(Clone, Copy)]
struct Format {
    /// Whether there is an audit file, and whether its lines hold questions and answers.
    audit: Option<bool>,
    /// Whether there are log lines, and whether as JSON.
    log: Option<bool>,
}

impl Format {
    fn new(settings: &Settings, log: Option<bool>) -> Self {
        Self { audit: settings.file.is_some().then_some(settings.content), log }
    }

    fn spell(self, record: &Record, audit: &mut Vec<u8>, log: &mut Vec<u8>) {
        let lines = Lines {
            audit: self.audit.map(|content| (audit, content)),
            log: self.log.map(|json| (log, json)),
        };
        let at = line::time(record.at);
        record.context.trail.note(|notes| line::write(record, notes, &at, lines));
    }
}

/// More than this is not kept for the next record, in bytes.
const LARGE: usize = 64 << 10;

thread_local! {
    /// Where a record is spelled before it is put into the queue, so that nobody waits for it.
    static SPELLED: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::default();
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("places_taken", &self.0.taken.load(Ordering::Relaxed))
            .finish_non_exhaustive()
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
            self.writer.0.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Opens the file and starts the thread. `log` says whether request lines
    /// go to standard error as well, and whether as JSON.
    pub fn start(
        settings: &Settings,
        log: Option<bool>,
        ends: Ends,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let writer = Self(Arc::new(Shared {
            queue: Mutex::default(),
            format: ArcSwap::from_pointee(Format::new(settings, log)),
            taken: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            writer: Mutex::default(),
            wake: Mutex::default(),
            file: Mutex::new(open(settings)?),
            ends,
            metrics,
        }));
        let shared = writer.0.clone();
        let thread = thread::Builder::new().name("audit".into()).spawn(move || shared.run())?;
        *writer.0.wake.lock() = Some(thread.thread().clone());
        *writer.0.writer.lock() = Some(thread);
        Ok(writer)
    }

    /// Whether records are to hold questions and answers.
    pub fn wants_content(&self) -> bool {
        self.0.format.load().audit == Some(true)
    }

    /// Reserves a record's place.
    pub fn reserve(&self) -> Result<Place> {
        if self.0.taken.fetch_add(1, Ordering::Relaxed) >= PLACES {
            self.0.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Overloaded { retry_after: Duration::from_secs(1) });
        }
        Ok(Place { writer: self.clone(), passed_on: false })
    }

    /// Hands a record over to be written. Never waits for the disk.
    pub fn record(&self, mut place: Place, record: Record) {
        place.passed_on = true;
        if record.context.trail.note(|notes| !notes.uncounted.is_empty()) {
            self.0.queue.lock().uncounted.push(record);
        } else {
            let format = **self.0.format.load();
            record.context.trail.note(|notes| (self.0.ends.done)(&record, notes));
            SPELLED.with_borrow_mut(|(audit, log)| {
                format.spell(&record, audit, log);
                let mut queue = self.0.queue.lock();
                queue.audit.extend_from_slice(audit);
                queue.log.extend_from_slice(log);
                queue.records += 1;
                drop(queue);
                for spelled in [audit, log] {
                    spelled.clear();
                    spelled.shrink_to(LARGE);
                }
            });
        }
        if self.0.idle.swap(false, Ordering::AcqRel)
            && let Some(thread) = &*self.0.wake.lock()
        {
            thread.unpark();
        }
    }

    /// How many records wait to be written.
    pub fn pending(&self) -> usize {
        self.0.queue.lock().len()
    }

    /// Writes elsewhere from here on; on failure all stays as it was.
    pub fn reload(&self, settings: &Settings, log: Option<bool>) -> io::Result<()> {
        let file = open(settings)?;
        *self.0.file.lock() = file;
        self.0.format.store(Arc::new(Format::new(settings, log)));
        Ok(())
    }

    /// Waits until all records are on the disk and ends the thread.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let thread = self.0.writer.lock().take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn open(settings: &Settings) -> io::Result<Option<File>> {
    let Some(path) = &settings.file else { return Ok(None) };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map(Some)
}

impl Shared {
    fn run(&self) {
        let mut batch = Queue::default();
        loop {
            std::mem::swap(&mut batch, &mut *self.queue.lock());
            if batch.len() == 0 {
                if self.closed.load(Ordering::Acquire) {
                    return;
                }
                self.idle.store(true, Ordering::Release);
                // A record that came in between has seen `idle` unset: look once more before sleeping.
                if self.queue.lock().len() == 0 && !self.closed.load(Ordering::Acquire) {
                    thread::park();
                }
                self.idle.store(false, Ordering::Release);
                if !self.closed.load(Ordering::Acquire) {
                    thread::sleep(GATHER);
                }
                continue;
            }
            self.write(&mut batch);
            self.taken.fetch_sub(batch.len(), Ordering::Relaxed);
            batch.clear();
        }
    }

    fn write(&self, batch: &mut Queue) {
        let format = **self.format.load();
        for record in &batch.uncounted {
            for uncounted in record.context.trail.note(|notes| std::mem::take(&mut notes.uncounted)) {
                let usage = (self.ends.settle)(&uncounted);
                record.context.trail.note(|notes| notes.took(usage, uncounted.attempt));
            }
            record.context.trail.note(|notes| (self.ends.done)(record, notes));
            format.spell(record, &mut batch.audit, &mut batch.log);
        }
        let records = batch.len();
        if let Some(file) = &mut *self.file.lock()
            && let Err(error) = file.write_all(&batch.audit)
        {
            self.metrics.audit_failures.inc_by(records as u64);
            tracing::error!(%error, records, "audit records could not be written");
        }
        // A log that nobody reads any more is no reason to fail a call.
        let _ = io::stderr().lock().write_all(&batch.log);
        self.metrics.audit_records.inc_by(records as u64);
    }
}
