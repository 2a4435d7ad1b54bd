//! A circuit breaker: leaves a target alone that keeps failing.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::IntGaugeVec;
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

/// A target's provider and label.
type Name = (Arc<str>, Arc<str>);

/// One breaker a target. They outlive reloads.
#[derive(Debug)]
pub struct Breakers {
    all: Mutex<HashMap<Name, Arc<Breaker>>>,
    gauge: IntGaugeVec,
}

impl Breakers {
    /// No breakers yet; their states will be shown in `gauge`.
    pub fn new(gauge: IntGaugeVec) -> Self {
        Self { all: Mutex::default(), gauge }
    }

    /// The breaker of a configured target. Targets that are not configured by
    /// name share the one of their provider, so that the map stays bounded.
    pub fn of(&self, target: &Target, settings: &Settings) -> Arc<Breaker> {
        let key = (target.provider.clone(), target.label.clone());
        let mut all = self.all.lock();
        let breaker = all.entry(key).or_insert_with_key(|(provider, label)| {
            Arc::new(Breaker {
                name: format!("{provider}/{label}"),
                state: Mutex::new(State {
                    settings: settings.clone(),
                    phase: Phase::Closed,
                    row: 0,
                    recent: VecDeque::new(),
                }),
                gauge: self.gauge.with_label_values(&[&**provider, &**label]),
            })
        });
        breaker.state.lock().settings = settings.clone();
        breaker.clone()
    }

    /// The names of the targets that are left alone right now.
    pub fn open(&self) -> Vec<String> {
        let all = self.all.lock();
        let open = |breaker: &&Arc<Breaker>| !matches!(breaker.state.lock().phase, Phase::Closed);
        all.values().filter(open).map(|breaker| breaker.name.clone()).collect()
    }
}

/// The breaker of one target.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    state: Mutex<State>,
    gauge: prometheus::IntGauge,
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
                state.phase = Phase::HalfOpen;
                self.gauge.set(1);
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
            state.phase = Phase::Closed;
            state.recent.clear();
            self.gauge.set(0);
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
            state.phase = Phase::Open { until: Instant::now() + state.settings.open_for.0 };
            self.gauge.set(2);
            tracing::warn!(target = %self.name, "Circuit breaker opened after {} failures", state.row);
        }
    }

    fn forgotten(&self, probe: bool) {
        // A probe that told nothing makes room for the next one.
        let mut state = self.state.lock();
        if probe && matches!(state.phase, Phase::HalfOpen) {
            state.phase = Phase::Open { until: Instant::now() };
        }
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

    fn breaker(open_for: Duration) -> Arc<Breaker> {
        let gauge = IntGaugeVec::new(prometheus::Opts::new("b", "b"), &["provider", "model"]).unwrap();
        let target = Target {
            provider: "p".into(),
            model: "m".into(),
            version: "m".into(),
            label: "m".into(),
            slot: 0,
        };
        let settings = Settings { open_for: Span(open_for), ..Settings::default() };
        Breakers::new(gauge).of(&target, &settings)
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
}
