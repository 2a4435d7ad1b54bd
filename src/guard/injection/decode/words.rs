//! Words that are still words, but turned, shifted, torn or scrambled: found
//! by what they would be, so that plain text costs a few lookups.
use super::{
    super::{lexicon::Lexicon, tokens::hash},
    hidden::{HIDDEN, backwards, hash_backwards, mess, mirror, shape, shape_backwards},
    leet::{is_leet, unleet, unleeted},
    telling,
    torn::{LONGEST_JOINED, apart, gathered, joined, squeezed, untorn},
};

/// Tells each other reading of a folded text.
pub(super) fn find(text: &str, lexicon: &Lexicon, told: &mut dyn FnMut(String, &'static str)) {
    let seen = Seen::of(text, lexicon);
    if let Some(shift) = seen.shift_backwards() {
        told(rotated(&text.chars().rev().collect::<String>(), shift), "reversed");
    }
    if seen.reversed >= 2 {
        told(text.chars().rev().collect(), "reversed");
        told(each_word(text, |word| String::from_utf8_lossy(&backwards(word)).into_owned()), "reversed");
    }
    if let Some(shift) = seen.shift() {
        told(rotated(text, shift), "rotated");
    }
    if seen.mirrored >= 2 {
        told(
            text.bytes().map(|byte| if byte.is_ascii() { mirror(&[byte])[0] as char } else { ' ' }).collect(),
            "rotated",
        );
    }
    if seen.scrambled >= 2 {
        let hidden = &*HIDDEN;
        let right = |word: &[u8]| {
            let strange = word.len() >= 4
                && word.iter().all(u8::is_ascii_lowercase)
                && !hidden.whole.contains(&hash(word));
            let found = strange.then(|| hidden.scrambled.get(&mess(word))).flatten();
            found.map_or_else(|| String::from_utf8_lossy(word).into_owned(), |at| hidden.words[*at].clone())
        };
        told(each_word(text, right), "scrambled");
    }
    if seen.leet >= 2 || seen.leet == 1 && seen.leet_known {
        told(unleeted(text), "leetspeak");
    }
    if seen.singles >= 8 {
        if let Some(plain) = gathered(text, 8) {
            told(plain, "spaced");
        }
    } else if seen.torn >= 3 {
        let plain = untorn(text);
        if seen.torn >= 5 || telling(&plain, lexicon) > telling(text, lexicon) {
            told(plain, "torn");
        }
    }
    if seen.longest >= 14
        && let Some(plain) = apart(text)
    {
        told(plain, "torn");
    }
    if seen.stretched >= 2 {
        told(squeezed(text), "torn");
    }
    if seen.quotes >= 4 && text.len() < LONGEST_JOINED {
        joined(text, told);
    }
}

/// What a text has of the signs of hidden words.
#[derive(Default)]
struct Seen {
    words: usize,
    reversed: usize,
    mirrored: usize,
    scrambled: usize,
    leet: usize,
    /// Whether one of them is a known word with other signs for some letters.
    leet_known: bool,
    /// The longest row of single letters.
    singles: usize,
    /// The most pieces of words near each other.
    torn: usize,
    longest: usize,
    stretched: usize,
    quotes: usize,
    /// Words that are telling ones in another shift of the alphabet.
    shifted: usize,
    shifts: [u8; 26],
    /// The same, for words that are also spelled backwards.
    shifts_backwards: [u8; 26],
}

impl Seen {
    fn of(text: &str, lexicon: &Lexicon) -> Self {
        let hidden = &*HIDDEN;
        let mut seen = Self::default();
        let bytes = text.as_bytes();
        let mut row = 0;
        let (mut pieces, mut whole) = (0, 0);
        let part = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'$' | b'!' | b'|' | b'+') || byte >= 0x80
        };
        let mut at = 0;
        while at < bytes.len() {
            if !part(bytes[at]) {
                seen.quotes += usize::from(matches!(bytes[at], b'"' | b'\''));
                at += 1;
                continue;
            }
            let begins = at;
            at += bytes[at..].iter().position(|byte| !part(*byte)).unwrap_or(bytes.len() - at);
            let word = &bytes[begins..at];
            seen.words += 1;
            if word.len() == 1 {
                row += 1;
                seen.singles = seen.singles.max(row);
                continue;
            }
            row = 0;
            seen.longest = seen.longest.max(word.len());
            // `ig-no-re`: pieces with a sign between, no space.
            let tied = |byte: Option<&u8>| {
                byte.is_some_and(|byte| matches!(byte, b'-' | b'.' | b'_' | b'*' | b'~' | b'^' | b'/'))
            };
            if word.len() <= 4
                && tied(bytes.get(at))
                && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
            {
                (pieces, whole) = (pieces + 1, 0);
                seen.torn = seen.torn.max(pieces);
            } else {
                // A few hyphens in a long text are hyphens.
                whole += 1;
                pieces = if whole > 3 { 0 } else { pieces };
            }
            if !word.iter().all(u8::is_ascii_lowercase) {
                if is_leet(word) {
                    seen.leet += 1;
                    seen.leet_known = seen.leet_known || seen.leet < 9 && unleet(word).is_some();
                }
                continue;
            }
            seen.stretched +=
                usize::from(word.windows(3).any(|three| three[0] == three[1] && three[1] == three[2]));
            if word.len() < 4 || hidden.known(word, lexicon) {
                continue;
            }
            seen.scrambled += usize::from(hidden.scrambled.contains_key(&mess(word)));
            seen.reversed += usize::from(hidden.whole.contains(&hash_backwards(word)));
            if word.len() >= 5 {
                seen.mirrored += usize::from(hidden.mirrored.contains(&hash(word)));
                if let Some(known) = hidden.shifted.get(&shape(word)) {
                    seen.shifted += usize::from(*known >= hidden.telling);
                    let shift = (hidden.words[*known].as_bytes()[0] + 26 - word[0]) % 26;
                    seen.shifts[shift as usize] = seen.shifts[shift as usize].saturating_add(1);
                } else if let Some(known) = hidden.shifted.get(&shape_backwards(word)) {
                    let shift = (hidden.words[*known].as_bytes()[0] + 26 - word[word.len() - 1]) % 26;
                    seen.shifts_backwards[shift as usize] =
                        seen.shifts_backwards[shift as usize].saturating_add(1);
                }
            }
        }
        seen
    }

    /// The shift that turns at least two words, read backwards, into telling ones.
    fn shift_backwards(&self) -> Option<u8> {
        let (shift, many) =
            self.shifts_backwards.iter().enumerate().skip(1).max_by_key(|(_, many)| **many)?;
        (*many >= 2).then_some(shift as u8)
    }

    /// The shift of the alphabet that turns at least two words, or one of few, into telling ones.
    fn shift(&self) -> Option<u8> {
        let (shift, many) = self.shifts.iter().enumerate().skip(1).max_by_key(|(_, many)| **many)?;
        (*many >= 2 || *many == 1 && self.shifted > 0 && self.words < 8).then_some(shift as u8)
    }
}

/// Letters of the alphabet so many further.
fn rotated(text: &str, shift: u8) -> String {
    let turn = |byte: u8| if byte.is_ascii_lowercase() { (byte - b'a' + shift) % 26 + b'a' } else { byte };
    text.bytes().map(|byte| if byte.is_ascii() { turn(byte) as char } else { ' ' }).collect()
}

/// The text with each word of letters changed.
pub(super) fn each_word(text: &str, change: impl Fn(&[u8]) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphabetic() {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            out.push_str(&change(word.as_bytes()));
            word.clear();
        }
        out.push(letter);
    }
    if !word.is_empty() {
        out.push_str(&change(word.as_bytes()));
    }
    out
}
