//! The memory that recordings share: each tenant has its part of it.
//!
//! Where all of it is taken, room is made by those who take more than an even part: what a tenant's streams
//! said is not forgotten for another's.
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The memory of all.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
    /// The tenants that use any of it.
    holders: AtomicUsize,
}

impl Budget {
    /// So many bytes.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0), holders: AtomicUsize::new(0) })
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether more is in use than should be.
    pub fn is_over(&self) -> bool {
        self.used() > self.max
    }

    /// One tenant's part.
    pub fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share { budget: self.clone(), used: AtomicUsize::new(0) })
    }
}

/// What one tenant uses.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    used: AtomicUsize,
}

impl Share {
    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether room is wanted, and this tenant has more than an even part.
    pub fn is_over(&self) -> bool {
        self.budget.is_over() && self.used() > self.budget.max / self.budget.holders.load(Relaxed).max(1)
    }

    pub(super) fn take(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if self.used.fetch_add(bytes, Relaxed) == 0 {
            self.budget.holders.fetch_add(1, Relaxed);
        }
        self.budget.used.fetch_add(bytes, Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if self.used.fetch_sub(bytes, Relaxed) == bytes {
            self.budget.holders.fetch_sub(1, Relaxed);
        }
        self.budget.used.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_more_than_an_even_part_is_over() {
        let budget = Budget::new(100);
        let (one, two) = (budget.share(), budget.share());
        one.take(90);
        assert!(!one.is_over(), "there is room");
        two.take(40);
        assert!(budget.is_over() && one.is_over() && !two.is_over());
        one.give_back(90);
        two.take(61);
        assert!(two.is_over(), "nobody else has any");
        two.give_back(101);
        assert_eq!((budget.used(), budget.holders.load(Relaxed)), (0, 0));
    }
}
