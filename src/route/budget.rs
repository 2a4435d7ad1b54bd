//! A bound on further attempts: a share of the traffic, and a few a second on top.
//!
//! Without it a provider in trouble is asked three times as often as a healthy one.
use std::time::Instant;

use parking_lot::Mutex;

/// Tokens for further attempts. A call puts in a share of one; an attempt takes one.
#[derive(Debug)]
pub struct AttemptBudget {
    share: f64,
    floor: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What calls have put in. It fades: what was saved in a quiet hour is no
    /// reason to ask a provider in trouble more often now.
    earned: f64,
    /// What there is without any call.
    floor: f64,
    at: Instant,
}

/// How many seconds' worth of the floor can be saved up.
const SAVED_SECONDS: f64 = 5.0;
/// After so many seconds half of what was put in is left.
const HALF_LIFE: f64 = 10.0;
/// The tokens fade in steps of so many seconds.
const STEP: f64 = 1.0;

impl AttemptBudget {
    /// `percent` of the calls, and `floor_per_second` besides.
    pub fn new(percent: u32, floor_per_second: u32) -> Self {
        let floor = f64::from(floor_per_second);
        let state = State { earned: 0.0, floor: floor * SAVED_SECONDS, at: Instant::now() };
        Self { share: f64::from(percent) / 100.0, floor, state: Mutex::new(state) }
    }

    /// A call begins, at this time.
    pub fn deposit(&self, now: Instant) {
        let mut state = self.state.lock();
        self.age(&mut state, now);
        state.earned += self.share;
    }

    /// Whether a further attempt may be made now.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.age(&mut state, now);
        let State { earned, floor, .. } = &mut *state;
        // Shares are fractions that binary numbers only come near.
        let enough = |tokens: f64| tokens >= 1.0 - 1e-6;
        let tokens = if enough(*earned) { earned } else { floor };
        let may = enough(*tokens);
        if may {
            *tokens -= 1.0;
        }
        may
    }

    fn age(&self, state: &mut State, now: Instant) {
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        if passed >= STEP {
            state.earned *= (-passed / HALF_LIFE).exp2();
            state.floor = (state.floor + passed * self.floor).min(self.floor * SAVED_SECONDS);
            state.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn attempts_are_a_share_of_the_calls() {
        let (budget, now) = (AttemptBudget::new(10, 0), Instant::now());
        assert!(!budget.withdraw(now));
        (0..100).for_each(|_| budget.deposit(now));
        assert_eq!((0..100).filter(|_| budget.withdraw(now)).count(), 10);
    }

    #[test]
    fn a_few_a_second_come_on_top_and_no_more_than_five_seconds_of_them_are_saved() {
        let (budget, start) = (AttemptBudget::new(0, 3), Instant::now());
        assert_eq!((0..100).filter(|_| budget.withdraw(start)).count(), 15);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..100).filter(|_| budget.withdraw(later)).count(), 6);
        let much_later = start + Duration::from_secs(2000);
        assert_eq!((0..100).filter(|_| budget.withdraw(much_later)).count(), 15);
    }

    #[test]
    fn what_was_saved_fades() {
        let (budget, start) = (AttemptBudget::new(10, 0), Instant::now());
        (0..1000).for_each(|_| budget.deposit(start));
        let later = start + Duration::from_secs(20);
        let left = (0..100).filter(|_| budget.withdraw(later)).count();
        assert!((24..=25).contains(&left), "a quarter after two half-lives: {left}");
        let much_later = start + Duration::from_secs(600);
        assert!(!budget.withdraw(much_later));
    }
}
