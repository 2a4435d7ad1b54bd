//! A bound on retries: a share of the traffic, and a few a second on top.
//!
//! Without it a provider in trouble is asked three times as often as a healthy one.
use std::time::Instant;

use parking_lot::Mutex;

/// Tokens for retries. A call puts in a share of one; a retry takes one.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    floor: f64,
    state: Mutex<(f64, Instant)>,
}

/// How many seconds' worth of the floor can be saved up.
const SAVED_SECONDS: f64 = 5.0;
/// How many tokens calls can save up.
const MOST: f64 = 100.0;

impl RetryBudget {
    /// `percent` of the calls, and `floor_per_second` besides.
    pub fn new(percent: u32, floor_per_second: u32) -> Self {
        let floor = f64::from(floor_per_second);
        let start = floor * SAVED_SECONDS;
        Self { share: f64::from(percent) / 100.0, floor, state: Mutex::new((start, Instant::now())) }
    }

    /// A call begins.
    pub fn deposit(&self) {
        let mut state = self.state.lock();
        state.0 = (state.0 + self.share).min(MOST + self.floor * SAVED_SECONDS);
    }

    /// Whether a retry may be made.
    pub fn withdraw(&self) -> bool {
        let mut state = self.state.lock();
        let now = Instant::now();
        let saved = self.floor * SAVED_SECONDS;
        if state.0 < saved {
            state.0 = (state.0 + now.duration_since(state.1).as_secs_f64() * self.floor).min(saved);
        }
        state.1 = now;
        // Shares are fractions that binary numbers only come near.
        let may = state.0 >= 1.0 - 1e-6;
        if may {
            state.0 -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_calls() {
        let budget = RetryBudget::new(10, 0);
        assert!(!budget.withdraw());
        (0..100).for_each(|_| budget.deposit());
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
    }
}
