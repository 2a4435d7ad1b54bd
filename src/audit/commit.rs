//! Waiting for the disk, many at a time: all records of a batch share one
//! [`Commit`], and whoever waits for one of them is woken when it is decided.
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// When a caller should come back who was refused because of the audit.
pub(super) const COME_BACK: Duration = Duration::from_secs(1);

/// Whether a batch is on the disk.
#[derive(Debug, Default)]
pub(super) struct Commit {
    state: AtomicU8,
    waiting: Mutex<Vec<Waker>>,
}

const OPEN: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

impl Commit {
    /// Decides it, and wakes all who wait. The first decision counts.
    pub(super) fn decide(&self, done: bool) {
        let state = if done { DONE } else { FAILED };
        if self.state.compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        // Nobody can decide it any more.
        self.decide(false);
    }
}

/// One record's way to the disk.
#[derive(Clone, Debug, Default)]
pub struct Ticket(Option<Arc<Commit>>);

impl Ticket {
    pub(super) fn new(commit: Arc<Commit>) -> Self {
        Self(Some(commit))
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
    commit: Option<Arc<Commit>>,
    /// Where its waker is among the others.
    place: Option<usize>,
}

impl Future for Written {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let Some(commit) = &this.commit else { return Poll::Ready(Ok(())) };
        let mut waiting = commit.waiting.lock();
        // Looked at under the lock: who decides takes the wakers after it has decided.
        match commit.state.load(Ordering::Acquire) {
            DONE => Poll::Ready(Ok(())),
            FAILED => Poll::Ready(Err(Error::AuditAway { retry_after: COME_BACK })),
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
        for done in [true, false] {
            let commit = Arc::new(Commit::default());
            let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(Ticket::new(commit.clone()).wait())).collect();
            tokio::task::yield_now().await;
            commit.decide(done);
            commit.decide(!done);
            for waiting in waiting {
                assert_eq!(waiting.await.unwrap().is_ok(), done);
            }
            assert_eq!(Ticket::new(commit).wait().await.is_ok(), done);
        }
        assert!(Ticket::default().wait().await.is_ok());
    }

    #[tokio::test]
    async fn what_nobody_decides_has_failed() {
        let commit = Arc::new(Commit::default());
        let ticket = Ticket::new(commit.clone());
        commit.decide(false);
        drop(commit);
        assert!(matches!(ticket.wait().await, Err(Error::AuditAway { .. })));
    }
}
