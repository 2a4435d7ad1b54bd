//! Which of a route's targets is asked, and who comes next.
use std::{cmp::Ordering, sync::Arc, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{outlier::Group, table::stable, vitals::Vital};
use crate::call::Target;

/// By what a route's targets are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By their weights; a user stays with one.
    #[default]
    Weighted,
    /// The one first that is to begin soonest.
    Latency,
    /// The cheapest first.
    Cost,
}

/// One of a route's targets.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) target: Arc<Target>,
    pub(super) weight: u32,
    /// Whether it is in another region than the preferred one.
    pub(super) away: bool,
    /// What a typical call costs, in billionths of a US dollar.
    pub(super) price: u64,
    /// How well it does; nothing where nobody needs to know.
    pub(super) vital: Option<Arc<Vital>>,
}

/// A route's targets.
#[derive(Debug)]
pub(super) struct Choices {
    strategy: Strategy,
    pub(super) all: Vec<Choice>,
    /// Those that serve the same model, where they are compared.
    groups: Vec<Group>,
    /// Whether any two serve the same model.
    twins: bool,
}

impl Choices {
    /// A route's targets, and which of them are compared.
    pub(super) fn new(strategy: Strategy, all: Vec<Choice>, groups: Vec<Group>) -> Self {
        let before =
            |at: usize, one: &Choice| all[..at].iter().any(|two| two.target.model == one.target.model);
        let twins = all.iter().enumerate().any(|(at, choice)| before(at, choice));
        Self { strategy, all, groups, twins }
    }

    /// Adds the targets to be asked to `chain`, in order: by weight, the one
    /// that was drawn and the other endpoints of its model; else all of them.
    /// Who is left out for now comes last, who is in another region before that.
    pub(super) fn order(
        &self,
        route: &str,
        sticky: Option<&str>,
        streamed: bool,
        chain: &mut Vec<Arc<Target>>,
    ) {
        match &*self.all {
            [only] => chain.push(only.target.clone()),
            // A plain draw between versions needs no clock.
            all if self.strategy == Strategy::Weighted && !self.twins => {
                chain.extend(draw(all.iter(), point(route, sticky)).map(|choice| choice.target.clone()));
            }
            _ => self.rank(route, sticky, streamed, chain),
        }
    }

    fn rank(&self, route: &str, sticky: Option<&str>, streamed: bool, chain: &mut Vec<Arc<Target>>) {
        let now = Instant::now();
        self.groups.iter().for_each(|group| group.check(now));
        let out = |choice: &Choice| choice.vital.as_ref().is_some_and(|vital| vital.is_ejected(now));
        let class = |choice: &Choice| (out(choice), choice.away);
        let mut list: Vec<(&Choice, (bool, bool), f64)> = Vec::with_capacity(self.all.len());
        if self.strategy == Strategy::Weighted {
            let point = point(route, sticky);
            let Some(drawn) = draw(self.all.iter(), point) else { return };
            let same = || self.all.iter().filter(|choice| choice.target.model == drawn.target.model);
            let best = same().map(class).min().unwrap_or_default();
            // Drawn again where another endpoint of its model is better placed.
            let first = if class(drawn) == best {
                drawn
            } else {
                draw(same().filter(|choice| class(choice) == best), point).unwrap_or(drawn)
            };
            let rank = |choice: &Choice| {
                if std::ptr::eq(choice, first) { f64::MIN } else { -f64::from(choice.weight) }
            };
            list.extend(same().map(|choice| (choice, class(choice), rank(choice))));
        } else {
            let rank = |choice: &Choice| match (self.strategy, &choice.vital) {
                (Strategy::Latency, Some(vital)) => vital.expected(streamed, now),
                (Strategy::Latency, None) | (Strategy::Weighted, _) => 0.0,
                (Strategy::Cost, _) => choice.price as f64,
            };
            list.extend(self.all.iter().map(|choice| (choice, class(choice), rank(choice))));
        }
        // Stable: among equals the order of the configuration holds.
        list.sort_by(|(_, class, rank), (_, other, than)| {
            class.cmp(other).then(rank.partial_cmp(than).unwrap_or(Ordering::Equal))
        });
        chain.extend(list.into_iter().map(|(choice, ..)| choice.target.clone()));
    }
}

/// Where a caller falls among the weights: a user always at the same place.
fn point(route: &str, sticky: Option<&str>) -> u64 {
    sticky.map_or_else(rand::random, |user| stable(route, user))
}

fn draw<'a>(choices: impl Iterator<Item = &'a Choice> + Clone, point: u64) -> Option<&'a Choice> {
    let total: u64 = choices.clone().map(|choice| u64::from(choice.weight)).sum();
    let mut point = point % total.max(1);
    for choice in choices {
        if point < u64::from(choice.weight) {
            return Some(choice);
        }
        point -= u64::from(choice.weight);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Targets of these providers, models, weights, regions and prices.
    fn choices(strategy: Strategy, rows: &[(&str, &str, u32, bool, u64)]) -> Choices {
        let choice =
            |(at, (provider, model, weight, away, price)): (usize, &(&str, &str, u32, bool, u64))| {
                let model: Arc<str> = (*model).into();
                let (version, label) = (model.clone(), model.clone());
                let target = Target { provider: (*provider).into(), model, version, label, slot: at };
                let (target, vital) = (Arc::new(target), Some(Arc::default()));
                Choice { target, weight: *weight, away: *away, price: *price, vital }
            };
        Choices::new(strategy, rows.iter().enumerate().map(choice).collect(), Vec::new())
    }

    fn order(choices: &Choices, user: &str) -> String {
        let mut order = Vec::new();
        choices.order("r", Some(user), true, &mut order);
        order.iter().map(|target| &*target.provider).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn endpoints_of_one_model_stand_in_for_each_other_and_versions_do_not() {
        let choices = choices(
            Strategy::Weighted,
            &[("a", "m", 1, false, 0), ("b", "m", 1, false, 0), ("c", "n", 1, false, 0)],
        );
        let orders: std::collections::BTreeSet<_> =
            (0..99).map(|n| order(&choices, &format!("u{n}"))).collect();
        assert_eq!(orders.into_iter().collect::<Vec<_>>(), ["a b", "b a", "c"]);
    }

    #[test]
    fn ones_own_region_comes_first_and_who_is_left_out_last() {
        let rows = [("a", "m", 1, true, 0), ("b", "m", 9, false, 0), ("c", "m", 1, false, 0)];
        let choices = choices(Strategy::Weighted, &rows);
        assert!((0..99).all(|n| order(&choices, &format!("u{n}")).ends_with('a')));
        let eject = |at: usize| {
            let vital = choices.all[at].vital.as_ref().unwrap();
            vital.eject(Duration::from_secs(30), Duration::from_secs(30), Instant::now())
        };
        eject(1);
        assert_eq!(order(&choices, "u1"), "c a b");
        eject(2);
        assert!(order(&choices, "u1").starts_with("a "));
    }

    #[test]
    fn ranks_are_by_latency_or_cost() {
        let rows = [("a", "m", 1, false, 30), ("b", "n", 1, false, 10), ("c", "o", 1, true, 1)];
        assert_eq!(order(&choices(Strategy::Cost, &rows), "u"), "b a c", "the own region first");
        let choices = choices(Strategy::Latency, &rows);
        let now = Instant::now();
        for (at, millis) in [(0, 500), (1, 900), (2, 100)] {
            choices.all[at].vital.as_ref().unwrap().began(true, Duration::from_millis(millis), now);
        }
        assert_eq!(order(&choices, "u"), "a b c");
        let waiting: Vec<_> = (0..4).map(|_| choices.all[0].vital.as_ref().unwrap().wait(true)).collect();
        assert_eq!(order(&choices, "u"), "b a c", "who has many waiting is to begin later");
        drop(waiting);
    }
}
