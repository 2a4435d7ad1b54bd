//! The thread that writes records, in batches.
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use parking_lot::Mutex;

use super::{Record, Settings, Settle, line};
use crate::{
    error::{Error, Result},
    observe::Metrics,
};

/// Records that may be on their way at once; calls in flight included.
const PLACES: usize = 65_536;
/// How long the thread gathers a batch: a wake-up a call would cost more than the line.
const GATHER: Duration = Duration::from_millis(5);

/// Writes records. Cheap to clone; the last [`Writer::close`] waits for the disk.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    queue: Mutex<Vec<Record>>,
    taken: AtomicUsize,
    idle: AtomicBool,
    closed: AtomicBool,
    writer: Mutex<Option<JoinHandle<()>>>,
    wake: Mutex<Option<Thread>>,
    sink: Mutex<Sink>,
    metrics: Arc<Metrics>,
}

/// Where lines go.
struct Sink {
    file: Option<File>,
    settings: Settings,
    log: Option<bool>,
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
pub struct Place(Writer);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Writer {
    /// Opens the file and starts the thread. `log` says whether request lines
    /// go to standard error as well, and whether as JSON.
    pub fn start(
        settings: &Settings,
        log: Option<bool>,
        settle: Settle,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let sink = Sink { file: open(settings)?, settings: settings.clone(), log };
        let writer = Self(Arc::new(Shared {
            queue: Mutex::default(),
            taken: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            writer: Mutex::default(),
            wake: Mutex::default(),
            sink: Mutex::new(sink),
            metrics,
        }));
        let shared = writer.0.clone();
        let thread = thread::Builder::new().name("audit".into()).spawn(move || shared.run(&settle))?;
        *writer.0.wake.lock() = Some(thread.thread().clone());
        *writer.0.writer.lock() = Some(thread);
        Ok(writer)
    }

    /// Whether records are to hold questions and answers.
    pub fn wants_content(&self) -> bool {
        self.0.sink.lock().settings.content
    }

    /// Reserves a record's place.
    pub fn reserve(&self) -> Result<Place> {
        if self.0.taken.fetch_add(1, Ordering::Relaxed) >= PLACES {
            self.0.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Overloaded { retry_after: Duration::from_secs(1) });
        }
        Ok(Place(self.clone()))
    }

    /// Hands a record over to be written. Never waits for the disk.
    pub fn record(&self, place: Place, record: Record) {
        self.0.queue.lock().push(record);
        // The queue's length is what `taken` counts from here on; the thread lets go of it.
        std::mem::forget(place);
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
        *self.0.sink.lock() = Sink { file, settings: settings.clone(), log };
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
    fn run(&self, settle: &Settle) {
        let (mut audit, mut log) = (Vec::new(), Vec::new());
        loop {
            let batch = std::mem::take(&mut *self.queue.lock());
            if batch.is_empty() {
                if self.closed.load(Ordering::Acquire) {
                    return;
                }
                self.idle.store(true, Ordering::Release);
                // A record that came in between has seen `idle` unset: look once more before sleeping.
                if self.queue.lock().is_empty() && !self.closed.load(Ordering::Acquire) {
                    thread::park();
                }
                self.idle.store(false, Ordering::Release);
                if !self.closed.load(Ordering::Acquire) {
                    thread::sleep(GATHER);
                }
                continue;
            }
            self.write(&batch, settle, &mut audit, &mut log);
            self.taken.fetch_sub(batch.len(), Ordering::Relaxed);
        }
    }

    fn write(&self, batch: &[Record], settle: &Settle, audit: &mut Vec<u8>, log: &mut Vec<u8>) {
        audit.clear();
        log.clear();
        let mut sink = self.sink.lock();
        for record in batch {
            let uncounted = record.context.trail.note(|notes| notes.uncounted.take());
            if let Some(uncounted) = uncounted {
                let usage = settle(&uncounted);
                record.context.trail.note(|notes| notes.usage = Some(usage));
            }
            let notes = record.context.trail.notes();
            let at = line::time(record.at);
            if sink.file.is_some() {
                line::audit(record, &notes, &at, sink.settings.content, audit);
            }
            if let Some(json) = sink.log {
                line::log(record, &notes, &at, json, log);
            }
        }
        if let Some(file) = &mut sink.file
            && let Err(error) = file.write_all(audit)
        {
            self.metrics.audit_failures.inc_by(batch.len() as u64);
            tracing::error!(%error, records = batch.len(), "audit records could not be written");
        }
        drop(sink);
        // A log that nobody reads any more is no reason to fail a call.
        let _ = io::stderr().lock().write_all(log);
        self.metrics.audit_records.inc_by(batch.len() as u64);
    }
}
