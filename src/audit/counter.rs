//! A thread that counts tokens where a provider did not say, and spells those
//! records then. Counting a long text takes longer than the disk: nobody else's
//! record waits for it.
use std::{
    io,
    sync::{Arc, atomic::Ordering::Release, mpsc},
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Record, commit::Commit, line::Spelled, writer::Shared};

/// Hands records to the thread.
#[derive(Default)]
pub(super) struct Counter(Mutex<Option<Running>>);

struct Running {
    work: mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

/// What the thread does, one after the other.
enum Work {
    /// Counts a record's tokens.
    Count(Box<(Record, Arc<Commit>)>),
    /// Says that all records which were handed over before are in the queue.
    Tell(oneshot::Sender<()>),
}

impl Counter {
    /// Starts the thread.
    pub(super) fn start(&self, shared: Arc<Shared>) -> io::Result<()> {
        let (work, receiver) = mpsc::channel();
        let thread =
            thread::Builder::new().name("audit-tokens".into()).spawn(move || run(&shared, &receiver))?;
        *self.0.lock() = Some(Running { work, thread });
        Ok(())
    }

    /// Hands a record over; gives it back where the thread has ended.
    pub(super) fn count(&self, record: Record, commit: &Arc<Commit>) -> Option<Record> {
        match &*self.0.lock() {
            Some(running) => {
                let refused = running.work.send(Work::Count(Box::new((record, commit.clone())))).err();
                refused.and_then(|refused| match refused.0 {
                    Work::Count(counted) => Some(counted.0),
                    Work::Tell(_) => None,
                })
            }
            None => Some(record),
        }
    }

    /// Waits until all records are in the queue that were handed over by now.
    pub(super) async fn passed(&self) {
        let (tell, told) = oneshot::channel();
        let asked = self.0.lock().as_ref().is_some_and(|running| running.work.send(Work::Tell(tell)).is_ok());
        if asked {
            // Without the thread none is left.
            let _ = told.await;
        }
    }

    /// Waits until all is counted, and ends the thread.
    pub(super) fn close(&self) {
        let running = self.0.lock().take();
        if let Some(Running { work, thread }) = running {
            drop(work);
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, work: &mpsc::Receiver<Work>) {
    let mut spelled = Spelled::default();
    while let Ok(work) = work.recv() {
        match work {
            Work::Count(counted) => {
                let (record, commit) = *counted;
                settled(shared, &record, &mut spelled, Some(commit));
                shared.counting.fetch_sub(1, Release);
            }
            Work::Tell(tell) => drop(tell.send(())),
        }
    }
}

/// Counts, spells and queues a record.
pub(super) fn settled(shared: &Shared, record: &Record, spelled: &mut Spelled, commit: Option<Arc<Commit>>) {
    for uncounted in record.context.trail.note(|notes| std::mem::take(&mut notes.uncounted)) {
        let usage = (shared.ends.settle)(&uncounted);
        record.context.trail.note(|notes| notes.took(usage, uncounted.attempt));
        uncounted.listeners.tell(&usage);
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
