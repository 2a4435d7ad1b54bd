//! How a tenant's calls went, by the hour: what `GET /summary` tells.
//!
//! Each call adds to its tenant's present hour, in memory. What was added is
//! written to the database every few seconds, a row an hour, so that it
//! outlives the process; other gateways' rows are read when somebody asks.
mod kept;

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use kept::{Kept, TABLES};

use crate::{
    audit::Record,
    call::{Cached, Notes},
};

/// Hours that are kept: a month.
pub const MOST_HOURS: i64 = 31 * 24;
/// Hours of all tenants together that are held in memory; the oldest make room.
const MOST_HELD: usize = 20_000;
/// Models that are told apart in an hour.
const MOST_MODELS: usize = 64;
/// By so much a step of the latencies' scale is longer than the one before.
const STEP: f64 = 1.05;

/// One hour of a tenant, or several together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Calls, refused ones too.
    pub calls: u64,
    /// Calls that ended with a status below 400.
    pub succeeded: u64,
    /// Calls answered from the cache.
    pub hits: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Money spent, in billionths of a US dollar.
    pub cost: u64,
    /// Money that answers from the cache did not cost.
    pub saved: u64,
    /// All latencies together, in microseconds.
    pub took: u64,
    /// Calls by their latency, on a scale of steps.
    pub latencies: BTreeMap<u16, u64>,
    /// By the model that answered, by its configured name.
    pub models: BTreeMap<String, ModelSums>,
}

/// What a model answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelSums {
    /// Calls.
    pub calls: u64,
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Money spent, in billionths of a US dollar.
    pub cost: u64,
}

impl Sums {
    fn add(&mut self, record: &Record, notes: &Notes) {
        let cached = notes.cache == Cached::Hit;
        let usage = notes.usage.unwrap_or_default();
        let cost = if cached { 0 } else { notes.cost().0 };
        self.calls += 1;
        self.succeeded += u64::from(record.status < 400);
        self.hits += u64::from(cached);
        self.input += usage.input;
        self.output += usage.output;
        self.cost += cost;
        self.saved += notes.saved.0;
        let took = record.took.as_micros() as u64;
        self.took += took;
        *self.latencies.entry(step(took)).or_default() += 1;
        let Some(target) = notes.target.as_deref() else { return };
        // The label is a configured name or `other`: callers cannot make it grow.
        if !self.models.contains_key(&*target.label) {
            let name = if self.models.len() < MOST_MODELS { &*target.label } else { "other" };
            self.models.entry(name.to_owned()).or_default();
        }
        let known = if self.models.contains_key(&*target.label) { &*target.label } else { "other" };
        if let Some(model) = self.models.get_mut(known) {
            model.calls += 1;
            model.input += usage.input;
            model.output += usage.output;
            model.cost += cost;
        }
    }

    /// Adds another hour's.
    pub fn plus(&mut self, other: &Self) {
        self.calls += other.calls;
        self.succeeded += other.succeeded;
        self.hits += other.hits;
        self.input += other.input;
        self.output += other.output;
        self.cost += other.cost;
        self.saved += other.saved;
        self.took += other.took;
        for (step, calls) in &other.latencies {
            *self.latencies.entry(*step).or_default() += calls;
        }
        for (name, theirs) in &other.models {
            let ours = self.models.entry(name.clone()).or_default();
            ours.calls += theirs.calls;
            ours.input += theirs.input;
            ours.output += theirs.output;
            ours.cost += theirs.cost;
        }
    }

    /// The latency that a share of the calls stayed below, in milliseconds; right to 2.5 %.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.calls as f64 * share).ceil() as u64;
        let mut so_far = 0;
        for (step, calls) in &self.latencies {
            so_far += calls;
            if so_far >= wanted {
                // The middle of the step.
                return STEP.powf(f64::from(*step) - 0.5) / 1e3;
            }
        }
        0.0
    }
}

/// The step that a latency in microseconds falls into.
fn step(micros: u64) -> u16 {
    ((micros.max(1) as f64).ln() / STEP.ln()).ceil() as u16
}

/// The sums of this process.
#[derive(Debug, Default)]
pub struct Summaries(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    tenants: HashMap<Arc<str>, BTreeMap<i64, Hour>>,
    count: usize,
}

#[derive(Debug, Default)]
struct Hour {
    sums: Sums,
    /// Whether the database does not have it yet.
    fresh: bool,
}

impl Summaries {
    /// A call is over; `now` is in seconds since 1970.
    pub fn add(&self, record: &Record, notes: &Notes, now: i64) {
        let mut held = self.0.lock();
        let tenant = record.context.caller.tenant();
        if !held.tenants.contains_key(tenant) {
            held.tenants.insert(tenant.clone(), BTreeMap::new());
        }
        let hour = now.div_euclid(3600);
        let Some(hours) = held.tenants.get_mut(tenant) else { return };
        let before = hours.len();
        let sums = hours.entry(hour).or_default();
        sums.sums.add(record, notes);
        sums.fresh = true;
        if hours.len() > before {
            held.count += 1;
            held.tidy(hour);
        }
    }

    /// The hours of a tenant from `from` on, each in hours since 1970.
    pub fn of(&self, tenant: &str, from: i64) -> BTreeMap<i64, Sums> {
        let held = self.0.lock();
        let hours = held.tenants.get(tenant).into_iter().flat_map(|hours| hours.range(from..));
        hours.map(|(hour, found)| (*hour, found.sums.clone())).collect()
    }

    /// What the database does not have yet. It is taken to have it from here on.
    fn fresh(&self) -> Vec<(Arc<str>, i64, Sums)> {
        let mut taken = Vec::new();
        for (tenant, hours) in &mut self.0.lock().tenants {
            for (number, hour) in hours.iter_mut().filter(|(_, hour)| hour.fresh) {
                hour.fresh = false;
                taken.push((tenant.clone(), *number, hour.sums.clone()));
            }
        }
        taken
    }

    /// The database did not take it.
    fn again(&self, rows: &[(Arc<str>, i64, Sums)]) {
        let mut held = self.0.lock();
        for (tenant, number, _) in rows {
            if let Some(hour) = held.tenants.get_mut(tenant).and_then(|hours| hours.get_mut(number)) {
                hour.fresh = true;
            }
        }
    }
}

impl Held {
    /// Forgets what is too old, and of the rest the oldest where there is too much.
    fn tidy(&mut self, now: i64) {
        let mut oldest = now - MOST_HOURS;
        loop {
            self.tenants.retain(|_, hours| {
                hours.retain(|hour, _| *hour > oldest);
                !hours.is_empty()
            });
            self.count = self.tenants.values().map(BTreeMap::len).sum();
            if self.count <= MOST_HELD || oldest >= now {
                return;
            }
            oldest = i64::midpoint(oldest, now) + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_hours_add_up() {
        let mut one = Sums::default();
        for millis in 1..=1000_u64 {
            one.calls += 1;
            *one.latencies.entry(step(millis * 1000)).or_default() += 1;
        }
        let p95 = one.quantile(0.95);
        assert!((p95 / 950.0 - 1.0).abs() < 0.03, "{p95}");
        let mut two = one.clone();
        two.plus(&one);
        assert_eq!(two.calls, 2000);
        assert!((two.quantile(0.95) - p95).abs() < 0.001);
        assert!(Sums::default().quantile(0.95) < 0.001);
        let text = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), two);
    }
}
