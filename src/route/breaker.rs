//! A circuit breaker: leaves a target alone that keeps failing.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::{IntGauge, IntGaugeVec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{call::Target, settings::Span};

/// When a target is left alone, and for how long.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Opens after so many failures in a row.
    #[garde(range(min = 1, max = 10_000))]
    pub failures: u32,
    /// The time over which the error rate is taken.
    #[garde(skip)]
    pub window: Span,
    /// Opens at this share of failures within the window, 0 to 1.
    #[garde(range(min = 0.01, max = 1.0))]
    pub error_rate: f64,
    /// The error rate counts from so many calls within the window on.
    #[garde(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,
    /// How long a target is left alone before one call probes it.
    #[garde(skip)]
    pub open_for: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Span::secs(30),
            error_rate: 0.5,
            min_requests: 20,
            open_for: Span::secs(60),
        }
    }
}

/// A provider and one of its models, or the label of some.
type Name = (Arc<str>, Arc<str>);

/// Beyond so many, those that nobody holds any more are given up: callers' names for models come and go with reloads.
const MANY: usize = 4096;

/// One breaker a target. They outlive reloads.
#[derive(Debug)]
pub struct Breakers {
    all: Mutex<HashMap<Name, Arc<Breaker>>>,
    shown: Mutex<HashMap<Name, Arc<Shown>>>,
    gauge: IntGaugeVec,
}

impl Breakers {
    /// No breakers yet; their states will be shown in `gauge`.
    pub fn new(gauge: IntGaugeVec) -> Self {
        Self { all: Mutex::default(), shown: Mutex::default(), gauge }
    }

    /// The breaker of a target's model.
    pub fn of(&self, target: &Target, settings: &Settings) -> Arc<Breaker> {
        let mut all = self.all.lock();
        if all.len() >= MANY {
            all.retain(|_, breaker| Arc::strong_count(breaker) > 1);
        }
        let key = (target.provider.clone(), target.model.clone());
        let breaker = all.entry(key).or_insert_with(|| {
            Arc::new(Breaker {
                name: format!("{}/{}", target.provider, target.model),
                state: Mutex::new(State {
                    settings: settings.clone(),
                    phase: Phase::Closed,
                    row: 0,
                    recent: VecDeque::new(),
                }),
                shown: self.shown(target),
            })
        });
        breaker.state.lock().settings = settings.clone();
        breaker.clone()
    }

    fn shown(&self, target: &Target) -> Arc<Shown> {
        let mut shown = self.shown.lock();
        let name = (target.provider.clone(), target.label.clone());
        let gauge = || self.gauge.with_label_values(&[&*target.provider, &*target.label]);
        let new = || Shown { gauge: gauge(), phases: Mutex::default() };
        shown.entry(name).or_insert_with(|| Arc::new(new())).clone()
    }

    /// The names of the targets that are left alone right now; those of models that callers name are not told.
    pub fn open(&self) -> Vec<String> {
        let shown = self.shown.lock();
        let open = shown.iter().filter(|(_, shown)| !shown.is_closed());
        let mut open: Vec<_> = open.map(|((provider, label), _)| format!("{provider}/{label}")).collect();
        open.sort_unstable();
        open
    }
}

/// What is shown of the breakers under one label: the worst of their states.
#[derive(Debug)]
struct Shown {
    gauge: IntGauge,
    /// How many are half-open, and how many open.
    phases: Mutex<(usize, usize)>,
}

impl Shown {
    fn turned(&self, from: Phase, to: Phase) {
        let mut phases = self.phases.lock();
        match from {
            Phase::Closed => {}
            Phase::HalfOpen => phases.0 -= 1,
            Phase::Open { .. } => phases.1 -= 1,
        }
        match to {
            Phase::Closed => {}
            Phase::HalfOpen => phases.0 += 1,
            Phase::Open { .. } => phases.1 += 1,
        }
        self.gauge.set(match *phases {
            (_, 1..) => 2,
            (1.., 0) => 1,
            (0, 0) => 0,
        });
    }

    fn is_closed(&self) -> bool {
        *self.phases.lock() == (0, 0)
    }
}

/// The breaker of one target.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    state: Mutex<State>,
    shown: Arc<Shown>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    phase: Phase,
    /// Failures in a row.
    row: u32,
    /// What became of recent calls: when, and whether they failed.
    recent: VecDeque<(Instant, bool)>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// One call probes the target.
    HalfOpen,
}

/// More calls than this within a window tell no more than this many.
const MOST_RECENT: usize = 1000;

/// The right to make one call. Exactly one of its ends is told; dropped, it
/// says nothing about the target.
#[derive(Debug)]
pub struct Permission {
    breaker: Arc<Breaker>,
    probe: bool,
    told: bool,
}

impl Breaker {
    /// Asks for a call. `Err` says when to ask again.
    pub fn ask(self: &Arc<Self>) -> Result<Permission, Duration> {
        let mut state = self.state.lock();
        let probe = match state.phase {
            Phase::Closed => false,
            Phase::HalfOpen => return Err(Duration::from_secs(1)),
            Phase::Open { until } => {
                let now = Instant::now();
                if now < until {
                    return Err(until - now);
                }
                self.turn(&mut state, Phase::HalfOpen);
                tracing::info!(target = %self.name, "Circuit breaker half-open: one call probes the target");
                true
            }
        };
        Ok(Permission { breaker: self.clone(), probe, told: false })
    }

    /// How long it will let no call through; `None` where it may let one through now. Asks for nothing.
    pub fn open_for(&self) -> Option<Duration> {
        match self.state.lock().phase {
            Phase::Open { until } => until.checked_duration_since(Instant::now()),
            Phase::Closed | Phase::HalfOpen => None,
        }
    }

    /// Whether it lets calls through, in a word: `closed`, `half-open`, `open`. Asks for nothing.
    pub fn state(&self) -> &'static str {
        match self.state.lock().phase {
            Phase::Closed => "closed",
            // The next call probes it.
            Phase::Open { until } if Instant::now() >= until => "half-open",
            Phase::HalfOpen => "half-open",
            Phase::Open { .. } => "open",
        }
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        state.row = 0;
        state.remember(false);
        if !matches!(state.phase, Phase::Closed) {
            self.turn(&mut state, Phase::Closed);
            state.recent.clear();
            tracing::info!(target = %self.name, "Circuit breaker closed");
        }
    }

    fn failed(&self, probe: bool) {
        let mut state = self.state.lock();
        state.row += 1;
        state.remember(true);
        let trip = match state.phase {
            Phase::Closed => state.row >= state.settings.failures || state.too_many(),
            Phase::HalfOpen => probe,
            Phase::Open { .. } => false,
        };
        if trip {
            let until = Instant::now() + state.settings.open_for.0;
            self.turn(&mut state, Phase::Open { until });
            tracing::warn!(target = %self.name, "Circuit breaker opened after {} failures", state.row);
        }
    }

    fn forgotten(&self, probe: bool) {
        // A probe that told nothing makes room for the next one.
        let mut state = self.state.lock();
        if probe && matches!(state.phase, Phase::HalfOpen) {
            self.turn(&mut state, Phase::Open { until: Instant::now() });
        }
    }

    fn turn(&self, state: &mut State, to: Phase) {
        self.shown.turned(std::mem::replace(&mut state.phase, to), to);
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.shown.turned(self.state.get_mut().phase, Phase::Closed);
    }
}

impl State {
    fn remember(&mut self, failed: bool) {
        let now = Instant::now();
        let window = self.settings.window.0;
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
            self.recent.pop_front();
        }
        if self.recent.len() == MOST_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, failed));
    }

    fn too_many(&self) -> bool {
        let failed = self.recent.iter().filter(|(_, failed)| *failed).count();
        self.recent.len() >= self.settings.min_requests as usize
            && failed as f64 >= self.settings.error_rate * self.recent.len() as f64
    }
}

impl Permission {
    /// The call ended well.
    pub fn succeeded(mut self) {
        self.told = true;
        self.breaker.succeeded();
    }

    /// The call failed by the target's fault.
    pub fn failed(mut self) {
        self.told = true;
        self.breaker.failed(self.probe);
    }
}

impl Drop for Permission {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.forgotten(self.probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakers() -> Breakers {
        let gauge = IntGaugeVec::new(prometheus::Opts::new("b", "b"), &["provider", "model"]).unwrap();
        Breakers::new(gauge)
    }

    fn target(model: &str, label: &str) -> Target {
        let (model, label): (Arc<str>, _) = (model.into(), label.into());
        Target { provider: "p".into(), version: model.clone(), model, label, slot: 0 }
    }

    fn breaker(open_for: Duration) -> Arc<Breaker> {
        let settings = Settings { open_for: Span(open_for), ..Settings::default() };
        breakers().of(&target("m", "m"), &settings)
    }

    fn fail(breaker: &Arc<Breaker>, times: usize) {
        (0..times).for_each(|_| breaker.ask().unwrap().failed());
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_between_does_not() {
        let it = breaker(Duration::from_secs(60));
        fail(&it, 4);
        it.ask().unwrap().succeeded();
        fail(&it, 4);
        assert!(it.ask().is_ok());
        fail(&it, 1);
        assert!(it.ask().unwrap_err() > Duration::from_secs(59));
    }

    #[test]
    fn one_probe_decides_and_a_probe_that_is_dropped_does_not() {
        let it = breaker(Duration::ZERO);
        fail(&it, 5);
        let probe = it.ask().unwrap();
        assert!(it.ask().is_err(), "only one probe at a time");
        drop(probe);
        it.ask().unwrap().failed();
        it.ask().unwrap().succeeded();
        assert!(it.ask().is_ok() && it.ask().is_ok());
    }

    #[test]
    fn a_rate_of_failures_opens_it_too() {
        let it = breaker(Duration::from_secs(60));
        for _ in 0..10 {
            it.ask().unwrap().succeeded();
            it.ask().unwrap().failed();
        }
        assert!(it.ask().is_err());
    }

    #[test]
    fn breakers_under_one_label_show_the_worst_of_their_states() {
        let all = breakers();
        let settings = Settings { open_for: Span(Duration::ZERO), ..Settings::default() };
        let [one, two] = ["one", "two"].map(|model| all.of(&target(model, "other"), &settings));
        let shown = || all.gauge.with_label_values(&["p", "other"]).get();
        fail(&one, 5);
        fail(&two, 5);
        assert_eq!((shown(), all.open()), (2, vec!["p/other".to_owned()]));
        one.ask().unwrap().succeeded();
        assert_eq!(shown(), 2, "the other one is still open");
        let probe = two.ask().unwrap();
        assert_eq!(shown(), 1);
        probe.succeeded();
        assert_eq!((shown(), all.open()), (0, vec![]));
    }

    #[test]
    fn those_that_nobody_holds_are_given_up() {
        let all = breakers();
        let settings = Settings::default();
        let held = all.of(&target("held", "other"), &settings);
        fail(&held, 5);
        for n in 0..3 * MANY {
            let passing = all.of(&target(&n.to_string(), "other"), &settings);
            if n % 10 == 0 {
                fail(&passing, 5);
            }
        }
        assert!(all.all.lock().len() <= MANY);
        assert!(all.of(&target("held", "other"), &settings).ask().is_err());
        drop(held);
        all.all.lock().clear();
        assert_eq!(
            all.gauge.with_label_values(&["p", "other"]).get(),
            0,
            "those that are gone are not counted"
        );
    }
}
