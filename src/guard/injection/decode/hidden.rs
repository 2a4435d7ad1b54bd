//! What telling words look like when somebody hides them.
use std::sync::LazyLock;

use super::super::{
    lexicon::Lexicon,
    table::{Set, Table},
    tokens::{hash, mix},
};

/// The longest word that is cut out of a row of letters.
pub(super) const LONGEST_WORD: usize = 18;

/// Plain words, for cutting text without spaces apart; with the telling ones of the lexicon.
const COMMON: &str = include_str!("common.txt");

/// What telling words look like when they are hidden, each to the word itself.
pub(super) struct Hidden {
    /// In any alphabet shift: the distances between letters stay. By their place in `words`, counted from one.
    shifted: Table,
    /// With `a` for `z`, `b` for `y`.
    pub(super) mirrored: Set,
    /// The inner letters in any order. By their place in `words`, counted from one.
    scrambled: Table,
    /// All words that text without spaces may be made of.
    pub(super) whole: Set,
    /// The telling ones of them.
    pub(super) tells: Set,
    /// How long the words are that begin with two letters: a bit for each length.
    lengths: Vec<u32>,
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
    let each = |words: &[String], spell: &dyn Fn(&[u8]) -> u64| -> Table {
        let all = words.iter().zip(1..).map(|(word, at)| (spell(word.as_bytes()), at));
        Table::new(&all.collect::<Vec<_>>(), |_, last| last)
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
            .map(|word| hash(&word.bytes().map(mirror).collect::<Vec<u8>>()))
            .collect(),
        scrambled: each(&words, &mess),
        whole: whole().map(|word| hash(word.as_bytes())).collect(),
        telling: first,
        words,
    }
});

impl Hidden {
    /// Where in `words` the word is that has a shape.
    pub(super) fn shifted(&self, shape: u64) -> Option<usize> {
        (self.shifted.get(shape) as usize).checked_sub(1)
    }

    /// Where in `words` the word is whose letters are those of a mess.
    pub(super) fn scrambled(&self, mess: u64) -> Option<usize> {
        (self.scrambled.get(mess) as usize).checked_sub(1)
    }

    /// How long the words may be that some letters begin with: a bit for each length.
    pub(super) fn lengths(&self, letters: &[u8]) -> u32 {
        first_two(letters).map_or(0, |two| self.lengths[two])
    }

    /// Whether some letters are a word that text without spaces may be made of.
    pub(super) fn is_whole(&self, letters: &[u8]) -> bool {
        letters.len() <= LONGEST_WORD
            && self.lengths(letters) >> letters.len() & 1 == 1
            && self.whole.contains(hash(letters))
    }
}

/// The number of the two small letters that a word begins with.
fn first_two(word: &[u8]) -> Option<usize> {
    let [one, two, ..] = word else { return None };
    let both = one.is_ascii_lowercase() && two.is_ascii_lowercase();
    both.then(|| usize::from(one - b'a') * 26 + usize::from(two - b'a'))
}

/// The hash of a word spelled backwards.
pub(super) fn hash_backwards(word: &[u8]) -> u64 {
    let mut letters = [0; LONGEST_WORD];
    let Some(letters) = letters.get_mut(..word.len()) else { return 0 };
    letters.copy_from_slice(word);
    letters.reverse();
    hash(letters)
}

/// With `a` for `z`, `b` for `y`.
pub(super) fn mirror(byte: u8) -> u8 {
    if byte.is_ascii_lowercase() { b'a' + b'z' - byte } else { byte }
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

/// What each small letter adds to a [`mess`].
const INNER: [u64; 32] = {
    let mut all = [0; 32];
    let mut letter = 0;
    while letter < 32 {
        all[letter] = mix(letter as u64 + 1);
        letter += 1;
    }
    all
};

/// A hash of the first and last letter, and of those between in any order.
pub(super) fn mess(word: &[u8]) -> u64 {
    let inner = &word[1..word.len() - 1];
    let sum = inner.iter().fold(0_u64, |sum, byte| sum.wrapping_add(INNER[usize::from(byte & 31)]));
    mix(sum ^ u64::from(word[0]) << 8 ^ u64::from(word[word.len() - 1]) << 16 ^ (word.len() as u64) << 24)
}
