//! Sets and maps of hashes that are made once and asked for each word of each text: a look or two at one place, no
//! second hash.

/// A bit for each hash that may be there: most that are not are told by one look.
#[derive(Default)]
pub(super) struct Sieve(Vec<u64>);

/// How many words of bits a sieve has.
const SIEVE: usize = 2048;

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

/// Numbers but zero, by hashes, of which 32 bits and the place are kept.
#[derive(Default)]
pub(super) struct Table {
    seen: Sieve,
    /// Each in the first free place from its own on; at least half of them are free.
    slots: Vec<Slot>,
    /// The numbers, each once: mostly that are few, and always fewer than slots.
    values: Vec<u64>,
}

/// The two halves of a hash's bits, and the place of its number in the values, from one on; zero in a free slot.
type Slot = [u16; 3];

impl Table {
    /// A table of numbers; those of one hash are put together by `merge`.
    pub(super) fn new(all: &[(u64, u64)], merge: impl Fn(u64, u64) -> u64) -> Self {
        let mut merged: Vec<(Slot, u64)> = vec![Default::default(); (all.len() * 2).next_power_of_two()];
        let mut seen = Sieve::default();
        for (hash, value) in all {
            seen.insert(*hash);
            let at = place(&merged, *hash, |(slot, _)| *slot);
            let (slot, before) = &mut merged[at];
            *before = if slot[2] == 0 { *value } else { merge(*before, *value) };
            *slot = [*hash as u16, (*hash >> 16) as u16, 1];
        }
        let mut values: Vec<u64> =
            merged.iter().filter(|(slot, _)| slot[2] != 0).map(|(_, value)| *value).collect();
        values.sort_unstable();
        values.dedup();
        values.shrink_to_fit();
        debug_assert!(values.len() < usize::from(u16::MAX));
        let numbered = |(slot, value): (Slot, u64)| {
            let at = if slot[2] == 0 { 0 } else { values.partition_point(|known| *known < value) + 1 };
            [slot[0], slot[1], at as u16]
        };
        Self { seen, slots: merged.into_iter().map(numbered).collect(), values }
    }

    /// The number of a hash, zero where there is none.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> u64 {
        if !self.seen.may_have(hash) {
            return 0;
        }
        let [_, _, value] = self.slots[place(&self.slots, hash, |slot| *slot)];
        if value == 0 { 0 } else { self.values[usize::from(value) - 1] }
    }
}

/// The slot of a hash, or the free one where it would be.
#[inline]
fn place<T>(slots: &[T], hash: u64, slot: impl Fn(&T) -> Slot) -> usize {
    let mask = slots.len() - 1;
    let mut at = (hash >> 40) as usize & mask;
    loop {
        let [low, high, value] = slot(&slots[at]);
        if value == 0 || (low, high) == (hash as u16, (hash >> 16) as u16) {
            return at;
        }
        at = (at + 1) & mask;
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
