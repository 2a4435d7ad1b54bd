//! Words of the prompt in a row.
use std::collections::HashSet;

use super::{SHINGLE, read::shingle};

/// The hashes of all words of the prompt that are looked up together.
pub(super) type Shingles = HashSet<u64, foldhash::fast::FixedState>;

/// What is known of the prompt's words.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) shingles: Shingles,
    /// A bit for each hash of a word, and for some of others: most words of ordinary answers are told from the prompt's
    /// at once, and not waited for.
    words: Vec<u64>,
    /// Whether there is anything in them that is beyond ASCII.
    pub(super) beyond: bool,
    /// Letters of the longest word.
    pub(super) longest: usize,
}

impl Known {
    /// Learns all words of the prompt, in each of their spellings.
    pub(super) fn learn(&mut self, texts: &[Vec<u64>]) {
        // One of some ten others has its bit, too.
        let bits = (8 * texts.iter().map(Vec::len).sum::<usize>()).next_power_of_two().max(64);
        self.words = vec![0; bits / 64];
        for word in texts.iter().flatten() {
            let (at, bit) = self.place(*word);
            self.words[at] |= bit;
        }
    }

    fn place(&self, word: u64) -> (usize, u64) {
        let upper = (word >> 32) as usize & (64 * self.words.len()).wrapping_sub(1);
        (upper / 64, 1 << (upper % 64))
    }

    /// Whether a word may be one of the prompt's.
    fn may_be(&self, word: u64) -> bool {
        let (at, bit) = self.place(word);
        self.words.get(at).is_some_and(|bits| bits & bit != 0)
    }
}

/// Of how many words and letters a run must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Enough {
    pub(super) words: usize,
    pub(super) letters: usize,
}

/// The last words of a text, and the run of the prompt's words that they end.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Hash, letters and beginning, the oldest first.
    last: [(u64, usize, usize); SHINGLE],
    many: usize,
    /// Where it began, and what it has.
    run: Option<(usize, Enough)>,
}

impl Run {
    /// Takes the next word. Gives back the run that it ends, if that has words enough.
    pub(super) fn word(
        &mut self,
        (hash, letters): (u64, usize),
        start: usize,
        known: &Known,
        enough: Enough,
    ) -> Option<usize> {
        if !known.may_be(hash) {
            self.clear();
            return None;
        }
        if self.many == SHINGLE {
            self.last.rotate_left(1);
            self.many -= 1;
        }
        self.last[self.many] = (hash, letters, start);
        self.many += 1;
        if self.many < SHINGLE || !known.shingles.contains(&shingle(self.last.map(|(hash, ..)| hash))) {
            self.run = None;
            return None;
        }
        let first =
            || Enough { words: SHINGLE, letters: self.last.iter().map(|(_, letters, _)| letters).sum() };
        let (begins, has) = self.run.map_or_else(
            || (self.last[0].2, first()),
            |(begins, has)| (begins, Enough { words: has.words + 1, letters: has.letters + letters }),
        );
        self.run = Some((begins, has));
        if has.words < enough.words || has.letters < enough.letters {
            return None;
        }
        self.clear();
        Some(begins)
    }

    /// Where that begins which words to come may make a finding of.
    pub(super) fn open(&self) -> Option<usize> {
        let oldest = match self.many {
            0 => return None,
            // The first of four is over, if they are no run.
            SHINGLE => self.last[1].2,
            _ => self.last[0].2,
        };
        Some(self.run.map_or(oldest, |(begins, _)| begins))
    }

    pub(super) fn clear(&mut self) {
        (self.many, self.run) = (0, None);
    }
}
