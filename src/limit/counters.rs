//! The counters: one table, one lock, one decision over all scopes of a call.
//!
//! The counters lie in a row and are found by a keyed hash of who they are
//! for, so that an entry is small and of one size and no name is copied. A
//! call is checked in every scope before anything is taken in one: a refused
//! call leaves no trace. There is no timer; who comes new cleans up.
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    bucket::{Bucket, Debt},
    scope::{Id, SCOPES, Scope, Terms},
};

/// Fewer are not tracked, or one call would have no room for its own scopes.
const FEWEST: usize = 16;
/// How long a call waits whose kind of limit does not say when it ends: one in flight. In microseconds.
const A_WHILE: u64 = 1_000_000;
/// How many old counters a new one looks through, at most, to find room.
const MOST_STEPS: usize = 1024;
/// How many it looks at while there is room: so the table is as large as those who still owe.
const FEW_STEPS: usize = 2;

/// A scope that limits a call, and the counter's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) scope: Scope,
    pub(super) terms: Terms,
    pub(super) id: Id,
}

/// The scopes that limit a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asks {
    rows: [Option<Ask>; SCOPES],
    count: usize,
}

impl Asks {
    pub(super) fn push(&mut self, ask: Ask) {
        if let Some(row) = self.rows.get_mut(self.count) {
            (*row, self.count) = (Some(ask), self.count + 1);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ask> {
        self.rows[..self.count].iter().flatten()
    }

    pub(super) fn limit_tokens(&self) -> bool {
        self.iter().any(|ask| ask.terms.tokens.is_some())
    }

    pub(super) fn limit_in_flight(&self) -> bool {
        self.iter().any(|ask| ask.terms.in_flight.is_some())
    }
}

/// The limit with the least left: so many of so many, and the microseconds until all are there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) reset: u64,
}

/// Why a call is refused, and for how many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) scope: Scope,
    pub(super) kind: Kind,
    pub(super) wait: u64,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Requests,
    Tokens,
    InFlight,
    /// Who is counted: every counter is taken by a call in flight.
    Tracked,
}

impl Kind {
    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InFlight => "in_flight",
            Self::Tracked => "tracked",
        }
    }
}

/// What the counters say of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) requests: Option<Left>,
    pub(super) tokens: Option<Left>,
    pub(super) refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Counter {
    id: Id,
    /// When it was last brought up to date; debts are as of then.
    at: u64,
    requests: Debt,
    tokens: Debt,
    /// When nothing is owed any more.
    paid: u64,
    in_flight: u32,
}

impl Counter {
    fn new(id: Id, now: u64) -> Self {
        Self { id, at: now, requests: Debt::default(), tokens: Debt::default(), paid: now, in_flight: 0 }
    }

    /// Brings it to `now`. Calls may tell their time out of order: it never goes back.
    fn bring_to(&mut self, now: u64, terms: &Terms) {
        let micros = now.saturating_sub(self.at);
        let melt = |bucket: Option<Bucket>, debt| bucket.map_or(Debt::default(), |b| b.after(debt, micros));
        self.requests = melt(terms.requests, self.requests);
        self.tokens = melt(terms.tokens, self.tokens);
        self.at = self.at.max(now);
    }

    fn is_done(&self, now: u64) -> bool {
        self.in_flight == 0 && self.paid <= now
    }

    fn settle_time(&mut self, terms: &Terms) {
        let melts = |bucket: Option<Bucket>, debt| bucket.map_or(0, |bucket| bucket.melts(debt));
        let longest = melts(terms.requests, self.requests).max(melts(terms.tokens, self.tokens));
        self.paid = self.at.saturating_add(longest);
    }
}

/// Spreads nothing: an [`Id`] is a hash.
#[derive(Debug, Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

/// The counters of all who are tracked.
#[derive(Debug, Default)]
pub(super) struct Counters {
    places: HashMap<Half, u32, BuildHasherDefault<Ready>>,
    row: Vec<Counter>,
    free: Vec<u32>,
    /// Every counter once, by a time before which it was known to owe something.
    oldest: BinaryHeap<Reverse<(u64, u32)>>,
}

/// An [`Id`] whose second half is its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Half(Id);

impl std::hash::Hash for Half {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[1]);
    }
}

impl Counters {
    /// Counts a call in all scopes, or refuses it and counts it in none.
    /// `tokens` are set aside where tokens are limited, though never more than
    /// a limit has in all: or such a call could never come.
    pub(super) fn admit(&mut self, asks: &Asks, tokens: u64, now: u64, most: usize) -> Counted {
        self.decide(asks, tokens, now, most, false)
    }

    /// Counts a call that somebody else has admitted.
    pub(super) fn count(&mut self, asks: &Asks, tokens: u64, now: u64, most: usize) {
        self.decide(asks, tokens, now, most, true);
    }

    fn decide(&mut self, asks: &Asks, tokens: u64, now: u64, most: usize, decided: bool) -> Counted {
        let (mut found, mut brought) = ([None; SCOPES], [None; SCOPES]);
        let mut verdict = Counted::default();
        let mut missing = 0;
        for (index, ask) in asks.iter().enumerate() {
            let place = self.places.get(&Half(ask.id)).copied();
            let mut counter = place
                .and_then(|place| self.row.get(place as usize).copied())
                .unwrap_or_else(|| Counter::new(ask.id, now));
            counter.bring_to(now, &ask.terms);
            verdict.check(ask, &counter, tokens);
            missing += usize::from(place.is_none());
            (found[index], brought[index]) = (place, Some(counter));
        }
        if decided {
            verdict.refused = None;
        }
        if missing > 0 && verdict.refused.is_none() && !self.make_room(missing, now, most, &found) {
            let scope = asks.iter().zip(found).find(|(_, place)| place.is_none());
            let scope = scope.map_or(Scope::Global, |(ask, _)| ask.scope);
            verdict.refused = Some(Refused { scope, kind: Kind::Tracked, wait: A_WHILE });
        }
        let took = verdict.refused.is_none();
        for (index, ask) in asks.iter().enumerate() {
            let Some(mut counter) = brought[index] else { continue };
            if took {
                counter.take(&ask.terms, tokens);
                self.put(found[index], counter);
            }
            verdict.leave(ask, counter.requests, counter.tokens);
        }
        verdict
    }

    /// What [`Self::admit`] would say, without counting.
    pub(super) fn look(&self, asks: &Asks, tokens: u64, now: u64) -> Counted {
        let brought = |ask: &Ask| {
            let known = self.places.get(&Half(ask.id)).and_then(|place| self.row.get(*place as usize));
            let mut counter = known.copied().unwrap_or_else(|| Counter::new(ask.id, now));
            counter.bring_to(now, &ask.terms);
            counter
        };
        let mut verdict = Counted::default();
        asks.iter().for_each(|ask| verdict.check(ask, &brought(ask), tokens));
        for ask in asks.iter() {
            let counter = brought(ask);
            verdict.leave(ask, counter.requests, counter.tokens);
        }
        verdict
    }

    /// A call has ended that was in flight in these scopes.
    pub(super) fn release(&mut self, asks: &Asks) {
        for ask in asks.iter().filter(|ask| ask.terms.in_flight.is_some()) {
            if let Some(counter) = self.find(ask.id) {
                counter.in_flight = counter.in_flight.saturating_sub(1);
            }
        }
    }

    /// `tokens` were set aside; what it truly took is known.
    pub(super) fn settle(&mut self, asks: &Asks, tokens: u64, truly: u64, now: u64, most: usize) {
        for ask in asks.iter() {
            let Some(bucket) = ask.terms.tokens else { continue };
            let aside = tokens.min(bucket.burst);
            let mut counter = match self.find(ask.id).map(|counter| *counter) {
                Some(counter) => counter,
                None if truly > aside && self.make_room(1, now, most, &[]) => Counter::new(ask.id, now),
                None => continue,
            };
            counter.bring_to(now, &ask.terms);
            counter.tokens =
                counter.tokens.and(truly.saturating_sub(aside)).less(aside.saturating_sub(truly));
            counter.settle_time(&ask.terms);
            let place = self.places.get(&Half(ask.id)).copied();
            self.put(place, counter);
        }
    }

    /// How many are tracked.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The calls in flight of all counters that have some.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> Vec<u32> {
        let live = self.places.values().map(|&place| self.row[place as usize].in_flight);
        live.filter(|&many| many > 0).collect()
    }

    fn find(&mut self, id: Id) -> Option<&mut Counter> {
        let place = *self.places.get(&Half(id))?;
        self.row.get_mut(place as usize)
    }

    fn put(&mut self, place: Option<u32>, counter: Counter) {
        if let Some(there) = place.and_then(|place| self.row.get_mut(place as usize)) {
            *there = counter;
            return;
        }
        let place = if let Some(place) = self.free.pop() {
            self.row[place as usize] = counter;
            place
        } else {
            self.row.push(counter);
            self.row.len() as u32 - 1
        };
        self.places.insert(Half(counter.id), place);
        self.oldest.push(Reverse((counter.paid, place)));
    }

    /// Makes room for so many new counters, and tells whether there is. Those
    /// who owe nothing go first. Only when all owe something, whoever owes it
    /// for the shortest time goes: many new names cannot wash out one that is
    /// used up. A counter with calls in flight, or of the call at hand, stays.
    fn make_room(&mut self, many: usize, now: u64, most: usize, keep: &[Option<u32>]) -> bool {
        let most = most.max(FEWEST);
        // Used since they were last looked at; they go back behind those who will have paid earlier.
        let mut used = Vec::new();
        for step in 0..MOST_STEPS {
            let short = self.len() + many > most;
            let Some(&Reverse((known, place))) = self.oldest.peek() else { break };
            if !short && (step >= FEW_STEPS || known > now) {
                break;
            }
            self.oldest.pop();
            let counter = &self.row[place as usize];
            let kept = counter.in_flight > 0 || keep.contains(&Some(place));
            if !kept && (counter.is_done(now) || (short && counter.paid <= known)) {
                self.forget(place);
            } else {
                let later = if kept { counter.paid.max(now + A_WHILE) } else { counter.paid };
                used.push((later, kept, place));
            }
        }
        if self.len() + many > most {
            // All of them were: of these, too, whoever owes for the shortest time goes.
            used.sort_unstable();
            let short = self.len() + many - most;
            let gone: Vec<u32> =
                used.iter().filter(|(_, kept, _)| !kept).take(short).map(|&(_, _, place)| place).collect();
            gone.iter().for_each(|&place| self.forget(place));
            used.retain(|(_, _, place)| !gone.contains(place));
        }
        self.oldest.extend(used.into_iter().map(|(later, _, place)| Reverse((later, place))));
        self.len() + many <= most
    }

    /// Its entry in `oldest` must be out already.
    fn forget(&mut self, place: u32) {
        self.places.remove(&Half(self.row[place as usize].id));
        self.free.push(place);
    }
}

impl Counter {
    fn take(&mut self, terms: &Terms, tokens: u64) {
        if terms.requests.is_some() {
            self.requests = self.requests.and(1);
        }
        if let Some(bucket) = terms.tokens {
            self.tokens = self.tokens.and(tokens.min(bucket.burst));
        }
        if terms.in_flight.is_some() {
            self.in_flight = self.in_flight.saturating_add(1);
        }
        self.settle_time(terms);
    }
}

impl Counted {
    fn check(&mut self, ask: &Ask, counter: &Counter, tokens: u64) {
        let Terms { requests, tokens: limit, in_flight } = &ask.terms;
        if let Some(bucket) = requests {
            self.refuse(ask.scope, Kind::Requests, bucket.wait(counter.requests, 1));
        }
        if let Some(bucket) = limit {
            self.refuse(ask.scope, Kind::Tokens, bucket.wait(counter.tokens, tokens.min(bucket.burst)));
        }
        if in_flight.is_some_and(|most| counter.in_flight >= most) {
            self.refuse(ask.scope, Kind::InFlight, A_WHILE);
        }
    }

    /// The longest wait is the one that is told: after it all scopes admit.
    fn refuse(&mut self, scope: Scope, kind: Kind, wait: u64) {
        if wait > self.refused.map_or(0, |refused| refused.wait) {
            self.refused = Some(Refused { scope, kind, wait });
        }
    }

    /// What is left, for the headers: of the limit that refuses, else of the one with the least.
    pub(super) fn leave(&mut self, ask: &Ask, requests: Debt, tokens: Debt) {
        let refused = self.refused;
        let keep = |kept: &mut Option<Left>, kind: Kind, bucket: Option<Bucket>, debt: Debt| {
            let Some(bucket) = bucket else { return };
            let left =
                Left { limit: bucket.per_minute, remaining: bucket.left(debt), reset: bucket.melts(debt) };
            let shown = match refused {
                Some(refused) if refused.kind == kind => refused.scope == ask.scope,
                _ => kept.is_none_or(|kept| left.remaining < kept.remaining),
            };
            if shown {
                *kept = Some(left);
            }
        };
        keep(&mut self.requests, Kind::Requests, ask.terms.requests, requests);
        keep(&mut self.tokens, Kind::Tokens, ask.terms.tokens, tokens);
    }
}
