//! The replies in memory, and whose they are: every tenant has its share of the room.
//!
//! Where all of it is taken, room is made by who takes the most: a tenant that
//! stays below its even part of the room never loses a reply to another.
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use super::{
    kept::{ENTRY, Name, Owner, Person, Print, Reply},
    sealed::Seal,
};

/// What a key stands for.
#[derive(Debug)]
pub(super) enum Entry {
    /// A request that is being answered.
    Running(Print),
    /// A request that was answered.
    Kept(Place),
}

/// A reply that is kept.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) print: Print,
    pub(super) owner: Owner,
    pub(super) person: Option<Person>,
    pub(super) kept: Kept,
    pub(super) until: Instant,
}

/// A reply, as it is in memory.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Open(Arc<Reply>),
    /// As the database had it.
    Sealed(Arc<[u8]>),
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Self::Open(reply) => reply.size(),
            Self::Sealed(sealed) => sealed.len() + ENTRY,
        }
    }

    /// Opens it, if that can be done. What is sealed for another API key, or torn, is as good as gone.
    pub(super) fn opened(&self, name: Name, seal: &Seal) -> Option<Arc<Reply>> {
        let opened = match self {
            Self::Open(reply) => Some(reply.clone()),
            Self::Sealed(sealed) => opened(name, seal, sealed.to_vec()).map(Arc::new),
        };
        if opened.is_none() {
            tracing::warn!("a kept reply cannot be opened: the request is answered anew");
        }
        opened
    }
}

fn opened(name: Name, seal: &Seal, sealed: Vec<u8>) -> Option<Reply> {
    Reply::unpacked(seal.open(&name.0, sealed)?)
}

/// What is in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    entries: HashMap<Name, Entry>,
    /// What is kept, the first to be forgotten first.
    order: BTreeSet<(Instant, Name)>,
    shares: HashMap<Owner, Share>,
    /// Who takes how much, the most last.
    sizes: BTreeSet<(usize, Owner)>,
    bytes: usize,
}

/// What is kept for one tenant.
#[derive(Debug, Default)]
struct Share {
    order: BTreeSet<(Instant, Name)>,
    bytes: usize,
}

impl State {
    pub(super) fn get(&self, name: Name) -> Option<&Entry> {
        self.entries.get(&name)
    }

    /// What is kept, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Claims a name that stands for nothing.
    pub(super) fn claim(&mut self, name: Name, print: Print) {
        self.entries.insert(name, Entry::Running(print));
    }

    /// Lets a claim go.
    pub(super) fn release(&mut self, name: Name) {
        if matches!(self.entries.get(&name), Some(Entry::Running(_))) {
            self.entries.remove(&name);
        }
    }

    /// Keeps a reply in the place of whatever was there. Tells what made room for it.
    pub(super) fn keep(&mut self, name: Name, place: Place, most: usize) -> Vec<Name> {
        self.remove(name);
        let (size, due) = (place.kept.size(), (place.until, name));
        self.resize(place.owner, |share| {
            share.order.insert(due);
            share.bytes += size;
        });
        self.bytes += size;
        self.order.insert(due);
        self.entries.insert(name, Entry::Kept(place));
        let mut gone = Vec::new();
        while self.bytes > most {
            let largest = self.sizes.last().and_then(|(_, owner)| self.shares.get(owner));
            let Some((_, oldest)) = largest.and_then(|share| share.order.first()).copied() else { break };
            self.remove(oldest);
            gone.push(oldest);
        }
        gone
    }

    /// Forgets what is kept for long enough.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((_, name)) = self.order.first().copied().filter(|(until, _)| *until <= now) {
            self.remove(name);
        }
    }

    /// Takes out all that is kept for a person. Tells of what.
    pub(super) fn erase(&mut self, person: Person) -> Vec<Name> {
        let theirs = |entry: &Entry| matches!(entry, Entry::Kept(place) if place.person == Some(person));
        let names: Vec<Name> =
            self.entries.iter().filter(|(_, entry)| theirs(entry)).map(|(name, _)| *name).collect();
        names.iter().for_each(|name| self.remove(*name));
        names
    }

    /// Takes out what is kept, but no claim.
    pub(super) fn remove(&mut self, name: Name) {
        let Some(Entry::Kept(Place { owner, kept, until, .. })) = self.entries.get(&name) else { return };
        let (owner, size, due) = (*owner, kept.size(), (*until, name));
        self.resize(owner, |share| {
            share.order.remove(&due);
            share.bytes -= size;
        });
        self.bytes -= size;
        self.order.remove(&due);
        self.entries.remove(&name);
    }

    fn resize(&mut self, owner: Owner, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(owner).or_default();
        self.sizes.remove(&(share.bytes, owner));
        change(share);
        match share.order.is_empty() {
            true => drop(self.shares.remove(&owner)),
            false => drop(self.sizes.insert((share.bytes, owner))),
        }
    }

    /// How many names stand for something.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NONE: Print = Print([0; 32]);

    fn reply(size: usize) -> Kept {
        Kept::Sealed(vec![0; size].into())
    }

    proptest! {
        #[test]
        fn who_stays_within_an_even_share_loses_nothing_to_others(
            puts in prop::collection::vec((0u8..4, 0u16..400, 0usize..3000, 1u64..50), 1..200),
            most in 4000usize..40_000,
        ) {
            let began = Instant::now();
            let mut state = State::default();
            let mut wanted: HashMap<u8, HashMap<Name, usize>> = HashMap::new();
            let mut beyond = BTreeSet::new();
            for (owner, word, size, seconds) in puts {
                let mut name = [owner; 32];
                name[..2].copy_from_slice(&word.to_le_bytes());
                let place = Place {
                    print: NONE,
                    owner: Owner([owner; 32]),
                    person: None,
                    kept: reply(size),
                    until: began + Duration::from_secs(seconds),
                };
                state.keep(Name(name), place, most);
                let own = wanted.entry(owner).or_default();
                own.insert(Name(name), size + ENTRY);
                if own.values().sum::<usize>() > most / 4 {
                    beyond.insert(owner);
                }
                prop_assert!(state.bytes() <= most);
                for (owner, own) in wanted.iter().filter(|(owner, _)| !beyond.contains(owner)) {
                    let lost = own.keys().filter(|name| state.get(**name).is_none()).count();
                    prop_assert_eq!(lost, 0, "tenant {} is within its share", owner);
                }
                let sum: usize = state.shares.values().map(|share| share.bytes).sum();
                prop_assert_eq!(sum, state.bytes());
                prop_assert_eq!(state.sizes.len(), state.shares.len());
                prop_assert_eq!(state.order.len(), state.len());
            }
            state.forget(began + Duration::from_secs(60));
            prop_assert_eq!((state.bytes(), state.len(), state.shares.len(), state.sizes.len()), (0, 0, 0, 0));
        }
    }
}
