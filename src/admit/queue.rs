//! Who is next: by priority, then fair between tenants, then first come, first served.
//!
//! Tenants of one priority take turns (round robin), so the flood of one does
//! not hold up the others. Where somebody must go, it is the youngest waiter
//! of the tenant that waits most, among those of the lowest priority ("longest
//! queue drop", McKenney, "Stochastic Fairness Queueing", 1990). No clock, no
//! lock, no I/O.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::caller::Priority;

/// Tenants wait about as much as each other if their numbers differ by less than one part in so many.
const ALIKE: usize = 4;

/// Those who wait.
#[derive(Debug)]
pub(super) struct Queue<T> {
    levels: [Level<T>; Priority::ALL.len()],
    next: u64,
}

/// Those of one priority.
#[derive(Debug)]
struct Level<T> {
    /// Each tenant's waiters, oldest first; nobody without a waiter is in here.
    tenants: HashMap<Arc<str>, VecDeque<(u64, T)>>,
    /// The tenants in here, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    len: usize,
}

/// Where a waiter stands, to take it out again.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    priority: Priority,
    tenant: Arc<str>,
    number: u64,
}

impl<T> Default for Level<T> {
    fn default() -> Self {
        Self { tenants: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { levels: Default::default(), next: 0 }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(|level| level.len).sum()
    }

    /// How many wait at a priority.
    pub(super) fn len_at(&self, priority: Priority) -> usize {
        self.levels[priority as usize].len
    }

    /// How many have their turn before a newcomer, if nobody else comes.
    pub(super) fn ahead(&self, priority: Priority, tenant: &str) -> usize {
        let higher: usize = self.levels[priority as usize + 1..].iter().map(|level| level.len).sum();
        let level = &self.levels[priority as usize];
        let turns = level.tenants.get(tenant).map_or(0, VecDeque::len) + 1;
        let beside = level.tenants.iter().filter(|(name, _)| &***name != tenant);
        higher + turns - 1 + beside.map(|(_, waiters)| waiters.len().min(turns)).sum::<usize>()
    }

    /// Whether somebody more urgent waits.
    pub(super) fn waits_above(&self, priority: Priority) -> bool {
        self.levels[priority as usize + 1..].iter().any(|level| level.len > 0)
    }

    /// Lets somebody wait.
    pub(super) fn push(&mut self, priority: Priority, tenant: &Arc<str>, waiter: T) -> Ticket {
        let number = self.next;
        self.next += 1;
        let level = &mut self.levels[priority as usize];
        let waiters = level.tenants.entry(tenant.clone()).or_default();
        if waiters.is_empty() {
            level.turns.push_back(tenant.clone());
        }
        waiters.push_back((number, waiter));
        level.len += 1;
        Ticket { priority, tenant: tenant.clone(), number }
    }

    /// The lowest priority of those who wait.
    pub(super) fn lowest(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| self.len_at(*priority) > 0)
    }

    /// Takes out who is next, and says how urgent that was.
    pub(super) fn pop(&mut self) -> Option<(Priority, T)> {
        Priority::ALL.into_iter().rev().find_map(|priority| {
            let waiter = self.levels[priority as usize].pop()?;
            Some((priority, waiter))
        })
    }

    /// Takes out whoever has this ticket, if they still wait.
    pub(super) fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let level = &mut self.levels[ticket.priority as usize];
        let waiters = level.tenants.get_mut(&ticket.tenant)?;
        let at = waiters.binary_search_by_key(&ticket.number, |(number, _)| *number).ok()?;
        let (_, waiter) = waiters.remove(at)?;
        level.taken(&ticket.tenant);
        Some(waiter)
    }

    /// Whether a newcomer would be the first to go where somebody has to: others
    /// wait who have a better right.
    pub(super) fn is_first_to_go(&self, priority: Priority, tenant: &str) -> bool {
        if self.lowest().is_some_and(|lowest| lowest < priority) {
            return false;
        }
        let level = &self.levels[priority as usize];
        let own = level.tenants.get(tenant).map_or(0, VecDeque::len);
        let mut others = level.tenants.iter().filter(|(name, _)| &***name != tenant).peekable();
        let above = self.len() > level.len;
        (above || others.peek().is_some()) && others.all(|(_, waiters)| waiters.len() <= own)
    }

    /// Makes room for a newcomer: takes out somebody of a lower priority, or
    /// of a tenant that waits more. `None` where the newcomer has no better
    /// right than those who wait.
    pub(super) fn displace(&mut self, priority: Priority, tenant: &str) -> Option<T> {
        match self.lowest()? {
            lowest if lowest < priority => self.levels[lowest as usize].displace(None),
            lowest if lowest == priority => self.displace_beside(priority, tenant),
            _ => None,
        }
    }

    /// Makes room among those of a newcomer's own priority: takes out somebody of a tenant that waits more.
    pub(super) fn displace_beside(&mut self, priority: Priority, tenant: &str) -> Option<T> {
        self.levels[priority as usize].displace(Some(tenant))
    }
}

impl<T> Level<T> {
    fn pop(&mut self) -> Option<T> {
        let tenant = self.turns.front()?.clone();
        let (_, waiter) = self.tenants.get_mut(&tenant)?.pop_front()?;
        // To the end of the turns, or, with nobody left, out of them.
        self.turns.rotate_left(1);
        self.taken(&tenant);
        Some(waiter)
    }

    /// Takes out the youngest of the tenant that waits most, if that is more than `than` would with one more.
    fn displace(&mut self, than: Option<&str>) -> Option<T> {
        let (name, many) = self.tenants.iter().map(|(name, waiters)| (name, waiters.len())).max_by(
            // Equals are told apart by name, so that it is always the same one.
            |(a, x), (b, y)| x.cmp(y).then_with(|| a.cmp(b)),
        )?;
        let own = than.map(|tenant| self.tenants.get(tenant).map_or(0, VecDeque::len) + 1);
        // Those who wait about as much as each other do not send each other away.
        if own.is_some_and(|own| own + many / ALIKE >= many) {
            return None;
        }
        let name = name.clone();
        let (_, waiter) = self.tenants.get_mut(&name)?.pop_back()?;
        self.taken(&name);
        Some(waiter)
    }

    /// One of a tenant's waiters is out.
    fn taken(&mut self, tenant: &Arc<str>) {
        self.len -= 1;
        if self.tenants.get(tenant).is_some_and(VecDeque::is_empty) {
            self.tenants.remove(tenant);
            self.turns.retain(|name| name != tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{High, Low, Normal};

    fn queue(waiters: &[(Priority, &str)]) -> Queue<usize> {
        let mut queue = Queue::default();
        for (number, (priority, tenant)) in waiters.iter().enumerate() {
            queue.push(*priority, &Arc::from(*tenant), number);
        }
        queue
    }

    fn order(mut queue: Queue<usize>) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop()).map(|(_, waiter)| waiter).collect()
    }

    #[test]
    fn the_higher_priority_comes_first_and_then_who_came_first() {
        let it = queue(&[(Low, "t"), (Normal, "t"), (High, "t"), (Normal, "t"), (High, "t")]);
        assert_eq!(order(it), [2, 4, 1, 3, 0]);
    }

    #[test]
    fn tenants_take_turns() {
        let it = queue(&[
            (Normal, "a"),
            (Normal, "a"),
            (Normal, "a"),
            (Normal, "b"),
            (Normal, "c"),
            (Normal, "b"),
        ]);
        assert_eq!(order(it), [0, 3, 4, 1, 5, 2]);
    }

    #[test]
    fn whoever_has_a_ticket_leaves_alone() {
        let mut it = queue(&[(Normal, "a"), (Normal, "b")]);
        let ticket = it.push(Normal, &"a".into(), 7);
        assert_eq!((it.remove(&ticket), it.remove(&ticket)), (Some(7), None));
        assert_eq!((it.len(), order(it)), (2, vec![0, 1]));
    }

    #[test]
    fn the_youngest_of_the_lowest_priority_makes_room() {
        let mut it = queue(&[(Low, "a"), (Normal, "a"), (Low, "a")]);
        assert_eq!(it.displace(High, "b"), Some(2));
        assert_eq!(it.displace(Normal, "a"), Some(0));
        assert_eq!(it.displace(Normal, "a"), None, "equals do not displace each other");
        assert_eq!(it.displace(Low, "b"), None);
    }

    #[test]
    fn a_flood_makes_room_for_another_tenant() {
        let mut it = queue(&[(Normal, "a"), (Normal, "a"), (Normal, "a"), (Normal, "b")]);
        assert_eq!(it.displace(Normal, "a"), None);
        assert_eq!(it.displace(Normal, "b"), Some(2), "two each");
        it.push(Normal, &"b".into(), 9);
        assert_eq!(it.displace(Normal, "b"), None);
    }

    #[test]
    fn who_would_be_the_first_to_go_is_known() {
        let alone = queue(&[(Normal, "a"), (Normal, "a")]);
        assert!(!alone.is_first_to_go(Normal, "a"), "there is nobody to make room for");
        let it = queue(&[(High, "x"), (Normal, "a"), (Normal, "a"), (Normal, "b")]);
        let first = [(Normal, "a"), (Low, "b"), (Normal, "b"), (High, "x")];
        assert_eq!(
            first.map(|(priority, tenant)| it.is_first_to_go(priority, tenant)),
            [true, true, false, false]
        );
    }

    #[test]
    fn the_turns_before_a_newcomer_are_known() {
        let it =
            queue(&[(High, "x"), (Normal, "a"), (Normal, "a"), (Normal, "a"), (Normal, "b"), (Low, "c")]);
        assert_eq!(
            [it.ahead(High, "b"), it.ahead(Normal, "c"), it.ahead(Normal, "b"), it.ahead(Normal, "a")],
            [1, 3, 4, 5]
        );
    }
}
