//! The arithmetic of one limit: how much is owed, and how it melts away.
//!
//! What was taken is a debt. It melts evenly, a minute's allowance in a
//! minute, and never below nothing; a call is admitted if the debt, with what
//! the call takes, is at most the bucket's size. (That is GCRA, told from the
//! other side.) All of it is whole numbers: a request or token is
//! [`UNIT`] units, so that each microsecond pays off exactly as many units as
//! the limit has requests a minute, and nothing is ever rounded.

/// One request or token: the microseconds of a minute.
const UNIT: u64 = 60_000_000;

/// A limit: so many a minute, so many at once. Above some 300 thousand
/// million a minute, it is no limit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// How many a minute. It is also how many units a microsecond pays off.
    pub(super) per_minute: u64,
    /// How many at once.
    pub(super) burst: u64,
}

/// What is owed, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Debt(pub(super) u64);

impl Bucket {
    pub(super) fn new(per_minute: u64, burst: Option<u64>) -> Self {
        let per_minute = per_minute.max(1);
        Self { per_minute, burst: burst.unwrap_or(per_minute).max(1) }
    }

    /// What is still owed after so many microseconds.
    pub(super) fn after(self, debt: Debt, micros: u64) -> Debt {
        Debt(debt.0.saturating_sub(micros.saturating_mul(self.per_minute)))
    }

    /// The microseconds until `count` can be taken; nothing if that is now.
    pub(super) fn wait(self, debt: Debt, count: u64) -> u64 {
        let over = debt.and(count).0.saturating_sub(self.burst.saturating_mul(UNIT));
        if over == 0 { 0 } else { over.div_ceil(self.per_minute) }
    }

    /// How many can be taken now.
    pub(super) fn left(self, debt: Debt) -> u64 {
        self.burst.saturating_mul(UNIT).saturating_sub(debt.0) / UNIT
    }

    /// The microseconds until nothing is owed.
    pub(super) fn melts(self, debt: Debt) -> u64 {
        debt.0.div_ceil(self.per_minute)
    }
}

impl Debt {
    /// So many more are owed.
    pub(super) fn and(self, count: u64) -> Self {
        Self(self.0.saturating_add(count.saturating_mul(UNIT)))
    }

    /// So many are given back.
    pub(super) fn less(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count.saturating_mul(UNIT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_exact_and_rounded_up() {
        let seven = Bucket::new(7, None);
        let full = Debt::default().and(7);
        assert_eq!((seven.left(full), seven.left(Debt::default())), (0, 7));
        let wait = seven.wait(full, 1);
        assert_eq!(wait, 60_000_000_u64.div_ceil(7));
        assert_eq!(seven.wait(seven.after(full, wait), 1), 0);
        assert_eq!(seven.wait(seven.after(full, wait - 1), 1), 1);
        assert_eq!(seven.melts(full), 60_000_000);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let most = Bucket::new(u64::MAX, None);
        assert_eq!(most.wait(Debt::default().and(u64::MAX), u64::MAX), 0);
        assert_eq!(most.after(Debt(u64::MAX), u64::MAX), Debt(0));
        let least = Bucket::new(0, Some(0));
        assert_eq!((least.per_minute, least.burst), (1, 1));
        assert!(least.wait(Debt(u64::MAX), 1) > 0);
    }
}
