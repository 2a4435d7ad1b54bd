//! A thread that counts tokens where a provider did not say, and spells those
//! records then. Counting a long text takes longer than the disk: nobody else's
//! record waits for it.
use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;

use super::{Record, commit::Commit, line::Spelled, writer::Shared};

/// Hands records to the thread.
#[derive(Default)]
pub(super) struct Counter(Mutex<Option<Running>>);

struct Running {
    records: mpsc::Sender<(Record, Arc<Commit>)>,
    thread: JoinHandle<()>,
}

impl Counter {
    /// Starts the thread.
    pub(super) fn start(&self, shared: Arc<Shared>) -> io::Result<()> {
        let (records, receiver) = mpsc::channel();
        let thread =
            thread::Builder::new().name("audit-tokens".into()).spawn(move || run(&shared, &receiver))?;
        *self.0.lock() = Some(Running { records, thread });
        Ok(())
    }

    /// Hands a record over; gives it back where the thread has ended.
    pub(super) fn count(&self, record: Record, commit: &Arc<Commit>) -> Option<Record> {
        match &*self.0.lock() {
            Some(running) => running.records.send((record, commit.clone())).err().map(|refused| refused.0.0),
            None => Some(record),
        }
    }

    /// Waits until all is counted, and ends the thread.
    pub(super) fn close(&self) {
        let running = self.0.lock().take();
        if let Some(Running { records, thread }) = running {
            drop(records);
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, records: &mpsc::Receiver<(Record, Arc<Commit>)>) {
    let mut spelled = Spelled::default();
    while let Ok((record, commit)) = records.recv() {
        settled(shared, &record, &mut spelled, Some(commit));
        shared.counting.fetch_sub(1, Relaxed);
    }
}

/// Counts, spells and queues a record.
pub(super) fn settled(shared: &Shared, record: &Record, spelled: &mut Spelled, commit: Option<Arc<Commit>>) {
    for uncounted in record.context.trail.note(|notes| std::mem::take(&mut notes.uncounted)) {
        let usage = (shared.ends.settle)(&uncounted);
        record.context.trail.note(|notes| notes.took(usage, uncounted.attempt));
    }
    record.context.trail.note(|notes| (shared.ends.done)(record, notes));
    shared.format.load().spell(record, spelled);
    let waiting = {
        let mut queue = shared.queue.lock();
        queue.push(record, spelled);
        let place = queue.len() - 1;
        queue.others.extend(commit.map(|commit| (place, commit)));
        shared.came(&queue).1
    };
    spelled.clear();
    shared.rouse(waiting);
}
