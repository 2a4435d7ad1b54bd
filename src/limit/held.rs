//! What a call holds until its answer has ended: its place among the calls in
//! flight, and the tokens that were set aside for it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    Shared,
    counters::Asks,
    redis::{Entry, Lease},
};

/// Given back by drop, on every way in which an answer can end. With it, what
/// the tokens set aside for it were too many or too few is settled.
#[derive(Debug)]
pub struct Held {
    pub(super) shared: Arc<Shared>,
    pub(super) asks: Asks,
    pub(super) most: usize,
    /// The tokens that were set aside; absent where tokens are not limited.
    pub(super) aside: Option<u64>,
    /// The same for all gateways together, where they share a Redis. Given back by its own drop.
    pub(super) lease: Option<Lease>,
}

/// The tokens of an answer that are not all counted yet: settled when the last
/// owner has added its count and let go. Until then what was set aside counts.
#[derive(Debug)]
pub struct Tally {
    shared: Arc<Shared>,
    asks: Asks,
    most: usize,
    aside: u64,
    truly: AtomicU64,
    elsewhere: Option<Arc<Entry>>,
}

impl Held {
    /// Whether the tokens of the answer are wanted.
    pub fn counts_tokens(&self) -> bool {
        self.aside.is_some()
    }

    /// The answer has ended: its place is free. It took `truly` tokens, and
    /// what is added to the tally later, if anything.
    pub fn ended(mut self, truly: u64) -> Option<Tally> {
        let aside = self.aside.take()?;
        let (shared, asks, most) = (self.shared.clone(), self.asks, self.most);
        let elsewhere = self.lease.as_ref().and_then(Lease::entry);
        Some(Tally { shared, asks, most, aside, truly: AtomicU64::new(truly), elsewhere })
    }
}

impl Tally {
    /// Tokens that were counted later.
    pub fn add(&self, tokens: u64) {
        self.truly.fetch_add(tokens, Ordering::Relaxed);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let now = self.shared.micros(Instant::now());
        let truly = *self.truly.get_mut();
        self.shared.counters.lock().settle(&self.asks, self.aside, truly, now, self.most);
        if let Some(entry) = &self.elsewhere {
            entry.settle(self.aside, truly);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.asks.limit_in_flight() {
            self.shared.counters.lock().release(&self.asks);
        }
    }
}
