//! Waiting for the disk, many at a time: all records of a batch share one
//! [`Commit`], and whoever waits for one of them is woken when it is decided. A
//! disk that is full may have taken the first of them, and not the others.
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// When a caller should come back who was refused because of the audit.
pub(super) const COME_BACK: Duration = Duration::from_secs(1);

/// Whether a batch is on the disk.
#[derive(Debug)]
pub(super) struct Commit {
    /// How many of its records are there, from the first on; or that this is not decided.
    there: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

const OPEN: usize = usize::MAX;
/// All of them are on the disk.
pub(super) const ALL: usize = OPEN - 1;

impl Default for Commit {
    fn default() -> Self {
        Self { there: AtomicUsize::new(OPEN), waiting: Mutex::default() }
    }
}

impl Commit {
    /// Decides how many of its records are there, and wakes all who wait. The first decision counts.
    pub(super) fn decide(&self, there: usize) {
        if self.there.compare_exchange(OPEN, there, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        // Nobody can decide it any more.
        self.decide(0);
    }
}

/// One record's way to the disk.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Option<(Arc<Commit>, usize)>);

impl Ticket {
    /// For the record with this place in its batch.
    pub(super) fn new(commit: Arc<Commit>, place: usize) -> Self {
        Self(Some((commit, place)))
    }

    /// Waits until the record is on the disk. At once where nothing is promised.
    ///
    /// # Errors
    /// [`Error::AuditAway`]: it could not be written in time.
    pub fn wait(self) -> Written {
        Written { commit: self.0, place: None }
    }
}

/// A record that is being written.
#[derive(Debug)]
pub struct Written {
    commit: Option<(Arc<Commit>, usize)>,
    /// Where its waker is among the others.
    place: Option<usize>,
}

impl Future for Written {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let Some((commit, record)) = &this.commit else { return Poll::Ready(Ok(())) };
        let mut waiting = commit.waiting.lock();
        // Looked at under the lock: who decides takes the wakers after it has decided.
        match commit.there.load(Ordering::Acquire) {
            there if there != OPEN && *record < there => Poll::Ready(Ok(())),
            there if there != OPEN => Poll::Ready(Err(Error::AuditAway { retry_after: COME_BACK })),
            _ => {
                if let Some(waker) = this.place.and_then(|place| waiting.get_mut(place)) {
                    waker.clone_from(cx.waker());
                } else {
                    this.place = Some(waiting.len());
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_of_it_and_those_who_come_later_at_once() {
        for there in [ALL, 0, 4] {
            let commit = Arc::new(Commit::default());
            let ticket = |place| Ticket::new(commit.clone(), place);
            let waiting: Vec<_> = (0..10).map(|place| tokio::spawn(ticket(place).wait())).collect();
            tokio::task::yield_now().await;
            commit.decide(there);
            commit.decide(if there == 0 { ALL } else { 0 });
            for (place, waiting) in waiting.into_iter().enumerate() {
                assert_eq!(waiting.await.unwrap().is_ok(), place < there);
                assert_eq!(ticket(place).wait().await.is_ok(), place < there);
            }
        }
        assert!(Ticket::default().wait().await.is_ok());
    }

    #[tokio::test]
    async fn what_nobody_decides_has_failed() {
        let commit = Arc::new(Commit::default());
        let ticket = Ticket::new(commit.clone(), 0);
        commit.decide(0);
        drop(commit);
        assert!(matches!(ticket.wait().await, Err(Error::AuditAway { .. })));
    }
}
