//! The gates of a process. They outlive reloads, which change their sizes.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use foldhash::HashMap;
use parking_lot::Mutex;

use super::{Gate, Settings, adaptive::Adaptive};
use crate::route::Table;

/// The gates of a process.
#[derive(Debug)]
pub struct Gates {
    all: Arc<Gate>,
    bounded: Mutex<Bounded>,
}

#[derive(Debug, Default)]
struct Bounded {
    models: HashMap<String, Arc<Gate>>,
    providers: HashMap<String, Arc<ProviderGate>>,
}

/// The gates that a configuration asks for.
#[derive(Clone, Debug)]
pub struct Standing {
    /// For all calls.
    pub all: Arc<Gate>,
    /// By route; and `provider/*` for those of a provider's models that have none.
    pub models: HashMap<String, Arc<Gate>>,
    /// By provider.
    pub providers: HashMap<String, Arc<ProviderGate>>,
    /// How long one waits for a place.
    pub patience: Duration,
}

impl Standing {
    /// The gate of a model: its route's, or that of the provider that lends it by name.
    pub fn of_model(&self, table: &Table, model: &str) -> Option<&Arc<Gate>> {
        self.models.get(table.canonical(model)).or_else(|| {
            // A route without a bound has none at all.
            let lender = (!table.has(model)).then(|| table.lender(model))??;
            self.models.get(&format!("{lender}/*"))
        })
    }
}

/// What gates are made of.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The general numbers.
    pub settings: &'a Settings,
    /// The routes, each with its own bound; and `provider/*` for those of a provider's models that have none.
    pub models: Vec<(String, Option<u32>)>,
    /// The providers, each with its own bound.
    pub providers: Vec<(String, Option<u32>)>,
}

/// The gate of a provider, whose number of places may follow its latency.
#[derive(Debug)]
pub struct ProviderGate {
    gate: Arc<Gate>,
    follows: AtomicBool,
    adaptive: Mutex<Option<Adaptive>>,
}

impl Gates {
    /// The gate for all calls, and none besides.
    pub fn new(settings: &Settings) -> Self {
        Self { all: Gate::new(settings.max_in_flight, settings.queue), bounded: Mutex::default() }
    }

    /// The gates that a configuration asks for: those that there are, at their
    /// new sizes, and new ones. The others are forgotten; who is in them still
    /// comes to its end.
    pub fn stand(&self, plan: &Plan<'_>) -> Standing {
        let Plan { settings, models, providers } = plan;
        self.all.resize(settings.max_in_flight, settings.queue);
        let mut bounded = self.bounded.lock();
        let models = models.iter().filter_map(|(name, own)| {
            let places = settings.places_of_model(*own)?;
            let gate = bounded.models.get(name).cloned().unwrap_or_else(|| Gate::new(places, settings.queue));
            gate.resize(places, settings.queue);
            Some((name.clone(), gate))
        });
        let models: HashMap<_, _> = models.collect();
        let providers = providers.iter().filter_map(|(name, own)| {
            let most = own.or(settings.adaptive.then_some(settings.max_in_flight))?;
            let kept = bounded.providers.get(name).cloned();
            let gate = kept.unwrap_or_else(|| Arc::new(ProviderGate::new(most, settings.queue)));
            gate.resize(most, settings);
            Some((name.clone(), gate))
        });
        let providers: HashMap<_, _> = providers.collect();
        // Nobody waits at a bound that is no more.
        let free = |gate: &Arc<Gate>| gate.resize(u32::MAX, settings.queue);
        bounded
            .models
            .iter()
            .filter(|(name, _)| !models.contains_key(*name))
            .for_each(|(_, gate)| free(gate));
        let gone = bounded.providers.iter().filter(|(name, _)| !providers.contains_key(*name));
        gone.for_each(|(_, provider)| free(&provider.gate));
        *bounded = Bounded { models: models.clone(), providers: providers.clone() };
        Standing { all: self.all.clone(), models, providers, patience: settings.queue_wait.0 }
    }

    /// Shows each gate: its kind (`all`, `model` or `provider`), its name, and itself.
    pub fn each(&self, mut show: impl FnMut(&'static str, &str, &Gate)) {
        show("all", "", &self.all);
        let bounded = self.bounded.lock();
        bounded.models.iter().for_each(|(name, gate)| show("model", name, gate));
        bounded.providers.iter().for_each(|(name, provider)| show("provider", name, &provider.gate));
    }
}

impl ProviderGate {
    fn new(places: u32, queue: u32) -> Self {
        Self { gate: Gate::new(places, queue), follows: AtomicBool::default(), adaptive: Mutex::default() }
    }

    fn resize(&self, most: u32, settings: &Settings) {
        self.follows.store(settings.adaptive, Relaxed);
        self.gate.set_moving(settings.adaptive);
        let mut adaptive = self.adaptive.lock();
        if settings.adaptive {
            let adaptive = adaptive.get_or_insert_with(|| Adaptive::new(most, Instant::now()));
            adaptive.set_most(most);
            self.gate.resize(adaptive.limit(), settings.queue);
        } else {
            *adaptive = None;
            self.gate.resize(most, settings.queue);
        }
    }

    /// The gate itself.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Whether its number of places follows what it learns.
    pub fn follows(&self) -> bool {
        self.follows.load(Relaxed)
    }

    /// An answer's first content came after `took`, or, with `busy`, the
    /// provider was too busy to give one.
    pub fn learn(&self, took: Duration, busy: bool) {
        let mut adaptive = self.adaptive.lock();
        let Some(adaptive) = adaptive.as_mut() else { return };
        let (now, taken, before) = (Instant::now(), self.gate.taken(), adaptive.limit());
        let limit = if busy { adaptive.busy(now, taken) } else { adaptive.answered(now, took, taken) };
        if limit != before {
            self.gate.set_places(limit);
        }
    }
}
