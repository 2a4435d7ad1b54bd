//! Sets and maps of hashes that are made once and asked for each word of each text: a look or two at one place, no
//! second hash.

/// A bit for each hash that may be there: most that are not are told by one look.
#[derive(Default)]
pub(super) struct Sieve(Vec<u64>);

/// How many words of bits a sieve has.
const SIEVE: usize = 1024;

impl Sieve {
    pub(super) fn insert(&mut self, hash: u64) {
        self.0.resize(SIEVE, 0);
        self.0[(hash >> 6) as usize % SIEVE] |= 1 << (hash & 63);
    }

    /// Whether a hash may be there. That it is not is certain.
    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.0.get((hash >> 6) as usize % SIEVE).is_some_and(|bits| bits >> (hash & 63) & 1 == 1)
    }
}

/// Numbers but zero, by hashes.
#[derive(Default)]
pub(super) struct Table {
    seen: Sieve,
    /// Each in the first free place from its own on; at least half of them are free (zero).
    slots: Vec<(u64, u64)>,
}

impl Table {
    /// A table of numbers; those of one hash are put together by `merge`.
    pub(super) fn new(all: &[(u64, u64)], merge: impl Fn(u64, u64) -> u64) -> Self {
        let mut table =
            Self { seen: Sieve::default(), slots: vec![(0, 0); (all.len() * 2).next_power_of_two()] };
        for (hash, value) in all {
            table.seen.insert(*hash);
            let at = table.place(*hash);
            let before = table.slots[at].1;
            table.slots[at] = (*hash, if before == 0 { *value } else { merge(before, *value) });
        }
        table
    }

    fn place(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 40) as usize & mask;
        while self.slots[at].1 != 0 && self.slots[at].0 != hash {
            at = (at + 1) & mask;
        }
        at
    }

    /// The number of a hash, zero where there is none.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> u64 {
        if self.seen.may_have(hash) { self.slots[self.place(hash)].1 } else { 0 }
    }
}

/// A set of hashes, as 32 bits of each: one in four billion of others is taken for one of them.
pub(super) struct Set {
    slots: Vec<u32>,
}

impl Set {
    fn place(&self, hash: u64) -> (usize, u32) {
        let (mask, tag) = (self.slots.len() - 1, hash as u32 | 1);
        let mut at = (hash >> 40) as usize & mask;
        while self.slots[at] != 0 && self.slots[at] != tag {
            at = (at + 1) & mask;
        }
        (at, tag)
    }

    #[inline]
    pub(super) fn contains(&self, hash: u64) -> bool {
        let (at, tag) = self.place(hash);
        self.slots[at] == tag
    }
}

impl FromIterator<u64> for Set {
    fn from_iter<I: IntoIterator<Item = u64>>(hashes: I) -> Self {
        let hashes: Vec<u64> = hashes.into_iter().collect();
        let mut set = Self { slots: vec![0; (hashes.len() * 2 + 1).next_power_of_two()] };
        for hash in hashes {
            let (at, tag) = set.place(hash);
            set.slots[at] = tag;
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tokens::mix, *};

    #[test]
    fn what_was_put_in_is_there_and_nothing_else() {
        let hashes: Vec<u64> = (1..3000).map(mix).collect();
        let table =
            Table::new(&hashes.iter().map(|hash| (*hash, *hash >> 1 | 1)).collect::<Vec<_>>(), |a, _| a);
        let set: Set = hashes.iter().copied().collect();
        for hash in &hashes {
            assert_eq!(table.get(*hash), *hash >> 1 | 1);
            assert!(set.contains(*hash));
        }
        for other in (3000..9000).map(mix) {
            assert_eq!(table.get(other), 0);
            assert!(!set.contains(other));
        }
        assert_eq!(Table::default().get(7), 0);
        assert_eq!(Table::new(&[(5, 1), (5, 2)], |a, b| a | b).get(5), 3);
    }
}
