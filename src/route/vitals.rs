//! How well targets do, as their calls tell: how soon they begin, how often they fail.
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::call::Target;

/// A target's provider and label.
type Name = (Arc<str>, Arc<str>);

/// What is known of each target. It outlives reloads.
#[derive(Debug, Default)]
pub struct Vitals(Mutex<HashMap<Name, Arc<Vital>>>);

impl Vitals {
    /// What is known of a configured target.
    pub fn of(&self, target: &Target) -> Arc<Vital> {
        let key = (target.provider.clone(), target.label.clone());
        self.0.lock().entry(key).or_default().clone()
    }
}

/// What is known of one target.
#[derive(Debug, Default)]
pub struct Vital {
    /// Calls that wait for its first content.
    waiting: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of whole answers, and of streams.
    began: [Soon; 2],
    /// Since the last look: calls that ended well, and those that failed by its fault.
    ended: (u32, u32),
    /// How soon the last streams began, in seconds.
    recent: Vec<f32>,
    next: usize,
    /// The 95th percentile of them, and how many there were by then.
    p95: (Option<Duration>, u32),
    seen: u32,
    /// How many there were at the last look.
    looked: u32,
    ejected_until: Option<Instant>,
    /// How often it was ejected lately.
    ejections: u32,
}

/// An average that follows a rise at once and a fall slowly ("peak EWMA", as
/// Finagle's load balancer has it: <https://twitter.github.io/finagle/guide/Clients.html>).
/// It fades while nothing is heard, so that a target which has recovered is found.
#[derive(Clone, Copy, Debug, Default)]
struct Soon {
    seconds: f64,
    at: Option<Instant>,
}

/// After so many seconds a value that is not renewed has faded to a third.
const FADES: f64 = 10.0;
/// A target that nobody has asked is taken to be this fast, in seconds.
const UNKNOWN: f64 = 0.001;
/// A failure is no faster than this, in seconds.
const FAILED: f64 = 1.0;
/// How many streams a percentile is taken of, and how many it takes at least.
const RECENT: usize = 128;
const FEWEST: usize = 20;
/// A percentile is good for so many streams.
const RENEWED: u32 = 16;

impl Soon {
    fn now(self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        self.seconds * (-now.saturating_duration_since(at).as_secs_f64() / FADES).exp()
    }

    fn heard(&mut self, seconds: f64, now: Instant) {
        let before = self.now(now);
        self.seconds = match self.at {
            // It has faded by what is now added of the new one.
            Some(at) if seconds < self.seconds => {
                let old = (-now.saturating_duration_since(at).as_secs_f64() / FADES).exp();
                before + seconds * (1.0 - old)
            }
            _ => seconds,
        };
        self.at = Some(now);
    }
}

/// Somebody waits for a target's first content. Dropped before it is told what
/// came, it tells that it took at least so long.
#[derive(Debug)]
pub struct Waiting {
    vital: Arc<Vital>,
    streamed: bool,
    since: Instant,
    told: bool,
}

impl Waiting {
    /// The first content has come.
    pub fn began(mut self) {
        self.told = true;
        self.vital.began(self.streamed, self.since.elapsed(), Instant::now());
    }

    /// The call has failed; `fault` says whether the target is to blame.
    pub fn failed(mut self, fault: bool) {
        self.told = true;
        if fault {
            self.vital.slow(self.streamed, self.since.elapsed(), Instant::now());
            self.vital.ended(false);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.vital.waiting.fetch_sub(1, Ordering::Relaxed);
        if !self.told {
            self.vital.at_least(self.streamed, self.since.elapsed(), Instant::now());
        }
    }
}

impl Vital {
    /// A call begins to wait.
    pub fn wait(self: &Arc<Self>, streamed: bool) -> Waiting {
        let since = Instant::now();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { vital: self.clone(), streamed, since, told: false }
    }

    /// The first content of an answer has come after so long.
    pub(super) fn began(&self, streamed: bool, after: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.began[usize::from(streamed)].heard(after.as_secs_f64(), now);
        if streamed {
            state.remember(after);
        }
    }

    /// Nobody waited for the first content longer than this.
    fn at_least(&self, streamed: bool, waited: Duration, now: Instant) {
        let mut state = self.state.lock();
        let began = &mut state.began[usize::from(streamed)];
        if waited.as_secs_f64() > began.now(now) {
            began.heard(waited.as_secs_f64(), now);
        }
        if streamed && state.p95.0.is_some_and(|p95| waited >= p95) {
            state.remember(waited);
        }
    }

    /// An answer has ended, well or by the target's fault.
    pub fn ended(&self, well: bool) {
        let mut state = self.state.lock();
        *(if well { &mut state.ended.0 } else { &mut state.ended.1 }) += 1;
    }

    /// A call has failed after so long: nothing has begun, and it is no use to ask again at once.
    fn slow(&self, streamed: bool, after: Duration, now: Instant) {
        let mut state = self.state.lock();
        let began = &mut state.began[usize::from(streamed)];
        let slow = (2.0 * began.now(now)).max(after.as_secs_f64()).max(FAILED);
        began.heard(slow, now);
    }

    /// How soon it is to begin if it is asked now: less is better.
    pub fn expected(&self, streamed: bool, now: Instant) -> f64 {
        let began = self.state.lock().began[usize::from(streamed)].now(now);
        began.max(UNKNOWN) * f64::from(1 + self.waiting.load(Ordering::Relaxed))
    }

    /// How soon 95 of 100 streams began, where enough are known.
    pub fn p95(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        if state.recent.len() < FEWEST {
            return None;
        }
        if state.p95.0.is_none() || state.seen.wrapping_sub(state.p95.1) >= RENEWED {
            let mut sorted = state.recent.clone();
            let at = (sorted.len() * 95).div_ceil(100) - 1;
            let (_, nth, _) = sorted.select_nth_unstable_by(at, f32::total_cmp);
            state.p95 = (Some(Duration::from_secs_f32(*nth)), state.seen);
        }
        state.p95.0
    }

    /// Whether it is left out for now.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.state.lock().ejected_until.is_some_and(|until| now < until)
    }

    /// Takes what has become of calls since the last look. How soon they begin
    /// is told of streams only, and if `fewest` have begun: whole answers take
    /// as long as they are long, and a single late one says nothing.
    pub(super) fn look(&self, fewest: u32) -> Look {
        let mut state = self.state.lock();
        let (succeeded, failed) = std::mem::take(&mut state.ended);
        let (new, seen, next) = (state.seen.wrapping_sub(state.looked), state.seen, state.next);
        state.looked = seen;
        let many = (new as usize).min(state.recent.len());
        let length = state.recent.len().max(1);
        let newest = (1..=many).map(|back| state.recent[(next + length - back) % length]);
        let mut newest: Vec<f32> = newest.collect();
        let median = (new >= fewest && many > 0).then(|| {
            let (_, median, _) = newest.select_nth_unstable_by(many / 2, f32::total_cmp);
            f64::from(*median)
        });
        Look { succeeded, failed, median }
    }

    /// Leaves it out, longer each time. Tells for how long.
    pub(super) fn eject(&self, base: Duration, longest: Duration, now: Instant) -> Duration {
        let mut state = self.state.lock();
        state.ejections += 1;
        let time = base.saturating_mul(state.ejections).min(longest);
        state.ejected_until = Some(now + time);
        time
    }

    /// Whether its time is over since the last look.
    pub(super) fn is_back(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let over = state.ejected_until.is_some_and(|until| now >= until);
        if over {
            state.ejected_until = None;
        }
        over
    }

    /// It did no worse than the others: the next ejection is shorter again.
    pub(super) fn forgive(&self) {
        let mut state = self.state.lock();
        state.ejections = state.ejections.saturating_sub(1);
    }
}

impl State {
    /// Remembers how soon a stream began.
    fn remember(&mut self, after: Duration) {
        let (seconds, next) = (after.as_secs_f32(), self.next);
        if self.recent.len() < RECENT {
            self.recent.push(seconds);
        } else {
            self.recent[next] = seconds;
        }
        self.next = (next + 1) % RECENT;
        self.seen = self.seen.wrapping_add(1);
    }
}

/// What became of a target's calls since the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    /// How soon every second stream began, in seconds.
    pub(super) median: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_rise_counts_at_once_and_a_fall_slowly() {
        let (vital, start) = (Vital::default(), Instant::now());
        assert!(vital.expected(true, start) < 0.01, "nobody knows it: it is tried");
        vital.began(true, secs(0.2), start);
        vital.began(true, secs(2.0), start);
        assert!((vital.expected(true, start) - 2.0).abs() < 1e-9);
        vital.began(true, secs(0.2), start + secs(1.0));
        let after = vital.expected(true, start + secs(1.0));
        assert!((1.5..2.0).contains(&after), "{after}");
        assert!(vital.expected(false, start) < 0.01, "whole answers are counted apart");
    }

    #[test]
    fn what_is_not_asked_is_tried_again_after_a_while_but_not_by_all_at_once() {
        let (vital, start) = (Arc::new(Vital::default()), Instant::now());
        vital.slow(true, secs(5.0), start);
        assert!(vital.expected(true, start) >= 5.0);
        let later = start + secs(40.0);
        assert!(vital.expected(true, later) < 0.1);
        let waiting: Vec<_> = (0..9).map(|_| vital.wait(true)).collect();
        assert!(vital.expected(true, later) > 0.5);
        drop(waiting);
        assert!(vital.expected(true, later) < 0.2);
    }

    #[test]
    fn a_percentile_needs_enough_streams() {
        let (vital, now) = (Vital::default(), Instant::now());
        (0..19).for_each(|_| vital.began(true, secs(1.0), now));
        assert_eq!(vital.p95(), None);
        (0..400).for_each(|n| vital.began(true, secs(f64::from(n % 100) / 100.0), now));
        let p95 = vital.p95().unwrap().as_secs_f64();
        assert!((0.88..1.0).contains(&p95), "{p95}");
    }
}
