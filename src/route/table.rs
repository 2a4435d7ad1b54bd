//! The routes, ready to be looked up.
use std::{cmp::Reverse, hash::Hasher, sync::Arc};

use foldhash::HashMap;
use serde_json::{Value, json};

use super::{
    Breaker, BreakerSettings, Breakers, Naming, RouteSettings, RoutingSettings, Strategy, Timeouts, Vital,
    Vitals,
    lent::{self, Lent},
    order::{Choice, Choices},
    outlier::Group,
};
use crate::{
    call::{Caller, Target},
    observe::{Metrics, ProviderMetrics},
};

/// All routes. Made anew at each reload.
#[derive(Debug)]
pub struct Table {
    routes: HashMap<String, Arc<Entry>>,
    aliases: HashMap<String, String>,
    lent: Lent,
    /// Of targets that are configured by name; their slots begin where those of lent models end.
    rows: Vec<Row>,
}

/// What belongs to a target, resolved once.
#[derive(Debug)]
pub struct Row {
    /// Whether a route names it, and not the caller.
    pub configured: bool,
    /// Its breaker.
    pub breaker: Arc<Breaker>,
    /// Its metrics, for chats.
    pub chat: Arc<ProviderMetrics>,
    /// Its metrics, for embeddings.
    pub embed: Arc<ProviderMetrics>,
    /// How long it is waited for.
    pub timeouts: Timeouts,
    /// How well it does; nothing where nobody needs to know.
    pub vital: Option<Arc<Vital>>,
}

/// One route.
#[derive(Debug)]
struct Entry {
    /// Its configured name.
    name: Arc<str>,
    /// Whether the next target goes on with an answer that broke off.
    continues: bool,
    /// Who answers.
    choices: Choices,
    /// Who is asked next.
    fallback: Vec<Arc<Target>>,
}

/// What a table is made of.
pub struct Plan<'a> {
    /// The routes by name.
    pub routes: &'a std::collections::BTreeMap<String, RouteSettings>,
    /// The providers, and the patterns of the models that may be asked for by name.
    pub providers: &'a [(String, Vec<String>)],
    /// How long a target is waited for, unless its route says otherwise.
    pub timeouts: &'a Timeouts,
    /// When a target is left alone.
    pub breaker: &'a BreakerSettings,
    /// The breakers, which outlive the table.
    pub breakers: &'a Arc<Breakers>,
    /// How targets are chosen.
    pub routing: &'a RoutingSettings,
    /// How well they do, which outlives the table.
    pub vitals: &'a Vitals,
    /// What a typical call of a model costs, in billionths of a US dollar.
    pub price: &'a dyn Fn(&str) -> u64,
    /// The metrics.
    pub metrics: &'a Arc<Metrics>,
}

impl Table {
    /// Makes the table. References were checked with the configuration; one
    /// that leads nowhere is left out.
    pub fn new(plan: &Plan<'_>) -> Self {
        let mut this = Self {
            routes: HashMap::default(),
            aliases: HashMap::default(),
            lent: Lent::new(plan.breakers, plan.breaker, plan.timeouts, plan.metrics),
            rows: Vec::new(),
        };
        for (provider, patterns) in plan.providers {
            let provider: Arc<str> = provider.as_str().into();
            let rest = this.row(plan, Lent::rest(&provider), plan.timeouts, None).slot;
            this.lent.lend(provider, patterns, rest);
        }
        for (name, route) in plan.routes {
            let timeouts = route.timeouts.as_ref().unwrap_or(plan.timeouts);
            let choices = this.choices(plan, route, timeouts);
            let entry = Entry {
                name: name.as_str().into(),
                continues: route.continues,
                choices,
                fallback: Vec::new(),
            };
            this.routes.insert(name.clone(), Arc::new(entry));
            this.aliases.extend(route.aliases.iter().map(|alias| (alias.clone(), name.clone())));
        }
        for (name, route) in plan.routes {
            let mut fallback = Vec::new();
            for next in &route.fallback {
                fallback.extend(this.first_targets(plan, next));
            }
            if let Some(entry) = this.routes.get_mut(name)
                && let Some(entry) = Arc::get_mut(entry)
            {
                entry.fallback = fallback;
            }
        }
        this
    }

    fn choices(&mut self, plan: &Plan<'_>, route: &RouteSettings, timeouts: &Timeouts) -> Choices {
        let here = route.prefer_region.as_ref().or(plan.routing.prefer_region.as_ref());
        let twins = |model: &str| route.targets.iter().filter(|target| target.model == model).count() > 1;
        let choice = |settings: &super::TargetSettings| {
            let model: Arc<str> = settings.model.as_str().into();
            let version = settings.version.as_deref().map_or(model.clone(), Into::into);
            let provider = settings.provider.as_str().into();
            let target = Target { provider, label: model.clone(), model, version, slot: 0 };
            let compared = twins(&settings.model) && plan.routing.outlier.enabled;
            let known = compared || plan.routing.hedge.enabled || route.strategy == Strategy::Latency;
            let vital = known.then(|| plan.vitals.of(&target));
            let target = self.row(plan, target, timeouts, vital.clone());
            let away = here.is_some() && settings.region.as_ref() != here;
            Choice { target, weight: settings.weight, away, price: (plan.price)(&settings.model), vital }
        };
        let all: Vec<Choice> = route.targets.iter().map(choice).collect();
        let group = |first: &Choice| {
            let same = all.iter().filter(|choice| choice.target.model == first.target.model);
            let members = same.filter_map(|choice| Some((choice.target.clone(), choice.vital.clone()?)));
            Group::new(members.collect(), &plan.routing.outlier, plan.metrics)
        };
        let firsts = all.iter().enumerate().filter(|(at, choice)| {
            !all[..*at].iter().any(|earlier| earlier.target.model == choice.target.model)
        });
        let groups = firsts.filter_map(|(_, choice)| group(choice)).collect();
        Choices::new(route.strategy, all, groups)
    }

    fn row(
        &mut self,
        plan: &Plan<'_>,
        mut target: Target,
        timeouts: &Timeouts,
        vital: Option<Arc<Vital>>,
    ) -> Arc<Target> {
        target.slot = lent::PLACES + self.rows.len();
        let target = Arc::new(target);
        self.rows.push(Row {
            configured: !target.model.is_empty(),
            breaker: plan.breakers.of(&target, plan.breaker),
            chat: Arc::new(plan.metrics.of("chat", &target)),
            embed: Arc::new(plan.metrics.of("embeddings", &target)),
            timeouts: timeouts.clone(),
            vital,
        });
        target
    }

    /// The targets of a fallback's name: a route's, heaviest first, or one `provider/model`.
    fn first_targets(&mut self, plan: &Plan<'_>, name: &str) -> Vec<Arc<Target>> {
        if let Some(entry) = self.routes.get(self.canonical(name)) {
            let mut choices = entry.choices.all.clone();
            choices.sort_by_key(|choice| Reverse(choice.weight));
            return choices.into_iter().map(|choice| choice.target).collect();
        }
        let Some((provider, model)) = name.split_once('/') else { return Vec::new() };
        if !plan.providers.iter().any(|(known, _)| known == provider) {
            return Vec::new();
        }
        let model: Arc<str> = model.into();
        let target = Target {
            provider: provider.into(),
            version: model.clone(),
            label: model.clone(),
            model,
            slot: 0,
        };
        vec![self.row(plan, target, plan.timeouts, None)]
    }

    /// The targets that may answer for a model's name, in the order in which
    /// they are asked. `sticky` is what keeps a user with one version; `streamed`
    /// says which latency counts.
    pub fn chain(
        &self,
        name: &str,
        sticky: Option<&str>,
        streamed: bool,
        naming: impl Fn(&str) -> Naming,
    ) -> Option<Vec<Arc<Target>>> {
        let name = self.canonical(name);
        if let Some(entry) = self.routes.get(name) {
            let mut chain = Vec::with_capacity(1 + entry.fallback.len());
            entry.choices.order(name, sticky, streamed, &mut chain);
            chain.extend(entry.fallback.iter().cloned());
            return Some(chain);
        }
        self.lent.target(name, naming).map(|target| vec![target])
    }

    /// Every model that may answer for a name, in its provider's words: all versions, all fallbacks.
    pub fn each_model<'a>(&'a self, name: &'a str, mut each: impl FnMut(&'a str)) {
        let name = self.canonical(name);
        if let Some(entry) = self.routes.get(name) {
            entry.choices.all.iter().for_each(|choice| each(&choice.target.model));
            entry.fallback.iter().for_each(|target| each(&target.model));
            return;
        }
        each(self.lent.model(name));
    }

    /// The name of the route that has this name or alias, if its streams are
    /// gone on with by another target where they break off.
    pub fn continues(&self, name: &str) -> Option<&Arc<str>> {
        let entry = self.routes.get(self.canonical(name))?;
        entry.continues.then_some(&entry.name)
    }

    /// The provider that lends a model by its own name, without a route.
    pub fn lender(&self, name: &str) -> Option<&Arc<str>> {
        self.lent.lender(name)
    }

    /// Targets, in their order, each with whether its breaker lets calls through.
    pub fn explained(&self, chain: &[Arc<Target>]) -> Vec<Value> {
        let told = chain.iter().map(|target| {
            json!({
                "provider": &*target.provider,
                "model": &*target.model,
                "version": &*target.version,
                "breaker": self.row_of(target).map(|row| row.breaker.state()),
            })
        });
        told.collect()
    }

    /// What belongs to a target.
    pub fn row_of(&self, target: &Target) -> Option<&Row> {
        match target.slot.checked_sub(lent::PLACES) {
            Some(row) => self.rows.get(row),
            None => self.lent.row(target.slot),
        }
    }

    /// The names of the routes, and each one's first provider.
    pub fn names<'a>(&'a self) -> Vec<(&'a str, &'a str)> {
        let owner = |entry: &'a Entry| entry.choices.all.first().map(|choice| &*choice.target.provider);
        let named = self.routes.iter().filter_map(|(name, entry)| Some((name.as_str(), owner(entry)?)));
        let mut rows: Vec<(&str, &str)> = named.collect();
        rows.sort_unstable();
        rows
    }

    /// Whether a caller's key may use a model. What a key may use by one of a
    /// route's names, it may use by all of them.
    pub fn allows(&self, caller: &Caller, model: &str) -> bool {
        let model = self.canonical(model);
        caller
            .rights
            .models
            .as_ref()
            .is_none_or(|models| models.iter().any(|name| self.canonical(name) == model))
    }

    /// Whether a route has this name, or this alias.
    pub fn has(&self, name: &str) -> bool {
        self.routes.contains_key(self.canonical(name))
    }

    /// The route that a name stands for: itself, or the one that has it as an alias.
    pub fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }
}

/// A hash that is the same in every process and every release (FNV-1a,
/// 64 bits, folded by a multiplication so that low bits are mixed too).
pub(super) fn stable(route: &str, user: &str) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 29)
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(route.as_bytes());
    hash.write(&[0]);
    hash.write(user.as_bytes());
    hash.finish()
}

/// Whether a name fits a pattern: `*` stands for anything at its end.
pub fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn table(routes: &str, providers: &[(String, Vec<String>)]) -> Table {
        let routes: BTreeMap<String, RouteSettings> = serde_json::from_str(routes).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        Table::new(&Plan {
            routes: &routes,
            providers,
            timeouts: &Timeouts::default(),
            breaker: &BreakerSettings::default(),
            breakers: &Arc::new(Breakers::new(metrics.breaker.clone())),
            routing: &RoutingSettings::default(),
            vitals: &Vitals::default(),
            price: &|_| 0,
            metrics: &metrics,
        })
    }

    #[test]
    fn a_user_keeps_his_version_and_the_shares_are_as_weighted() {
        let routes = r#"{"m": {"targets": [{"provider": "p", "model": "v1", "weight": 80},
            {"provider": "p", "model": "v2", "weight": 20}]}}"#;
        let table = table(routes, &[("p".into(), vec![])]);
        let version =
            |user: &str| table.chain("m", Some(user), true, |_| Naming::Unpriced).unwrap()[0].model.clone();
        let second = (0..10_000).filter(|n| &*version(&format!("user-{n}")) == "v2").count();
        assert!((1800..2200).contains(&second), "{second}");
        assert_eq!(version("user-7"), version("user-7"));
        assert_eq!(
            stable("m", "user-7"),
            18_378_384_396_530_146_625,
            "a changed hash would move every user to another version"
        );
    }

    #[test]
    fn a_fallback_may_name_an_alias() {
        let routes = r#"{"m": {"targets": [{"provider": "p", "model": "a"}], "fallback": ["x"]},
            "n": {"targets": [{"provider": "q", "model": "b"}], "aliases": ["x"]}}"#;
        let table = table(routes, &[("p".into(), vec![]), ("q".into(), vec![])]);
        let chain = table.chain("m", None, true, |_| Naming::Unpriced).unwrap();
        let models: Vec<&str> = chain.iter().map(|target| &*target.model).collect();
        assert_eq!(models, ["a", "b"], "a fallback that is left out is found out when it is needed");
    }

    #[test]
    fn the_pattern_that_says_most_of_a_name_decides() {
        let lent = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let providers = [
            ("a".to_owned(), lent(&["*", "claude-*"])),
            ("b".to_owned(), lent(&["gpt-*", "*"])),
            ("c".to_owned(), lent(&["gpt-5-*", "gpt-5"])),
            ("d".to_owned(), lent(&["gpt-5", "gpt-5*"])),
        ];
        let table = table("{}", &providers);
        let asked = [
            ("claude-x", "a"),
            ("gpt-4", "b"),
            ("gpt-5-mini", "c"),
            ("gpt-5", "c"),
            ("gpt-5o", "d"),
            ("llama", "a"),
        ];
        for (name, provider) in asked {
            assert_eq!(table.lender(name).map(|name| &**name), Some(provider), "{name}");
            let chain = table.chain(name, None, true, |_| Naming::Unpriced).unwrap();
            assert_eq!(&*chain[0].provider, provider, "{name}");
        }
    }

    #[test]
    fn names_lead_to_routes_aliases_and_patterns_and_else_nowhere() {
        let routes = r#"{"m": {"targets": [{"provider": "p", "model": "a"}], "fallback": ["n", "q/z"], "aliases": ["x"]},
            "n": {"targets": [{"provider": "q", "model": "b"}]}}"#;
        let table = table(routes, &[("p".into(), vec!["gpt-*".into()]), ("q".into(), vec![])]);
        let chain = |name: &str| {
            let chain = table.chain(name, None, true, |_| Naming::Unpriced)?;
            Some(chain.iter().map(|t| format!("{}/{}", t.provider, t.model)).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(chain("m").as_deref(), Some("p/a q/b q/z"));
        assert_eq!(chain("x"), chain("m"));
        assert_eq!(chain("gpt-5").as_deref(), Some("p/gpt-5"));
        assert_eq!(chain("p/gpt-5").as_deref(), Some("p/gpt-5"));
        assert_eq!(chain("q/gpt-5"), None, "q lends none of its models by name");
        assert_eq!(chain("claude"), None);
    }
}
