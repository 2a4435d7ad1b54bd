//! Leaves out an endpoint that does worse than the others of its model.
//!
//! A breaker looks at one target alone; this looks at all that serve the same
//! model, and so finds the one that is merely slow, or fails now and then.
//! After Envoy's outlier detection
//! (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier>).
use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vitals::{Look, Vital};
use crate::{call::Target, observe::Metrics, settings::Span};

/// When an endpoint stands out, and for how long it is left out.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether endpoints are compared.
    #[garde(skip)]
    pub enabled: bool,
    /// How often they are compared.
    #[garde(skip)]
    pub interval: Span,
    /// An endpoint with fewer calls within an interval is not judged.
    #[garde(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,
    /// Below this share of failures, 0 to 1, nobody stands out.
    #[garde(range(min = 0.01, max = 1.0))]
    pub error_rate: f64,
    /// Stands out who fails this many times as often as the others together, or begins this many times as late.
    #[garde(range(min = 1.1, max = 1000.0))]
    pub factor: f64,
    /// How long it is left out the first time; each further time as much longer.
    #[garde(skip)]
    pub eject_for: Span,
    /// The longest that it is left out.
    #[garde(skip)]
    pub longest: Span,
    /// At most this share of a model's endpoints is left out at a time, in percent; one may always be.
    #[garde(range(max = 100))]
    pub max_percent: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Span::secs(10),
            min_requests: 20,
            error_rate: 0.2,
            factor: 3.0,
            eject_for: Span::secs(30),
            longest: Span::secs(300),
            max_percent: 50,
        }
    }
}

/// Whose streams begin later than this may stand out, in seconds: below it the network's whims decide.
const NOTABLE: f64 = 0.2;

/// The endpoints of one model.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<(Arc<Target>, Arc<Vital>)>,
    settings: Settings,
    metrics: Arc<Metrics>,
    next: Mutex<Instant>,
}

impl Group {
    /// The endpoints of one model. `None` where there is nothing to compare.
    pub(super) fn new(
        members: Vec<(Arc<Target>, Arc<Vital>)>,
        settings: &Settings,
        metrics: &Arc<Metrics>,
    ) -> Option<Self> {
        let next = Mutex::new(Instant::now() + settings.interval.0);
        (settings.enabled && members.len() > 1).then(|| Self {
            members,
            settings: settings.clone(),
            metrics: metrics.clone(),
            next,
        })
    }

    /// Compares them, if it is time to.
    pub(super) fn check(&self, now: Instant) {
        let Some(mut next) = self.next.try_lock().filter(|next| now >= **next) else { return };
        *next = now + self.settings.interval.0;
        let looks: Vec<Look> =
            self.members.iter().map(|(_, vital)| vital.look(self.settings.min_requests)).collect();
        let most = (self.members.len() * self.settings.max_percent as usize / 100).max(1);
        let mut out = self.members.iter().filter(|(_, vital)| vital.is_ejected(now)).count();
        for (at, (target, vital)) in self.members.iter().enumerate() {
            let back = vital.is_back(now);
            if back {
                self.show(target, 0);
            }
            if vital.is_ejected(now) {
                continue;
            }
            let Some(reason) = self.stands_out(at, &looks) else {
                if !back {
                    vital.forgive();
                }
                continue;
            };
            if out < most {
                out += 1;
                let time = vital.eject(self.settings.eject_for.0, self.settings.longest.0, now);
                self.show(target, 1);
                self.metrics.ejections.with_label_values(&[&*target.provider, &*target.label, reason]).inc();
                tracing::warn!(provider = %target.provider, model = %target.model, reason, ?time,
                    "an endpoint does worse than the others of its model and is left out");
            }
        }
    }

    fn show(&self, target: &Target, value: i64) {
        self.metrics.ejected.with_label_values(&[&*target.provider, &*target.label]).set(value);
    }

    fn stands_out(&self, at: usize, looks: &[Look]) -> Option<&'static str> {
        let Settings { min_requests, error_rate, factor, .. } = self.settings;
        let rate = |succeeded: u32, failed: u32| f64::from(failed) / f64::from((succeeded + failed).max(1));
        let one = looks[at];
        if one.succeeded + one.failed < min_requests {
            return None;
        }
        let others = || looks.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, look)| look);
        let (succeeded, failed) =
            others().fold((0, 0), |sum, look| (sum.0 + look.succeeded, sum.1 + look.failed));
        // Without the others' word there is nothing to compare with.
        if succeeded + failed < min_requests {
            return None;
        }
        let own = rate(one.succeeded, one.failed);
        if own >= error_rate && own >= factor * rate(succeeded, failed) {
            return Some("errors");
        }
        let mut soon: Vec<f64> = others().filter_map(|look| look.median).collect();
        soon.sort_by(f64::total_cmp);
        // The one in the middle, or the slower of the two there.
        let (own, others) = (one.median?, soon.get(soon.len() / 2)?);
        (own > NOTABLE && own >= factor * others).then_some("latency")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn group(count: usize) -> (Group, Instant) {
        let member = |n: usize| {
            let (provider, model): (Arc<str>, Arc<str>) = (format!("p{n}").into(), "m".into());
            let (version, label) = (model.clone(), model.clone());
            (Arc::new(Target { provider, model, version, label, slot: n }), Arc::default())
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let group = Group::new((0..count).map(member).collect(), &Settings::default(), &metrics).unwrap();
        let start = *group.next.lock();
        (group, start)
    }

    fn calls(group: &Group, at: usize, good: u32, bad: u32) {
        let vital = &group.members[at].1;
        (0..good).for_each(|_| vital.ended(true));
        (0..bad).for_each(|_| vital.ended(false));
    }

    fn out(group: &Group, now: Instant) -> Vec<usize> {
        (0..group.members.len()).filter(|at| group.members[*at].1.is_ejected(now)).collect()
    }

    #[test]
    fn one_that_fails_more_often_is_left_out_longer_each_time() {
        let (group, mut now) = group(3);
        let mut times = Vec::new();
        for _ in 0..3 {
            calls(&group, 0, 70, 30);
            calls(&group, 1, 99, 1);
            calls(&group, 2, 99, 1);
            group.check(now);
            assert_eq!(out(&group, now), [0]);
            let mut passed = 0;
            while !out(&group, now).is_empty() {
                now += Duration::from_secs(1);
                passed += 1;
            }
            times.push(passed);
            group.check(now);
            now += Duration::from_secs(10);
        }
        assert_eq!(times, [30, 60, 90]);
    }

    #[test]
    fn if_all_fail_nobody_stands_out() {
        let (group, now) = group(3);
        (0..3).for_each(|at| calls(&group, at, 50, 50));
        group.check(now);
        assert!(out(&group, now).is_empty());
    }

    #[test]
    fn no_more_than_a_share_is_left_out() {
        let (group, now) = group(4);
        (0..3).for_each(|at| calls(&group, at, 60, 40));
        calls(&group, 3, 10_000, 0);
        group.check(now);
        assert_eq!(out(&group, now).len(), 2);
    }

    #[test]
    fn one_that_is_much_slower_is_left_out() {
        let (group, now) = group(2);
        let begin = |at: usize, seconds: f64, times: usize| {
            let vital = &group.members[at].1;
            (0..times).for_each(|_| vital.began(true, Duration::from_secs_f64(seconds), now));
        };
        (0..2).for_each(|at| calls(&group, at, 50, 0));
        begin(0, 0.3, 200);
        begin(1, 0.4, 25);
        begin(1, 40.0, 15);
        group.check(now);
        assert!(out(&group, now).is_empty(), "some late ones are no rule");
        (0..2).for_each(|at| calls(&group, at, 50, 0));
        begin(0, 0.3, 25);
        begin(1, 4.0, 25);
        group.check(now + Duration::from_secs(10));
        assert_eq!(out(&group, now), [1]);
    }
}
