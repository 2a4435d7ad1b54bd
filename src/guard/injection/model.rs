//! The linear model: what each word, expression and piece of a word weighs,
//! together with the rules, in a window that moves over the text.
//!
//! The weights are made by `tools/injection/train.py`, from features that this
//! file makes, so that training and judging cannot differ.
use std::{ops::Range, sync::LazyLock};

use super::{
    lexicon::FOREIGN,
    rules::{self, Hit},
    tokens::Token,
};

/// How many weights there are; a feature's hash is cut to this.
pub(super) const BUCKETS: usize = 1 << BITS;
const BITS: u32 = 18;
/// A window, in tokens.
const WINDOW: usize = 72;
/// How far the window moves.
const STEP: usize = 36;
/// What is shorter is no sentence of its own, in tokens.
const SENTENCE: usize = 4;

/// What is known of a text besides its words: a slot each, after the rules'.
pub(super) const MARKS: &[&str] = &["document"];
/// All slots.
pub(super) const SLOTS: usize = rules::SLOTS + MARKS.len();
/// The slot of a document.
const DOCUMENT: usize = rules::SLOTS;

/// The learned weights.
pub(super) struct Weights {
    /// What the files were that they were learned from: SHA-256.
    pub(super) inputs: [u8; 32],
    bias: f32,
    scale: f32,
    slots: Vec<f32>,
    words: Box<[i8; BUCKETS]>,
}

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!("weights.bin");
    Weights::read(bytes).unwrap_or_else(|| Weights {
        inputs: [0; 32],
        bias: 0.0,
        scale: 0.0,
        slots: vec![0.0; SLOTS],
        words: Box::new([0; BUCKETS]),
    })
});

impl Weights {
    /// The weights that the program comes with.
    pub(super) fn get() -> &'static Self {
        &WEIGHTS
    }

    /// Reads `SLI1`, the digest of the inputs, bias, scale and the slots as
    /// little-endian `f32`, then the buckets as `i8`.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"SLI1")?;
        let (inputs, rest) = rest.split_at_checked(32)?;
        let (numbers, words) = rest.split_at_checked((2 + SLOTS) * 4)?;
        let mut numbers =
            numbers.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap_or_default()));
        let words: Vec<i8> = words.iter().map(|byte| byte.cast_signed()).collect();
        Some(Self {
            inputs: inputs.try_into().ok()?,
            bias: numbers.next()?,
            scale: numbers.next()?,
            slots: numbers.collect(),
            words: words.try_into().ok()?,
        })
    }
}

/// The best window of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The log-odds that it is an attack.
    pub(super) logit: f32,
    /// The slots that counted.
    pub(super) slots: Vec<usize>,
}

/// So many times three tokens in a row count near each other: what a list or a table says again and again says no more.
const TIMES: u8 = 2;
/// How near, in tokens.
const AGAIN: u32 = WINDOW as u32;
/// How many threes are remembered at a time.
const REMEMBERED: usize = 256;

/// The threes of tokens seen lately, by their hashes: which, where, how often.
#[derive(Debug)]
pub(super) struct Threes {
    seen: [(u32, u32, u8); REMEMBERED],
    /// Where the text begins, behind those before it: so that nothing has to be cleared.
    begins: u32,
    ends: u32,
}

impl Default for Threes {
    fn default() -> Self {
        Self { seen: [(0, 0, 0); REMEMBERED], begins: 0, ends: 0 }
    }
}

impl Threes {
    /// Another text, of so many tokens.
    pub(super) fn begin(&mut self, tokens: usize) {
        self.begins = self.ends.wrapping_add(AGAIN + 1);
        self.ends = self.begins.wrapping_add(tokens as u32);
    }

    /// Whether a token with the two before it was there [`TIMES`] times, each not far from the next.
    pub(super) fn again(&mut self, tokens: &[Token], index: usize) -> bool {
        let [two, one, token] = &tokens[index.saturating_sub(2)..=index] else { return false };
        let three = two.hash.rotate_left(31) ^ one.hash.rotate_left(17) ^ token.hash;
        let three = (three.wrapping_mul(SPREAD) >> 24) as u32;
        let at = self.begins.wrapping_add(index as u32);
        let seen = &mut self.seen[three as usize % REMEMBERED];
        if seen.0 == three && at.wrapping_sub(seen.1) <= AGAIN {
            (seen.1, seen.2) = (at, seen.2.saturating_add(1));
        } else {
            *seen = (three, at, 1);
        }
        seen.2 > TIMES
    }
}

/// What judging needs room for; kept from one text to the next.
#[derive(Debug, Default)]
pub(super) struct Room {
    threes: Threes,
    sums: Vec<(i32, u32)>,
    windows: Vec<Range<usize>>,
    on: Vec<usize>,
}

/// Judges a text: the highest log-odds of its windows. The hits are in the order of their tokens.
pub(super) fn judge(text: &str, tokens: &[Token], hits: &[Hit], document: bool, room: &mut Room) -> Found {
    let weights = Weights::get();
    let Room { threes, sums, windows: ranges, on } = room;
    threes.begin(tokens.len());
    // Sums up to each token, so that a window's is a difference.
    let (mut sum, mut count) = (0_i32, 0_u32);
    sums.clear();
    sums.push((0, 0));
    for index in 0..tokens.len() {
        if !threes.again(tokens, index) {
            features(text, tokens, index, document, |bucket| {
                sum += i32::from(weights.words[bucket]);
                count += 1;
            });
        }
        sums.push((sum, count));
    }
    windows(tokens, ranges);
    let (mut logit, mut best) = (f32::MIN, 0..0);
    for range in &*ranges {
        let (from, to) = (sums[range.start], sums[range.end]);
        let many = (to.1 - from.1).max(1) as f32;
        slots(hits, range, document, on);
        let said: f32 = on.iter().map(|slot| weights.slots[*slot]).sum();
        let odds = weights.bias + (to.0 - from.0) as f32 * weights.scale / many.sqrt() + said;
        if odds > logit {
            (logit, best) = (odds, range.clone());
        }
    }
    slots(hits, &best, document, on);
    Found { logit, slots: on.clone() }
}

/// The windows of a text: [`WINDOW`] tokens at a time, and besides each sentence, alone and with the next, so that a
/// sentence weighs as much between others as alone.
pub(super) fn windows(tokens: &[Token], windows: &mut Vec<Range<usize>>) {
    windows.clear();
    let last = tokens.len().saturating_sub(WINDOW).div_ceil(STEP);
    windows.extend((0..=last).map(|step| step * STEP..(step * STEP + WINDOW).min(tokens.len())));
    let (mut before, mut begins) = (0, 0);
    for at in 1..=tokens.len() {
        let ends = tokens.get(at).is_none_or(|token| token.breaks && at - begins >= SENTENCE);
        if !ends {
            continue;
        }
        if begins > 0 {
            windows.extend([begins..at, before..at]);
        } else if at < tokens.len() {
            windows.push(0..at);
        }
        (before, begins) = (begins, at);
    }
}

/// The slots that are on in a window, once each, in order.
pub(super) fn slots(hits: &[Hit], window: &Range<usize>, document: bool, on: &mut Vec<usize>) {
    on.clear();
    let begins = hits.partition_point(|hit| hit.token < window.start);
    on.extend(hits[begins..].iter().take_while(|hit| hit.token < window.end).map(|hit| hit.slot));
    on.sort_unstable();
    on.dedup();
    // Said plainly once, a mention of the same adds nothing.
    let mut said = usize::MAX;
    on.retain(|slot| {
        if slot % 2 == 0 {
            said = *slot;
        }
        slot % 2 == 0 || slot - 1 != said
    });
    if document {
        on.push(DOCUMENT);
    }
}

/// What a feature's hash is multiplied with; of the product, so many bits as [`BUCKETS`] needs are its bucket.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;

/// How far back the words are looked for whose classes count together with a word's, in tokens.
const NEAR: usize = 8;
/// How many of them.
const MOST_NEAR: usize = 2;

/// The buckets of a token: the word, with the one and two before it, and its pieces of four letters; its classes, by
/// which a word that nothing was learned of counts as those that do the same in a sentence, with the word and the
/// classes before. In a document some of them once more, as what a person may well say is odd there.
pub(super) fn features(
    text: &str,
    tokens: &[Token],
    index: usize,
    document: bool,
    mut each: impl FnMut(usize),
) {
    // The highest bits of a product are mixed enough.
    let bucket = |hash: u64, kind: u64| ((hash ^ kind << 56).wrapping_mul(SPREAD) >> (64 - BITS)) as usize;
    let token = &tokens[index];
    let begins = index.saturating_sub(2);
    let before = &tokens[begins..index];
    each(bucket(token.hash, 1));
    if let Some(one) = before.last() {
        each(bucket(one.hash.rotate_left(17) ^ token.hash, 2));
    }
    if let [two, one] = before {
        each(bucket(two.hash.rotate_left(31) ^ one.hash.rotate_left(17) ^ token.hash, 3));
        each(bucket(two.hash.rotate_left(31) ^ token.hash, 4));
    }
    if document {
        each(bucket(token.hash, 20));
    }
    let classes = classes(token);
    if let Some(one) = before.last() {
        let above = self::classes(one);
        if classes != 0 {
            each(bucket(one.hash.rotate_left(17) ^ classes, 11));
        }
        if classes != 0 && above != 0 {
            each(bucket(above.rotate_left(17) ^ token.hash, 12));
        }
    }
    if classes != 0 {
        each(bucket(classes, 10));
        let near = tokens[index.saturating_sub(NEAR)..index].iter().rev().map(self::classes);
        for (place, above) in near.filter(|above| *above != 0).take(MOST_NEAR).enumerate() {
            for one in ones(above) {
                ones(classes).for_each(|other| each(bucket(one * 64 + other, 8)));
            }
            if document && place == 0 {
                each(bucket(above.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ classes, 22));
            }
        }
        if document {
            each(bucket(classes, 21));
        }
    }
    let bytes = &text.as_bytes()[token.start..token.end];
    if token.is_latin() && bytes.len() >= 4 {
        for piece in bytes.windows(4) {
            let four = u32::from_le_bytes(piece.try_into().unwrap_or_default());
            each(bucket(u64::from(four), 5));
        }
        let [a, b, c, ..] = bytes else { return };
        each(bucket(u64::from_le_bytes([*a, *b, *c, 0, 0, 0, 0, 1]), 5));
        let [.., a, b, c] = bytes else { return };
        each(bucket(u64::from_le_bytes([*a, *b, *c, 0, 0, 0, 0, 2]), 5));
    } else if token.is_word() && bytes.len() >= 8 && !bytes.is_ascii() {
        // Other alphabets: pieces of about four letters, which are two bytes each.
        let stem = bytes.len().min(10);
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[..8]);
        each(bucket(u64::from_le_bytes(eight), 6));
        each(bucket(super::tokens::hash(&bytes[..stem]), 6));
    }
}

/// A token's classes.
fn classes(token: &Token) -> u64 {
    token.classes.0 & !FOREIGN.0
}

/// The numbers of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let one = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(u64::from(one))
    })
}
