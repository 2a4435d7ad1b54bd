//! Models that providers lend by their own names, without a route: whose a name is, and what belongs to it.
use std::{
    cmp::Reverse,
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

use super::{BreakerSettings, Breakers, Row, Timeouts, matches};
use crate::{call::Target, observe::Metrics};

/// Places for names; a power of two, so twice what is taken at most that a search soon ends.
pub(super) const PLACES: usize = 512;
/// Names that get a row of their own, at most.
const MOST: usize = PLACES / 2;
/// How many of them may be names without a price: callers make names up, and the priced ones are to find room.
const MOST_UNPRICED: usize = MOST * 3 / 4;
/// What a model without a price is called in metrics.
const OTHER: &str = "other";

/// What is known of the name of a model that no route has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Naming {
    /// The price list has it.
    Priced,
    /// Only its provider knows whether there is such a model.
    Unpriced,
    /// It holds something personal: no model is called so, and records would show it.
    Personal,
}

/// Models of a provider that may be asked for by their own names.
#[derive(Debug)]
struct Pattern {
    provider: Arc<str>,
    pattern: String,
    /// What belongs to names without a row of their own.
    rest: usize,
}

/// A name that was asked for, and what belongs to it.
#[derive(Debug)]
struct Known {
    target: Arc<Target>,
    row: Row,
}

/// All that is lent. Each name has its own breaker, so that a model that fails does not shut out the others; names
/// beyond the bound share one a provider.
#[derive(Debug)]
pub(super) struct Lent {
    providers: Vec<Arc<str>>,
    patterns: Vec<Pattern>,
    known: Box<[OnceLock<Box<Known>>]>,
    taken: AtomicUsize,
    unpriced: AtomicUsize,
    hasher: RandomState,
    breakers: Arc<Breakers>,
    breaker: BreakerSettings,
    timeouts: Timeouts,
    metrics: Arc<Metrics>,
}

impl Lent {
    /// Nothing yet. What names without a row of their own share is made by [`Self::lend`]'s caller.
    pub(super) fn new(
        breakers: &Arc<Breakers>,
        breaker: &BreakerSettings,
        timeouts: &Timeouts,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            providers: Vec::new(),
            patterns: Vec::new(),
            known: Box::default(),
            taken: AtomicUsize::new(0),
            unpriced: AtomicUsize::new(0),
            hasher: RandomState::default(),
            breakers: breakers.clone(),
            breaker: breaker.clone(),
            timeouts: timeouts.clone(),
            metrics: metrics.clone(),
        }
    }

    /// What the names of a provider share that have no row of their own.
    pub(super) fn rest(provider: &Arc<str>) -> Target {
        Target {
            provider: provider.clone(),
            model: "".into(),
            version: "".into(),
            label: OTHER.into(),
            slot: 0,
        }
    }

    /// Adds a provider with its patterns; `rest` is the slot of what its other names share.
    pub(super) fn lend(&mut self, provider: Arc<str>, patterns: &[String], rest: usize) {
        for pattern in patterns {
            self.patterns.push(Pattern { provider: provider.clone(), pattern: pattern.clone(), rest });
        }
        // The one that says most of a name decides, and of equal ones the first provider.
        self.patterns.sort_by_key(|lent| Reverse((!lent.pattern.ends_with('*'), lent.pattern.len())));
        self.providers.push(provider);
        if !self.patterns.is_empty() && self.known.is_empty() {
            self.known = (0..PLACES).map(|_| OnceLock::new()).collect();
        }
    }

    /// Whose a name is, and the model's name in that provider's words. `provider/model` is never another provider's.
    fn find<'a>(&self, name: &'a str) -> Option<(&Pattern, &'a str)> {
        if let Some((provider, model)) = name.split_once('/')
            && self.providers.iter().any(|known| **known == *provider)
        {
            let own = |lent: &&Pattern| *lent.provider == *provider && matches(&lent.pattern, model);
            return self.patterns.iter().find(own).map(|pattern| (pattern, model));
        }
        self.patterns.iter().find(|lent| matches(&lent.pattern, name)).map(|pattern| (pattern, name))
    }

    /// The provider that lends a model.
    pub(super) fn lender(&self, name: &str) -> Option<&Arc<str>> {
        self.find(name).map(|(pattern, _)| &pattern.provider)
    }

    /// A model's name in its provider's words.
    pub(super) fn model<'a>(&self, name: &'a str) -> &'a str {
        self.find(name).map_or(name, |(_, model)| model)
    }

    /// The target that a name stands for.
    pub(super) fn target(&self, name: &str, naming: impl Fn(&str) -> Naming) -> Option<Arc<Target>> {
        let (pattern, model) = self.find(name)?;
        let provider = &pattern.provider;
        let mut at = self.hasher.hash_one((&**provider, model)) as usize;
        let is_it = |known: &Known| *known.target.model == *model && known.target.provider == *provider;
        loop {
            at %= PLACES;
            let place = self.known.get(at)?;
            let known = match place.get() {
                Some(known) => known,
                None => match naming(model) {
                    Naming::Personal => return None,
                    naming if self.has_room(naming) => {
                        place.get_or_init(|| Box::new(self.take(at, provider, model, naming)))
                    }
                    _ => return Some(Self::unknown(pattern, model)),
                },
            };
            if is_it(known) {
                return Some(known.target.clone());
            }
            at += 1;
        }
    }

    fn has_room(&self, naming: Naming) -> bool {
        self.taken.load(Ordering::Relaxed) < MOST
            && (naming == Naming::Priced || self.unpriced.load(Ordering::Relaxed) < MOST_UNPRICED)
    }

    fn take(&self, slot: usize, provider: &Arc<str>, model: &str, naming: Naming) -> Known {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let model: Arc<str> = model.into();
        let label = if naming == Naming::Priced {
            model.clone()
        } else {
            self.unpriced.fetch_add(1, Ordering::Relaxed);
            OTHER.into()
        };
        let target =
            Arc::new(Target { provider: provider.clone(), version: model.clone(), model, label, slot });
        let row = Row {
            configured: false,
            breaker: self.breakers.of(&target, &self.breaker),
            chat: Arc::new(self.metrics.of("chat", &target)),
            embed: Arc::new(self.metrics.of("embeddings", &target)),
            timeouts: self.timeouts.clone(),
            vital: None,
        };
        Known { target, row }
    }

    fn unknown(pattern: &Pattern, model: &str) -> Arc<Target> {
        let (provider, model): (_, Arc<str>) = (pattern.provider.clone(), model.into());
        Arc::new(Target { provider, version: model.clone(), model, label: OTHER.into(), slot: pattern.rest })
    }

    /// What belongs to a name that has a row of its own.
    pub(super) fn row(&self, slot: usize) -> Option<&Row> {
        Some(&self.known.get(slot)?.get()?.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(patterns: &[(&str, &[&str])]) -> Lent {
        let metrics = Arc::new(Metrics::new().unwrap());
        let breakers = Arc::new(Breakers::new(metrics.breaker.clone()));
        let mut lent = Lent::new(&breakers, &BreakerSettings::default(), &Timeouts::default(), &metrics);
        for (provider, patterns) in patterns {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            lent.lend((*provider).into(), &patterns, PLACES);
        }
        lent
    }

    fn open(lent: &Lent, target: &Target) {
        let row = lent.row(target.slot).unwrap();
        (0..5).for_each(|_| row.breaker.ask().unwrap().failed());
        assert!(row.breaker.ask().is_err());
    }

    #[test]
    fn a_model_that_fails_leaves_the_others_alone() {
        let lent = lent(&[("a", &["*"]), ("b", &["gpt-*"])]);
        let target = |name| lent.target(name, |_| Naming::Unpriced).unwrap();
        open(&lent, &target("bad"));
        for other in ["good", "b/gpt-5", "a/gpt-5"] {
            assert!(lent.row(target(other).slot).unwrap().breaker.ask().is_ok(), "{other}");
        }
        assert!(lent.row(target("a/bad").slot).unwrap().breaker.ask().is_err(), "by its other name");
        assert_eq!(lent.breakers.open(), ["a/other"], "what callers name is not told");
    }

    #[test]
    fn the_price_list_gives_a_label_and_no_name_is_personal() {
        let lent = lent(&[("a", &["*"])]);
        let target = |name, naming| lent.target(name, |_| naming);
        assert_eq!(&*target("gpt-5", Naming::Priced).unwrap().label, "gpt-5");
        assert_eq!(&*target("mine", Naming::Unpriced).unwrap().label, "other");
        assert!(target("jane@acme.org", Naming::Personal).is_none());
    }

    #[test]
    fn names_are_bounded_and_those_with_a_price_find_room() {
        let lent = lent(&[("a", &["*"])]);
        let many: Vec<_> =
            (0..2000).map(|n| lent.target(&format!("m{n}"), |_| Naming::Unpriced).unwrap()).collect();
        assert_eq!(many.iter().filter(|target| target.slot < PLACES).count(), MOST_UNPRICED);
        assert_eq!((&*many[1999].model, many[1999].slot), ("m1999", PLACES));
        assert!(lent.target("gpt-5", |_| Naming::Priced).unwrap().slot < PLACES);
        for n in 0..2000 {
            lent.target(&format!("p{n}"), |_| Naming::Priced).unwrap();
        }
        assert_eq!(lent.taken.load(Ordering::Relaxed), MOST);
        assert_eq!(
            lent.target("m7", |_| Naming::Unpriced).unwrap(),
            many[7],
            "those that have a place keep it"
        );
    }

    #[test]
    fn a_providers_name_in_front_is_never_anothers() {
        let lent = lent(&[("a", &["gpt-*"]), ("b", &["*"])]);
        let whose = |name| lent.lender(name).map(|name| &**name);
        assert_eq!(whose("a/gpt-5"), Some("a"));
        assert_eq!(whose("a/llama"), None, "`a` does not lend it, and `b` was not asked for it");
        assert_eq!(
            whose("meta/llama"),
            Some("b"),
            "no provider is called so: it belongs to the model's name"
        );
        assert_eq!((lent.model("a/gpt-5"), lent.model("meta/llama")), ("gpt-5", "meta/llama"));
    }
}
