//! A limit that follows what a provider can take.
//!
//! Nobody knows how many calls at the same time a provider answers well, and
//! it changes. The first content of an answer comes later when calls queue up
//! behind it, so its latency shows the limit: the gradient of Netflix's
//! concurrency-limits ("Performance Under Load", 2018) compares the latency of
//! the last moments with the usual one, and the limit falls by their ratio.
//! While it does not fall it grows, as TCP's does: twice as much a round at
//! first, by its root later, and only while it is made use of. A provider that
//! says that it is busy is taken at its word (multiplicative decrease).
//!
//! The usual latency is learned while the limit is not reached. At the limit
//! it only falls: else a queue that lasts would become what is usual, and the
//! limit would grow without end. Whoever is at the limit for long asks for half
//! as much for a moment, to see what is usual without a queue (as BBR does,
//! Cardwell et al. 2016).
use std::time::{Duration, Instant};

/// The limit begins here.
const START: f64 = 16.0;
/// It never falls below this.
const FLOOR: f64 = 4.0;
/// Latencies are judged by the mean of at least so many.
const SAMPLES: u32 = 20;
/// A window lasts at least this long, and as long as one answer.
const WINDOW: Duration = Duration::from_millis(100);
/// A latency up to so many times the usual one says nothing.
const TOLERANCE: f64 = 1.5;
/// How fast the usual latency is learned, a window.
const LEARN: f64 = 0.1;
/// After so many windows at the limit, half as much is asked for.
const PROBE_AFTER: u32 = 25;
/// Up to so many times the usual latency, twice as much is asked for.
const EASY: f64 = 1.1;
/// How much of what that shows is believed.
const LEARN_BY_PROBE: f64 = 0.5;

/// A limit that follows what a provider can take. No clock, no lock.
#[derive(Debug)]
pub(super) struct Adaptive {
    limit: f64,
    most: f64,
    /// Growing in leaps: nothing has ever spoken against it.
    leaps: bool,
    /// The usual latency, in seconds; none before the first window.
    usual: Option<f64>,
    window: Window,
    /// Windows at the limit, one after the other.
    reached: u32,
    probe: Option<Probe>,
}

/// A moment with half as much.
#[derive(Debug)]
struct Probe {
    /// The limit before, and after.
    limit: f64,
    /// Whether all calls of the window began within it.
    settled: bool,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    seconds: f64,
    answered: u32,
    busy: u32,
    /// The most calls at the same time.
    taken: u32,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { began: now, seconds: 0.0, answered: 0, busy: 0, taken: 0 }
    }
}

impl Adaptive {
    /// A limit that is never above `most`.
    pub(super) fn new(most: u32, now: Instant) -> Self {
        let most = f64::from(most);
        Self {
            limit: START.min(most),
            most,
            leaps: true,
            usual: None,
            window: Window::new(now),
            reached: 0,
            probe: None,
        }
    }

    /// Another upper bound.
    pub(super) fn set_most(&mut self, most: u32) {
        self.most = f64::from(most);
        self.limit = self.limit.min(self.most);
    }

    /// The limit in force.
    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// The first content of an answer came after `took`; `taken` calls are under way.
    pub(super) fn answered(&mut self, now: Instant, took: Duration, taken: u32) -> u32 {
        self.window.seconds += took.as_secs_f64();
        self.window.answered += 1;
        self.counted(now, taken)
    }

    /// The provider said that it is busy, or said nothing in time.
    pub(super) fn busy(&mut self, now: Instant, taken: u32) -> u32 {
        self.window.busy += 1;
        self.counted(now, taken)
    }

    fn counted(&mut self, now: Instant, taken: u32) -> u32 {
        let window = &mut self.window;
        window.taken = window.taken.max(taken);
        let mean = window.seconds / f64::from(window.answered.max(1));
        let over = now.saturating_duration_since(window.began).as_secs_f64();
        if window.answered + window.busy >= SAMPLES && over >= mean.max(WINDOW.as_secs_f64()) {
            let window = std::mem::replace(window, Window::new(now));
            self.judge(&window, mean);
        }
        self.limit()
    }

    fn judge(&mut self, window: &Window, mean: f64) {
        if window.busy > 0 {
            let share = f64::from(window.busy) / f64::from(window.answered + window.busy);
            (self.leaps, self.probe, self.reached) = (false, None, 0);
            self.limit *= (1.0 - share).clamp(0.8, 0.95);
        } else if let Some(probe) = &mut self.probe {
            if !std::mem::replace(&mut probe.settled, true) {
                return;
            }
            self.limit = probe.limit;
            self.probe = None;
            self.learn(mean, LEARN_BY_PROBE);
        } else {
            let taken = f64::from(window.taken);
            let used = taken >= self.limit / 2.0;
            // So few cannot stand in each other's way.
            let reached = taken >= self.limit * 0.9 && self.limit > FLOOR;
            let usual = *self.usual.get_or_insert(mean);
            let gradient = (TOLERANCE * usual / mean.max(1e-6)).clamp(0.5, 1.0);
            if gradient < 1.0 {
                self.leaps = false;
                self.limit = self.limit * gradient + self.limit.sqrt();
            } else if used {
                // What is told is of a moment ago, when fewer were asked for: a little later is a sign already.
                let leap = self.leaps && mean <= EASY * usual;
                self.limit += if leap { self.limit } else { self.limit.sqrt() };
            }
            if !reached || mean < usual {
                self.learn(mean, LEARN);
            }
            self.reached = if reached { self.reached + 1 } else { 0 };
            if self.reached >= PROBE_AFTER {
                self.reached = 0;
                self.probe = Some(Probe { limit: self.limit.min(self.most), settled: false });
                self.limit /= 2.0;
            }
        }
        self.limit = self.limit.clamp(FLOOR.min(self.most), self.most);
    }

    fn learn(&mut self, mean: f64, share: f64) {
        self.usual = self.usual.map(|usual| usual + (mean - usual) * share);
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use super::*;

    /// A provider that answers `places` calls at a time and lets the others
    /// wait, and more calls than it can take. Tells the limits and how many
    /// answers there were a second, second by second.
    fn overload(places: usize, service: Duration, seconds: u32, refuses: bool) -> Vec<(u32, u32)> {
        let start = Instant::now();
        let mut it = Adaptive::new(4096, start);
        let mut free: BinaryHeap<Reverse<Instant>> = (0..places).map(|_| Reverse(start)).collect();
        // The answers to come: when, and when they were asked for.
        let mut coming: BinaryHeap<Reverse<(Instant, Instant, bool)>> = BinaryHeap::new();
        let (mut now, mut limit, mut told, mut answers, mut noise) =
            (start, it.limit(), Vec::new(), 0, 1_u64);
        while told.len() < seconds as usize {
            while coming.len() < limit as usize {
                // Services differ: half to one and a half of the usual time.
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let took = service.mul_f64(0.5 + (noise >> 33) as f64 / f64::from(1_u32 << 31));
                let Reverse(place) = free.pop().unwrap();
                if refuses && place > now {
                    free.push(Reverse(place));
                    coming.push(Reverse((now + Duration::from_millis(5), now, false)));
                } else {
                    let end = place.max(now) + took;
                    free.push(Reverse(end));
                    coming.push(Reverse((end, now, true)));
                }
            }
            let Reverse((end, asked, answered)) = coming.pop().unwrap();
            now = end;
            let taken = coming.len() as u32 + 1;
            limit = if answered { it.answered(now, now - asked, taken) } else { it.busy(now, taken) };
            answers += u32::from(answered);
            if now - start >= Duration::from_secs(told.len() as u64 + 1) {
                told.push((limit, std::mem::take(&mut answers)));
            }
        }
        told
    }

    #[test]
    fn it_finds_what_a_provider_that_queues_can_take_and_stays_there() {
        for (places, service) in [(20, 50), (100, 200), (50, 1000)] {
            let told = overload(places, Duration::from_millis(service), 120, false);
            let best = places as u64 * 1000 / service;
            for (limit, answers) in &told[60..] {
                assert!((places as u32 / 2..places as u32 * 3).contains(limit), "{places} places: {told:?}");
                assert!(u64::from(*answers) * 10 >= best * 8, "{places} places: {told:?}");
            }
        }
    }

    #[test]
    fn a_provider_that_refuses_is_taken_at_its_word() {
        let told = overload(20, Duration::from_millis(50), 20, true);
        let mean = told[5..].iter().map(|(_, answers)| answers).sum::<u32>() / 15;
        assert!(mean >= 320, "of 400 a second: {told:?}");
        assert!(told[5..].iter().all(|(limit, _)| (8..40).contains(limit)), "{told:?}");
    }

    #[test]
    fn without_use_it_does_not_grow_and_with_it_it_grows_fast() {
        let (start, took) = (Instant::now(), Duration::from_millis(10));
        let mut it = Adaptive::new(1000, start);
        (0..2000).for_each(|n| {
            it.answered(start + Duration::from_millis(10) * n, took, 2);
        });
        assert_eq!(it.limit(), 16);
        (2000..4000).for_each(|n| {
            it.answered(start + Duration::from_millis(10) * n, took, it.limit());
        });
        assert_eq!(it.limit(), 1000);
    }
}
