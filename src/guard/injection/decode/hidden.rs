//! What telling words look like when somebody hides them.
use std::sync::LazyLock;

use super::super::{
    lexicon::Lexicon,
    tokens::{hash, mix},
};

/// The longest word that is cut out of a row of letters.
pub(super) const LONGEST_WORD: usize = 18;

/// Plain words, for cutting text without spaces apart; with the telling ones of the lexicon.
const COMMON: &str = include_str!("common.txt");

type State = foldhash::fast::FixedState;

/// A set of hashes. Most that are not in it are told by one look at a bit.
pub(super) struct HashSet {
    bits: Box<[u64; 1024]>,
    all: std::collections::HashSet<u64, State>,
}

impl HashSet {
    pub(super) fn contains(&self, hash: &u64) -> bool {
        self.bits[(hash >> 6) as usize & 1023] >> (hash & 63) & 1 == 1 && self.all.contains(hash)
    }
}

impl FromIterator<u64> for HashSet {
    fn from_iter<I: IntoIterator<Item = u64>>(hashes: I) -> Self {
        let mut set = Self { bits: Box::new([0; 1024]), all: hashes.into_iter().collect() };
        for hash in &set.all {
            set.bits[(hash >> 6) as usize & 1023] |= 1 << (hash & 63);
        }
        set
    }
}

/// Hashes, each of a word.
pub(super) struct HashMap {
    known: HashSet,
    words: std::collections::HashMap<u64, usize, State>,
}

impl HashMap {
    pub(super) fn get(&self, hash: &u64) -> Option<&usize> {
        if self.known.contains(hash) { self.words.get(hash) } else { None }
    }

    pub(super) fn contains_key(&self, hash: &u64) -> bool {
        self.known.contains(hash)
    }
}

impl FromIterator<(u64, usize)> for HashMap {
    fn from_iter<I: IntoIterator<Item = (u64, usize)>>(hashes: I) -> Self {
        let words: std::collections::HashMap<u64, usize, State> = hashes.into_iter().collect();
        Self { known: words.keys().copied().collect(), words }
    }
}

/// What telling words look like when they are hidden, each to the word itself.
pub(super) struct Hidden {
    /// In any alphabet shift: the distances between letters stay.
    pub(super) shifted: HashMap,
    /// With `a` for `z`, `b` for `y`.
    pub(super) mirrored: HashSet,
    /// The inner letters in any order.
    pub(super) scrambled: HashMap,
    /// All words that text without spaces may be made of.
    pub(super) whole: HashSet,
    /// The telling ones of them.
    pub(super) tells: HashSet,
    /// How long the words are that begin with two letters: a bit for each length.
    pub(super) lengths: Vec<u32>,
    pub(super) words: Vec<String>,
    /// Where in `words` the telling ones begin.
    pub(super) telling: usize,
}

pub(super) static HIDDEN: LazyLock<Hidden> = LazyLock::new(|| {
    let telling = &Lexicon::get().telling;
    let mut words: Vec<String> =
        COMMON.split_whitespace().filter(|word| word.len() >= 4).map(String::from).collect();
    words.extend(telling.iter().cloned());
    // The telling ones come last, and so win where two look the same.
    let each = |words: &[String], spell: &dyn Fn(&[u8]) -> u64| -> HashMap {
        words.iter().enumerate().map(|(at, word)| (spell(word.as_bytes()), at)).collect()
    };
    let first = words.len() - telling.len();
    let whole = || COMMON.split_whitespace().chain(words.iter().map(String::as_str));
    let mut lengths = vec![0_u32; 26 * 26];
    for word in whole().filter(|word| (2..=LONGEST_WORD).contains(&word.len())) {
        if let Some(two) = first_two(word.as_bytes()) {
            lengths[two] |= 1 << word.len();
        }
    }
    Hidden {
        lengths,
        tells: telling.iter().map(|word| hash(word.as_bytes())).collect(),
        shifted: each(&words, &shape),
        mirrored: words
            .iter()
            .filter(|word| word.len() > 4)
            .map(|word| hash(&mirror(word.as_bytes())))
            .collect(),
        scrambled: each(&words, &mess),
        whole: whole().map(|word| hash(word.as_bytes())).collect(),
        telling: first,
        words,
    }
});

impl Hidden {
    /// Whether a word is a plain one.
    pub(super) fn known(&self, word: &[u8], lexicon: &Lexicon) -> bool {
        let hash = hash(word);
        self.whole.contains(&hash) || lexicon.classes(hash).0 != 0
    }

    /// How long the words may be that some letters begin with: a bit for each length.
    pub(super) fn lengths(&self, letters: &[u8]) -> u32 {
        first_two(letters).map_or(0, |two| self.lengths[two])
    }
}

/// The number of the two small letters that a word begins with.
fn first_two(word: &[u8]) -> Option<usize> {
    let [one, two, ..] = word else { return None };
    let both = one.is_ascii_lowercase() && two.is_ascii_lowercase();
    both.then(|| usize::from(one - b'a') * 26 + usize::from(two - b'a'))
}

pub(super) fn backwards(word: &[u8]) -> Vec<u8> {
    word.iter().rev().copied().collect()
}

/// The hash of a word spelled backwards.
pub(super) fn hash_backwards(word: &[u8]) -> u64 {
    let mut letters = [0; LONGEST_WORD];
    let Some(letters) = letters.get_mut(..word.len()) else { return 0 };
    letters.copy_from_slice(word);
    letters.reverse();
    hash(letters)
}

pub(super) fn mirror(word: &[u8]) -> Vec<u8> {
    word.iter().map(|byte| if byte.is_ascii_lowercase() { b'a' + b'z' - byte } else { *byte }).collect()
}

/// A hash of the distances between neighbours: the same for every shift of the alphabet.
pub(super) fn shape(word: &[u8]) -> u64 {
    word.windows(2)
        .fold(word.len() as u64, |all, two| mix(all.rotate_left(9) ^ u64::from((two[1] + 26 - two[0]) % 26)))
}

/// The same of the word spelled backwards.
pub(super) fn shape_backwards(word: &[u8]) -> u64 {
    word.windows(2)
        .rev()
        .fold(word.len() as u64, |all, two| mix(all.rotate_left(9) ^ u64::from((two[0] + 26 - two[1]) % 26)))
}

/// A hash of the first and last letter, and of those between in any order.
pub(super) fn mess(word: &[u8]) -> u64 {
    let inner = &word[1..word.len() - 1];
    let sum: u64 = inner.iter().map(|byte| mix(u64::from(*byte) + 1)).fold(0, u64::wrapping_add);
    mix(sum ^ u64::from(word[0]) << 8 ^ u64::from(word[word.len() - 1]) << 16 ^ (word.len() as u64) << 24)
}
