//! How long a record waits for others.
//!
//! A write to the disk costs many times what a record does. While calls are under way a record waits a moment
//! for theirs. Where calls are so quick that hardly two are under way at once, there is nobody to wait for,
//! and still a thousand of them a second would be a thousand writes. Whether more come within the moment can
//! only be found by waiting, and who calls one after the other waits in vain: so it is tried, kept while it
//! pays, and tried less and less often while it does not.
use std::time::{Duration, Instant};

/// A batch as large as this is written as soon as no other call is under way.
pub(super) const ENOUGH: usize = 16;
/// Fewer records than this in a batch are not worth their waiting.
const WORTH: usize = 3;
/// While waiting does not pay it is tried after so many times its length at most: 2 to this.
const SELDOM: u32 = 9;

/// Whether a batch waits for calls that have not begun.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How often in a row it did not pay.
    in_vain: u32,
    /// Before this it is not tried again.
    again: Option<Instant>,
    /// When the last batch ended.
    last: Option<Instant>,
    /// Whether this batch waits.
    waits: bool,
}

impl Pace {
    /// Whether the batch that begins now waits, for at most `gather`.
    pub(super) fn waits(&mut self, now: Instant, gather: Duration) -> bool {
        // Where batches are further apart than that, none is saved.
        let close = self.last.is_some_and(|last| now.saturating_duration_since(last) <= gather);
        self.waits = close && self.again.is_none_or(|again| now >= again);
        self.waits
    }

    /// Learns from a batch that ends now: how many records it has, and how long after the first the last came.
    pub(super) fn learn(&mut self, now: Instant, records: usize, apart: Duration, gather: Duration) {
        self.last = Some(now);
        if !self.waits {
            return;
        }
        // Calls that wait for each other come all at once, and then none does until they have their replies.
        if records >= WORTH && apart >= gather * 3 / 4 {
            (self.in_vain, self.again) = (0, None);
        } else {
            self.in_vain = (self.in_vain + 1).min(SELDOM);
            self.again = now.checked_add(gather * (1 << self.in_vain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: Duration = Duration::from_millis(2);

    /// How many batches of `count` waited that begin so many microseconds after the one before has ended, have so
    /// many records, and take so long where they wait.
    fn waited(
        pace: &mut Pace,
        now: &mut Instant,
        count: usize,
        after: u64,
        records: usize,
        long: u64,
    ) -> usize {
        let mut waited = 0;
        for _ in 0..count {
            *now += Duration::from_micros(after);
            let waits = pace.waits(*now, GATHER);
            waited += usize::from(waits);
            let (records, apart) =
                if waits { (records, Duration::from_micros(long)) } else { (1, Duration::ZERO) };
            *now += if waits { GATHER } else { Duration::ZERO };
            pace.learn(*now, records, apart, GATHER);
        }
        waited
    }

    #[test]
    fn a_steady_stream_of_calls_shares_writes() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(waited(&mut pace, &mut now, 1000, 1000, 3, 1900), 999, "all but the first");
        // Waited in vain once: tried again soon.
        waited(&mut pace, &mut now, 1, 1000, 1, 0);
        assert!(waited(&mut pace, &mut now, 10, 1000, 3, 1900) > 5);
    }

    #[test]
    fn who_calls_one_after_the_other_hardly_ever_waits() {
        // Five seconds of calls, of one who waits for each, and of a crowd that calls at once and waits for its replies.
        for (records, long) in [(1, 0), (12, 900)] {
            let (mut pace, mut now) = (Pace::default(), Instant::now());
            let waits = waited(&mut pace, &mut now, 20_000, 250, records, long);
            assert!(waits < 16, "{waits} of 20,000 batches");
            // Calls begin to come by themselves: within a second or so they share.
            assert!(waited(&mut pace, &mut now, 3000, 1000, 3, 1900) > 1900);
        }
    }

    #[test]
    fn where_calls_are_far_apart_none_waits() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(waited(&mut pace, &mut now, 10_000, 10_000, 3, 1900), 0);
    }
}
