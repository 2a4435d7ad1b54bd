//! How fast places become free, so that nobody waits who would wait in vain.
//!
//! A queue that is longer than its patience refuses late: each one waits to
//! the end of it and is refused then. With the pace known, the same ones are
//! refused at once.
use std::time::{Duration, Instant};

use crate::caller::Priority;

/// Two of these are what the pace is taken over.
const SLOT: Duration = Duration::from_millis(500);
/// Before this nothing can be said.
const FIRST: Duration = Duration::from_millis(100);
/// How much of the room that the pace promises is used: it is an estimate,
/// and who is refused at once is served better than who waited for nothing.
pub(super) const STEADY: f64 = 0.8;
/// The same where the number of places follows a provider's latency. It is halved now and then to see what is usual,
/// and the pace falls with it: who was let in for all that the pace had promised would then be told to go after a wait.
pub(super) const MOVING: f64 = 0.25;

/// The places handed out lately to those who waited, by priority.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    now: Counts,
    /// What the slot before had; none before the first one is over.
    before: Option<Counts>,
}

type Counts = [u32; Priority::ALL.len()];

impl Pace {
    /// A queue begins.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, now: Counts::default(), before: None }
    }

    /// A place was handed out.
    pub(super) fn granted(&mut self, now: Instant, priority: Priority) {
        self.roll(now);
        self.now[priority as usize] += 1;
    }

    /// Places a second for a priority and all below, which have what those
    /// above leave them; `None` where the queue has only just begun.
    pub(super) fn per_second(&mut self, now: Instant, priority: Priority) -> Option<f64> {
        let (seen, over) = self.seen(now, priority)?;
        // One more than seen: none in a short time does not mean never.
        Some((f64::from(seen) + 1.0) / over.as_secs_f64())
    }

    /// The places handed out to a priority and all below, and over which time.
    fn seen(&mut self, now: Instant, priority: Priority) -> Option<(u32, Duration)> {
        self.roll(now);
        let mut over = now.saturating_duration_since(self.began);
        if self.before.is_some() {
            over += SLOT;
        }
        let counts = |counts: Counts| counts[..=priority as usize].iter().sum::<u32>();
        (over >= FIRST).then(|| (counts(self.now) + counts(self.before.unwrap_or_default()), over))
    }

    /// How many of a priority may wait, so that surely all of them have their turn within a patience; `sure` is that
    /// share of it that can be counted on. `behind`: somebody more urgent waits.
    pub(super) fn room(&mut self, now: Instant, priority: Priority, sure: Duration, behind: bool) -> usize {
        self.within(now, priority, sure, behind)
    }

    /// How many of a priority have their turn within `patience`, as far as can be told, behind those
    /// who are more urgent.
    pub(super) fn served(&mut self, now: Instant, priority: Priority, patience: Duration) -> usize {
        self.within(now, priority, patience, true)
    }

    fn within(&mut self, now: Instant, priority: Priority, patience: Duration, behind: bool) -> usize {
        let Some(pace) = self.per_second(now, priority) else { return usize::MAX };
        // Where others are served and these are not, those who are served will go on being so.
        let starved = behind
            && self.seen(now, priority).is_some_and(|(seen, _)| seen == 0)
            && self.seen(now, Priority::High).is_some_and(|(seen, _)| seen > 0);
        if starved { 0 } else { ((pace * patience.as_secs_f64()) as usize).max(1) }
    }

    fn roll(&mut self, now: Instant) {
        let past = now.saturating_duration_since(self.began);
        if past >= SLOT {
            self.before = Some(if past < SLOT * 2 { self.now } else { Counts::default() });
            self.now = Counts::default();
            // The longest wait is bounded by that of the queue: a few slots at most.
            let slots = past.as_nanos() / SLOT.as_nanos();
            self.began += SLOT * u32::try_from(slots).unwrap_or(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_what_the_pace_serves_within_the_patience() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let patience = Duration::from_secs(2).mul_f64(STEADY);
        assert_eq!(
            pace.room(start + FIRST / 2, Priority::High, patience, false),
            usize::MAX,
            "nothing is known yet"
        );
        for tick in 1..=400 {
            let priority = if tick % 2 == 0 { Priority::High } else { Priority::Normal };
            pace.granted(start + Duration::from_millis(5) * tick, priority);
        }
        let end = start + Duration::from_secs(2);
        let room = pace.room(end, Priority::High, patience, false);
        assert!((300..340).contains(&room), "200 a second for 2 s, less a fifth: {room}");
        let room = pace.room(end, Priority::Normal, patience, true);
        assert!((150..170).contains(&room), "half of them were for others: {room}");
        assert_eq!(pace.room(end, Priority::Low, patience, true), 0, "and nothing was left");
        assert!((1..=4).contains(&pace.room(end, Priority::Low, patience, false)), "as far as can be told");
        let later = pace.room(start + Duration::from_secs(4), Priority::High, patience, true);
        assert!((1..=3).contains(&later), "nothing was handed out for long: {later}");
    }
}
