//! Rows of what may be letters in another spelling: single letters, numbers, codes.
//!
//! Ordinary text has none of them but for a word here and there, and pays nothing for what is done here. Each way to
//! read a row begins anew at every byte that it may begin at, so that it does not matter where a text is cut.
use std::ops::Range;

use super::{
    BETWEEN, CODE, FEWEST, Leak,
    grams::Spelled,
    read::{self, Sign, Word, looks, sign},
    run::{Known, Run},
};

/// What so few letters and digits say is no matter.
const FEW: usize = 16;

/// Whether a word may be a part of a row. `from` is where the text is judged from: a word that goes on there is.
pub(super) fn may_be(word: &Word, text: &str, from: usize) -> bool {
    let both = |one, other| word.looks & one != 0 && word.looks & other != 0;
    let before = || text[..word.start].bytes().next_back();
    word.letters == 1
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
            ways.gap(&text[before.map_or(word.start, |before| before.end)..word.start], word.start);
            ways.word(word, before.is_none());
            before = Some(word);
        }
        ways.verdict(ended)
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
    /// A number for each byte, to these bases.
    numbers: Option<[(u32, Said<'a>); 2]>,
}

impl<'a> Ways<'a> {
    fn new(text: &'a str, row: &[Word], leak: &'a Leak, grams: &'a dyn Fn() -> &'a super::Grams) -> Self {
        let any = row.iter().fold(0, |all, word| all | word.looks);
        let said = || Said::new(&leak.known);
        let digits = any & looks::DIGIT != 0;
        Self {
            text,
            found: Vec::new(),
            letters: Spelled::new(grams),
            hex: digits.then(|| Bits::new(said)),
            base64: (any & (looks::LOWER | looks::UPPER) != 0).then(|| Bits::new(said)),
            binary: digits.then(|| Bits::new(said)),
            numbers: digits.then(|| [(10, said()), (8, said())]),
        }
    }

    /// What stands between two words of a row: signs of base64 do, if nothing else does.
    fn gap(&mut self, gap: &str, end: usize) {
        let Some(base64) = &mut self.base64 else { return };
        let signs = gap.trim_start_matches('=');
        for _ in signs.len()..gap.len() {
            base64.pad();
        }
        // Within JSON a slash has a backslash before it.
        if signs.bytes().all(|byte| matches!(byte, b'+' | b'/' | b'-' | b'_' | b'\\')) {
            let start = end - signs.len();
            for (at, byte) in signs.bytes().enumerate() {
                if let Some(value) = sextet(byte) {
                    base64.symbol(value, start + at..start + at + 1, &mut self.found);
                }
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
            if !plain.is_empty() && plain.bytes().all(|byte| matches!(byte, b'0' | b'1')) {
                if plain.len() == 7 {
                    binary.symbol(0, word.start..word.start, found);
                }
                for (at, byte) in (word.start..).zip(plain.bytes()) {
                    binary.symbol(u32::from(byte - b'0'), at..at + 1, found);
                }
            } else {
                binary.clear();
            }
        }
        for (base, said) in self.numbers.iter_mut().flatten() {
            let number = u8::from_str_radix(plain, *base).ok().filter(|_| plain.len() > 1);
            match number {
                Some(byte) => found.extend(said.byte(byte, word.start..word.end)),
                None => said.clear(),
            }
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
        let mut all: Vec<Said<'_>> = self.numbers.into_iter().flatten().map(|(_, said)| said).collect();
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
        let mut open = None;
        if ended {
            self.found.extend(all.iter_mut().filter_map(Said::word));
        } else {
            open = opens.into_iter().chain(all.iter().map(Said::open)).flatten().min();
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
    said: Vec<Said<'a>>,
}

impl<'a, const WIDTH: usize> Bits<'a, WIDTH> {
    /// Bytes begin at multiples of so many bits.
    const STEP: usize = if WIDTH == 6 { 2 } else { WIDTH };

    fn new(said: impl Fn() -> Said<'a>) -> Self {
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
            found.extend(self.said[phase].byte(byte, start..at.end));
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
            self.said.iter_mut().for_each(Said::clear);
        }
    }

    /// Where the first symbol is that a byte to come may begin with.
    fn open(&self) -> Option<usize> {
        (self.symbols > 0).then(|| self.back(8 / WIDTH + 1))
    }
}

/// A text that comes byte by byte, looked for in the prompt.
#[derive(Clone)]
struct Said<'a> {
    known: &'a Known,
    /// The word that is under way: its hash, its letters, where it is, and whether it is only digits.
    hash: u64,
    letters: usize,
    at: Range<usize>,
    number: bool,
    /// How much stands behind the last word.
    blank: usize,
    run: Run,
    /// A character under way, how many bytes of it are to come, and where it begins.
    part: (u32, u8, usize),
}

impl<'a> Said<'a> {
    fn new(known: &'a Known) -> Self {
        let (run, part) = (Run::default(), (0, 0, 0));
        Self { known, hash: 0, letters: 0, at: 0..0, number: true, blank: 0, run, part }
    }

    fn clear(&mut self) {
        (self.hash, self.letters, self.blank, self.part.1) = (0, 0, 0, 0);
        self.run.clear();
    }

    /// Takes the next byte. Tells where the prompt is that it ends.
    fn byte(&mut self, byte: u8, at: Range<usize>) -> Option<Range<usize>> {
        let value = u32::from(byte);
        self.part = match (byte, self.part) {
            (0x80..=0xbf, (code, left @ 1.., start)) => (code << 6 | value & 0x3f, left - 1, start),
            (_, (_, 1.., _)) | (0x80..=0xc1 | 0xf5.., _) => {
                self.clear();
                return None;
            }
            (..0x80, _) => (value, 0, at.start),
            (..0xe0, _) => (value & 0x1f, 1, at.start),
            (..0xf0, _) => (value & 0x0f, 2, at.start),
            _ => (value & 0x07, 3, at.start),
        };
        let (code, 0, start) = self.part else { return None };
        match char::from_u32(code) {
            // A text of two bytes a letter is full of it.
            Some('\0') => None,
            Some(letter) if letter.is_control() && !letter.is_ascii_whitespace() => {
                self.clear();
                None
            }
            Some(letter) => self.letter(letter, start..at.end),
            None => {
                self.clear();
                None
            }
        }
    }

    fn letter(&mut self, letter: char, at: Range<usize>) -> Option<Range<usize>> {
        match read::of(letter, 1) {
            Sign::Letter(letter, _) => {
                if self.letters == 0 {
                    (self.at, self.number, self.blank) = (at, true, 0);
                } else {
                    self.at.end = at.end;
                }
                self.hash = read::with(self.hash, letter);
                self.number &= letter.is_ascii_digit();
                self.letters += 1;
                if self.letters > self.known.longest {
                    self.clear();
                }
                None
            }
            Sign::Unseen(_) => None,
            Sign::Blank(_) | Sign::Open => {
                let found = self.word();
                self.blank += 1;
                if self.blank > BETWEEN {
                    self.clear();
                }
                found
            }
        }
    }

    /// Ends the word that is under way.
    fn word(&mut self) -> Option<Range<usize>> {
        let (hash, letters) = (std::mem::take(&mut self.hash), std::mem::take(&mut self.letters));
        if letters == 0 || self.number {
            return None;
        }
        let begins = self.run.word(hash, self.at.start, self.known, FEWEST)?;
        Some(begins..self.at.end)
    }

    /// Where that begins which bytes to come may make a finding of.
    fn open(&self) -> Option<usize> {
        let part = (self.part.1 > 0).then_some(self.part.2);
        self.run.open().or((self.letters > 0).then_some(self.at.start)).or(part)
    }
}
