//! Rows of what may be letters in another spelling: single letters, numbers, codes.
//!
//! Ordinary text has none of them but for a word here and there, and pays nothing for what is done here. Each way to
//! read a row begins anew at every byte that it may begin at, so that it does not matter where a text is cut.
use std::ops::Range;

use super::{
    BETWEEN, CODE, Leak,
    grams::Spelled,
    read::{Sign, Word, looks, sign},
    said::{Said, Texts},
};

/// What so few letters and digits say is no matter.
const FEW: usize = 16;

/// Whether a word may be a part of a row. `from` is where the text is judged from: a word that goes on there is.
pub(super) fn may_be(word: &Word, text: &str, from: usize) -> bool {
    let both = |one, other| word.looks & one != 0 && word.looks & other != 0;
    let before = || text[..word.start].bytes().next_back();
    // Bytes and letters of which no digit is below ten, as `ce bc`.
    let hex = || word.looks & (looks::BEYOND | looks::OTHER) == 0 && matches!(word.letters, 2 | 4 | 6 | 8);
    word.letters == 1
        || hex()
        || word.looks == looks::DIGIT
        || both(looks::LOWER, looks::CAMEL)
        || both(looks::DIGIT, looks::LOWER | looks::UPPER)
        || word.length >= CODE
        || matches!(before(), Some(b'"' | b'\'' | b'`' | b'+' | b'/'))
        || goes_on(word, text, from)
}

/// Whether the beginning of a word has left already.
pub(super) fn goes_on(word: &Word, text: &str, from: usize) -> bool {
    word.start == from && text[..from].chars().next_back().is_some_and(char::is_alphanumeric)
}

/// What is known of a row.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Where the prompt is in it, in order.
    pub(super) found: Vec<Range<usize>>,
    /// Where that begins which what is to come may make a finding of.
    pub(super) open: Option<usize>,
}

impl Leak {
    /// Reads a row in every way. `ended`: it does not go on.
    pub(super) fn row(&self, text: &str, row: &[Word], ended: bool) -> Verdict {
        let length: usize = row.iter().map(|word| word.letters).sum();
        if length < FEW {
            let open = if ended { None } else { row.first().map(|word| word.start) };
            return Verdict { found: Vec::new(), open };
        }
        let grams = || self.grams();
        let mut ways = Ways::new(text, row, self, &grams);
        let mut before: Option<&Word> = None;
        for word in row {
            let signs = || text[..word.start].trim_end_matches(['+', '/', '-', '_']).len();
            let gap = before.map_or_else(signs, |before| before.end);
            ways.gap(&text[gap.max(word.start.saturating_sub(BETWEEN))..word.start], word.start);
            ways.word(word, before.is_none());
            before = Some(word);
        }
        let mut verdict = ways.verdict(ended);
        // What is cut before or within its digits is read as something else.
        let within = |word: &&Word, open| (word.start..=word.start + 2).contains(&open) && word.end > open;
        if let Some(open) = verdict.open
            && let Some(word) = row.iter().find(|word| within(word, open))
            && matches!(
                text.as_bytes()[word.start..word.end],
                [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]
            )
        {
            verdict.open = Some(word.start);
        }
        verdict
    }
}

/// The ways to read a row, those that may apply.
struct Ways<'a> {
    text: &'a str,
    found: Vec<Range<usize>>,
    letters: Spelled<'a>,
    hex: Option<Bits<'a, 4>>,
    base64: Option<Bits<'a, 6>>,
    binary: Option<Bits<'a, 1>>,
    numbers: Option<[Numbers<'a>; 3]>,
}

impl<'a> Ways<'a> {
    fn new(text: &'a str, row: &[Word], leak: &'a Leak, grams: &'a dyn Fn() -> &'a super::Grams) -> Self {
        let any = row.iter().fold(0, |all, word| all | word.looks);
        let said = || Texts::new(&leak.known);
        let numbers = |base| Numbers { base, bytes: Said::new(&leak.known), points: Said::new(&leak.known) };
        let digits = any & looks::DIGIT != 0;
        Self {
            text,
            found: Vec::new(),
            letters: Spelled::new(grams),
            hex: digits.then(|| Bits::new(said)),
            base64: (any & (looks::LOWER | looks::UPPER) != 0).then(|| Bits::new(said)),
            binary: digits.then(|| Bits::new(said)),
            numbers: digits.then(|| [numbers(10), numbers(8), numbers(16)]),
        }
    }

    /// What stands between two words of a row: signs of base64 do, next to either of them.
    fn gap(&mut self, gap: &str, end: usize) {
        let Some(base64) = &mut self.base64 else { return };
        // Within JSON a slash has a backslash before it.
        let is_sign = |sign: char| matches!(sign, '+' | '/' | '-' | '_' | '\\');
        let before = gap.trim_start_matches(|sign| sign == '=' || is_sign(sign));
        let from = gap.len() - before.len();
        let behind = before.trim_end_matches(is_sign).len() + from;
        for (at, byte) in gap.bytes().enumerate().filter(|(at, _)| *at < from || *at >= behind) {
            let start = end - gap.len() + at;
            if byte == b'=' {
                base64.pad();
            } else if let Some(value) = sextet(byte) {
                base64.symbol(value, start..start + 1, &mut self.found);
            }
        }
    }

    fn word(&mut self, word: &Word, first: bool) {
        self.spelled(word, first);
        let range = word.start..word.end;
        let plain = if word.looks & looks::OTHER == 0 { &self.text[range] } else { "" };
        self.hex(word, plain);
        let found = &mut self.found;
        if let Some(base64) = &mut self.base64 {
            for (at, byte) in (word.start..).zip(plain.bytes()) {
                if let Some(value) = sextet(byte) {
                    base64.symbol(value, at..at + 1, found);
                }
            }
        }
        if let Some(binary) = &mut self.binary {
            let digits = plain.strip_prefix("0b").or_else(|| plain.strip_prefix("0B")).unwrap_or(plain);
            let start = word.end - digits.len().min(word.end);
            if !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0' | b'1')) {
                if digits.len() == 7 {
                    binary.symbol(0, start..start, found);
                }
                for (at, byte) in (start..).zip(digits.bytes()) {
                    binary.symbol(u32::from(byte - b'0'), at..at + 1, found);
                }
            } else {
                binary.clear();
            }
        }
        for numbers in self.numbers.iter_mut().flatten() {
            numbers.word(plain, word.start..word.end, found);
        }
    }

    /// Single letters, and words that are joined.
    fn spelled(&mut self, word: &Word, first: bool) {
        if word.looks == looks::DIGIT {
            return;
        }
        let joined = word.looks & looks::DIGIT == 0 && (word.letters >= CODE || first);
        if word.letters != 1 && !joined {
            return self.letters.clear();
        }
        let mut at = word.start;
        while at < word.end {
            let (letter, length) = match sign(self.text, at, true) {
                Sign::Letter(letter, length) => (Some(letter), length),
                Sign::Unseen(length) | Sign::Blank(length) => (None, length),
                Sign::Open => (None, 1),
            };
            if let Some(letter) = letter {
                self.found.extend(self.letters.letter(letter, at..at + length));
            }
            at += length;
        }
    }

    fn hex(&mut self, word: &Word, plain: &str) {
        let Some(hex) = &mut self.hex else { return };
        let (skip, digits) = match plain.as_bytes() {
            [b'0', b'x' | b'X', rest @ ..] => (2, rest),
            [b'x' | b'X', rest @ ..] => (1, rest),
            // `U+0059`.
            [b'u' | b'U'] => (1, &[][..]),
            rest => (0, rest),
        };
        if plain.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return hex.clear();
        }
        for (at, byte) in (word.start + skip..).zip(digits) {
            let value = char::from(*byte).to_digit(16).unwrap_or_default();
            hex.symbol(value, at..at + 1, &mut self.found);
        }
    }

    fn verdict(mut self, ended: bool) -> Verdict {
        let mut all = Vec::new();
        let mut opens = vec![self.letters.open()];
        if let Some(hex) = self.hex {
            opens.push(hex.open());
            all.extend(hex.said);
        }
        if let Some(base64) = self.base64 {
            opens.push(base64.open());
            all.extend(base64.said);
        }
        if let Some(binary) = self.binary {
            opens.push(binary.open());
            all.extend(binary.said);
        }
        let mut numbers: Vec<Said<'_>> =
            self.numbers.into_iter().flatten().flat_map(|numbers| [numbers.bytes, numbers.points]).collect();
        let mut open = None;
        if ended {
            all.iter_mut().for_each(|texts| texts.end(&mut self.found));
            self.found.extend(numbers.iter_mut().filter_map(Said::word));
        } else {
            let numbers = numbers.iter().map(Said::open);
            open = opens.into_iter().chain(all.iter().map(Texts::open)).chain(numbers).flatten().min();
        }
        self.found.sort_by_key(|range| (range.start, range.end));
        let mut upto = 0;
        self.found.retain(|range| {
            let apart = range.start >= upto;
            upto = upto.max(range.end);
            apart
        });
        Verdict { found: self.found, open }
    }
}

/// A number for each byte or for each letter, to a base.
struct Numbers<'a> {
    base: u32,
    bytes: Said<'a>,
    points: Said<'a>,
}

impl Numbers<'_> {
    fn word(&mut self, plain: &str, at: Range<usize>, found: &mut Vec<Range<usize>>) {
        let digits = match (self.base, plain.as_bytes()) {
            // `U+0059`.
            (16, [b'u' | b'U']) => return,
            (16, [b'0', b'x' | b'X', ..]) | (8, [b'0', b'o' | b'O', ..]) => &plain[2..],
            (16, [b'u' | b'U' | b'x' | b'X', ..]) => &plain[1..],
            // Most numbers are decimal.
            (16, _) if plain.len() % 2 == 1 => "",
            (..) => plain,
        };
        let number = u32::from_str_radix(digits, self.base).ok().filter(|_| digits.len() > 1);
        match number.map(u8::try_from) {
            Some(Ok(byte)) => found.extend(self.bytes.byte(byte, at.clone())),
            _ => self.bytes.clear(),
        }
        match number {
            Some(number) => found.extend(self.points.point(number, at)),
            None => self.points.clear(),
        }
    }
}

fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Symbols of `WIDTH` bits each, as bytes that begin at each of the places that they may begin at.
struct Bits<'a, const WIDTH: usize> {
    buffer: u64,
    /// Bits so far.
    count: usize,
    /// Where the last symbols are.
    starts: [usize; 16],
    symbols: usize,
    said: Vec<Texts<'a>>,
}

impl<'a, const WIDTH: usize> Bits<'a, WIDTH> {
    /// Bytes begin at multiples of so many bits.
    const STEP: usize = if WIDTH == 6 { 2 } else { WIDTH };

    fn new(said: impl Fn() -> Texts<'a>) -> Self {
        let said = (0..8 / Self::STEP).map(|_| said()).collect();
        Self { buffer: 0, count: 0, starts: [0; 16], symbols: 0, said }
    }

    fn symbol(&mut self, value: u32, at: Range<usize>, found: &mut Vec<Range<usize>>) {
        self.buffer = self.buffer << WIDTH | u64::from(value);
        self.starts[self.symbols % 16] = at.start;
        self.symbols += 1;
        let before = self.count;
        self.count += WIDTH;
        for bits in (before / Self::STEP + 1)..=(self.count / Self::STEP) {
            let upto = bits * Self::STEP;
            if upto < 8 {
                continue;
            }
            let byte = (self.buffer >> (self.count - upto)) as u8;
            let start = self.back((self.count - upto + 8).div_ceil(WIDTH));
            let phase = bits % (8 / Self::STEP);
            self.said[phase].byte(byte, start..at.end, found);
        }
    }

    /// Where the symbol is that is so many before the next one.
    fn back(&self, many: usize) -> usize {
        self.starts[(self.symbols - many.min(self.symbols).min(16)) % 16]
    }

    /// A code ends before it has filled its last byte, and what comes begins a new one.
    fn pad(&mut self) {
        if self.count >= 2 {
            self.count -= 2;
            self.buffer >>= 2;
        }
    }

    fn clear(&mut self) {
        if self.symbols > 0 {
            (self.buffer, self.count, self.symbols) = (0, 0, 0);
            self.said.iter_mut().for_each(Texts::clear);
        }
    }

    /// Where the first symbol is that a byte to come may begin with.
    fn open(&self) -> Option<usize> {
        (self.symbols > 0).then(|| self.back(8 / WIDTH + 1))
    }
}
