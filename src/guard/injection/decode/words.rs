//! Words that are still words, but turned, shifted, torn or scrambled: found
//! by what they would be, so that plain text costs a lookup a word.
use std::ops::Range;

use super::{
    super::{
        lexicon::Lexicon,
        tokens::{self, Token},
    },
    around,
    finds::Finds,
    hidden::{HIDDEN, Hidden, hash_backwards, mess, mirror, shape, shape_backwards},
    leet::{is_leet, unleet, unleeted},
    telling,
    torn::{apart, gathered, joined, squeezed, untorn},
    typos::meant,
};

/// Looks for each other reading of a folded text.
pub(super) fn find(text: &str, tokens: &[Token], quotations: usize, lexicon: &Lexicon, finds: &mut Finds) {
    let seen = Seen::of(text, tokens);
    // What is made costs its length and is made of the part in which its signs were seen, and of what is around.
    let mut make = |spots: &Spots, cost: usize, layer, made: &mut dyn FnMut(&str) -> Option<String>| {
        let part = around(text, spots.range.clone());
        if finds.wants(part.len() * cost)
            && let Some(found) = made(part)
        {
            finds.tell(found, layer);
        }
    };
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    if let Some((shift, spots)) = seen.shift_backwards() {
        make(spots, 1, "reversed", &mut |part| Some(rotated(&reversed(part), shift)));
    }
    if seen.reversed.many >= 2 {
        make(&seen.reversed, 1, "reversed", &mut |part| Some(reversed(part)));
        make(&seen.reversed, 1, "reversed", &mut |part| {
            Some(each_word(part, |word, out| out.extend(word.iter().rev().map(|byte| char::from(*byte)))))
        });
    }
    if let Some((shift, spots)) = seen.shift() {
        make(spots, 1, "rotated", &mut |part| Some(rotated(part, shift)));
    }
    if seen.mirrored.many >= 2 {
        make(&seen.mirrored, 1, "rotated", &mut |part| Some(letters(part, mirror)));
    }
    if seen.scrambled.many >= 2 {
        make(&seen.scrambled, 1, "scrambled", &mut |part| Some(each_word(part, unscramble)));
    }
    if seen.misspelt.many > 0 {
        make(&seen.misspelt, 1, "misspelt", &mut |part| Some(each_word(part, spell)));
    }
    if seen.leet.many >= 2 || seen.leet.many == 1 && seen.leet_known {
        make(&seen.leet, 3, "leetspeak", &mut |part| Some(unleeted(part)));
    }
    if seen.singles.many >= 8 {
        make(&seen.singles, 3, "spaced", &mut |part| gathered(part, 8));
    } else if seen.torn >= 3 {
        make(&seen.tied, 3, "torn", &mut |part| {
            let plain = untorn(part);
            let more = || telling(&tokens::cut(&plain, lexicon)) > telling(&tokens::cut(part, lexicon));
            (seen.torn >= 5 || more()).then_some(plain)
        });
    }
    if seen.long.many > 0 {
        make(&seen.long, 3, "torn", &mut |part| apart(part));
    }
    if seen.stretched.many >= 2 {
        make(&seen.stretched, 1, "torn", &mut |part| Some(squeezed(part)));
    }
    if quotations >= 2 && text.len() < LONGEST_JOINED && finds.wants(text.len()) {
        joined(text, lexicon, finds);
    }
}

/// Longer texts quote so much that their quotations put together say anything.
const LONGEST_JOINED: usize = 4_000;
/// Words of so many letters may be several.
pub(super) const LONG: usize = 14;

/// How often something was seen, and from where to where.
#[derive(Clone, Default)]
struct Spots {
    many: usize,
    range: Range<usize>,
}

impl Spots {
    fn see(&mut self, begins: usize, ends: usize) {
        if self.many == 0 {
            self.range.start = begins;
        }
        self.many += 1;
        self.range.end = ends;
    }
}

/// What a byte is to [`Seen::of`]: a part of a word, or a sign that ties pieces of one.
const PART: u8 = 1;
const TIE: u8 = 2;
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'$' | b'!' | b'|' | b'+' | 0x80.. => PART,
            b'-' | b'.' | b'_' | b'*' | b'~' | b'^' | b'/' => TIE,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

fn kind(byte: Option<&u8>) -> u8 {
    byte.map_or(0, |byte| KINDS[usize::from(*byte)])
}

/// What a text has of the signs of hidden words.
#[derive(Default)]
struct Seen {
    words: usize,
    reversed: Spots,
    mirrored: Spots,
    scrambled: Spots,
    misspelt: Spots,
    leet: Spots,
    /// Whether one of them is a known word with other signs for some letters.
    leet_known: bool,
    /// Single letters in rows of at least eight.
    singles: Spots,
    /// Pieces of words that are tied, and the most of them near each other.
    tied: Spots,
    torn: usize,
    /// Words that may be several.
    long: Spots,
    stretched: Spots,
    /// Words that are others in another shift of the alphabet, and how many of them are telling ones.
    shifted: Spots,
    telling: usize,
    shifts: [u8; 26],
    /// The same, for words that are also spelled backwards.
    shifted_backwards: Spots,
    shifts_backwards: [u8; 26],
}

impl Seen {
    fn of(text: &str, tokens: &[Token]) -> Self {
        let hidden = &*HIDDEN;
        let mut seen = Self::default();
        let bytes = text.as_bytes();
        // A row of single letters, and where it begins; pieces of words, and words between them.
        let (mut row, mut row_begins) = (0, 0);
        let (mut pieces, mut whole) = (0, 0);
        let mut ends = 0;
        for token in tokens.iter().filter(|token| token.is_word()) {
            if token.start < ends {
                continue;
            }
            let mut begins = token.start;
            // Mostly a word stands between spaces.
            while begins > ends && bytes[begins - 1] != b' ' && kind(bytes.get(begins - 1)) == PART {
                begins -= 1;
            }
            ends = token.end;
            let mut next = kind(bytes.get(ends));
            while next == PART {
                ends += 1;
                next = kind(bytes.get(ends));
            }
            let length = ends - begins;
            seen.words += 1;
            if length == 1 {
                if row == 0 {
                    row_begins = begins;
                }
                row += 1;
                if row >= 8 {
                    seen.singles.see(row_begins, ends);
                }
                continue;
            }
            row = 0;
            // `ig-no-re`: pieces with a sign between, no space.
            if next == TIE && length <= 4 && bytes.get(ends + 1).is_some_and(u8::is_ascii_alphabetic) {
                (pieces, whole) = (pieces + 1, 0);
                seen.torn = seen.torn.max(pieces);
                seen.tied.see(begins, ends);
            } else if pieces > 0 {
                // A few hyphens in a long text are hyphens.
                whole += 1;
                pieces = if whole > 3 { 0 } else { pieces };
            }
            if length >= LONG {
                seen.long.see(begins, ends);
            }
            if token.is_latin() && length == token.end - token.start {
                if length >= 4 && token.classes.0 == 0 && !hidden.whole.contains(token.hash) {
                    seen.unknown(hidden, &bytes[begins..ends], token.hash, begins);
                }
            } else if length >= 3 && is_leet(&bytes[begins..ends]) {
                seen.leet.see(begins, ends);
                seen.leet_known =
                    seen.leet_known || seen.leet.many < 9 && unleet(&bytes[begins..ends]).is_some();
            }
        }
        seen
    }

    /// Looks at a word of small letters that is no plain one.
    fn unknown(&mut self, hidden: &Hidden, word: &[u8], hash: u64, begins: usize) {
        let ends = begins + word.len();
        if word.windows(3).any(|three| three[0] == three[1] && three[1] == three[2]) {
            self.stretched.see(begins, ends);
        }
        if hidden.scrambled(mess(word)).is_some() {
            self.scrambled.see(begins, ends);
        }
        if meant(word).is_some() {
            self.misspelt.see(begins, ends);
        }
        if hidden.whole.contains(hash_backwards(word)) {
            self.reversed.see(begins, ends);
        }
        let [first, _, _, _, .., last] = word else { return };
        if hidden.mirrored.contains(hash) {
            self.mirrored.see(begins, ends);
        }
        let by =
            |known: usize, letter: u8| usize::from((hidden.words[known].as_bytes()[0] + 26 - letter) % 26);
        if let Some(known) = hidden.shifted(shape(word)) {
            self.shifted.see(begins, ends);
            self.telling += usize::from(known >= hidden.telling);
            let many = &mut self.shifts[by(known, *first)];
            *many = many.saturating_add(1);
        } else if let Some(known) = hidden.shifted(shape_backwards(word)) {
            self.shifted_backwards.see(begins, ends);
            let many = &mut self.shifts_backwards[by(known, *last)];
            *many = many.saturating_add(1);
        }
    }

    /// The shift that turns at least two words, read backwards, into others.
    fn shift_backwards(&self) -> Option<(u8, &Spots)> {
        if self.shifted_backwards.many < 2 {
            return None;
        }
        let (shift, many) = most(&self.shifts_backwards)?;
        (many >= 2).then_some((shift, &self.shifted_backwards))
    }

    /// The shift of the alphabet that turns at least two words into others, or one of few into a telling one.
    fn shift(&self) -> Option<(u8, &Spots)> {
        if self.shifted.many == 0 {
            return None;
        }
        let (shift, many) = most(&self.shifts)?;
        (many >= 2 || many == 1 && self.telling > 0 && self.words < 8).then_some((shift, &self.shifted))
    }
}

/// The shift that turns most words into others, and how many.
fn most(shifts: &[u8; 26]) -> Option<(u8, u8)> {
    let best = shifts.iter().zip(0_u8..).skip(1).max_by_key(|(many, _)| **many);
    best.map(|(many, shift)| (shift, *many))
}

/// Each word of four letters or more as the known one that has the same letters within.
fn unscramble(word: &[u8], out: &mut String) {
    let hidden = &*HIDDEN;
    let strange = word.len() >= 4 && word.iter().all(u8::is_ascii_lowercase) && !hidden.is_whole(word);
    match strange.then(|| hidden.scrambled(mess(word))).flatten() {
        Some(known) => out.push_str(&hidden.words[known]),
        None => out.extend(word.iter().map(|byte| char::from(*byte))),
    }
}

/// Each word that is misspelt as the one that was meant.
fn spell(word: &[u8], out: &mut String) {
    let known = || HIDDEN.is_whole(word);
    match meant(word).filter(|_| !known()) {
        Some(meant) => out.push_str(meant),
        None => out.extend(word.iter().map(|byte| char::from(*byte))),
    }
}

/// The text with each small letter changed; what is not ASCII is a space.
fn letters(text: &str, change: impl Fn(u8) -> u8) -> String {
    text.chars().map(|c| if c.is_ascii() { char::from(change(c as u8)) } else { ' ' }).collect()
}

/// Letters of the alphabet so many further.
fn rotated(text: &str, shift: u8) -> String {
    letters(text, |byte| if byte.is_ascii_lowercase() { (byte - b'a' + shift) % 26 + b'a' } else { byte })
}

/// The text with each word of letters changed.
pub(super) fn each_word(text: &str, mut change: impl FnMut(&[u8], &mut String)) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let bytes = text.as_bytes();
    let (mut begins, mut at) = (0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        out.push_str(&text[begins..at]);
        begins = at;
        while bytes.get(at).is_some_and(u8::is_ascii_alphabetic) {
            at += 1;
        }
        change(&bytes[begins..at], &mut out);
        begins = at;
    }
    out.push_str(&text[begins..]);
    out
}
