//! Texts that a row may spell, looked for in the prompt.
use std::ops::Range;

use super::{
    BETWEEN, FEWEST,
    read::{self, Sign},
    run::{Enough, Known, Run},
};

/// Numbers that count up are single letters between blanks in one reading or another: so few letters are no words.
const ENOUGH: Enough = Enough { words: FEWEST, letters: 12 };

/// A text that comes byte by byte, looked for in the prompt.
#[derive(Clone)]
pub(super) struct Said<'a> {
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
    pub(super) fn new(known: &'a Known) -> Self {
        let (run, part) = (Run::default(), (0, 0, 0));
        Self { known, hash: 0, letters: 0, at: 0..0, number: true, blank: 0, run, part }
    }

    pub(super) fn clear(&mut self) {
        (self.hash, self.letters, self.blank, self.part.1) = (0, 0, 0, 0);
        self.run.clear();
    }

    /// Takes the next byte. Tells where the prompt is that it ends.
    pub(super) fn byte(&mut self, byte: u8, at: Range<usize>) -> Option<Range<usize>> {
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
        self.point(code, start..at.end)
    }

    /// Takes the next character, by its number.
    pub(super) fn point(&mut self, code: u32, at: Range<usize>) -> Option<Range<usize>> {
        match char::from_u32(code) {
            // A text of two bytes a letter is full of it.
            Some('\0') => None,
            Some(letter) if letter.is_control() && !letter.is_ascii_whitespace() => {
                self.clear();
                None
            }
            Some(letter) => self.letter(letter, at),
            None => {
                self.clear();
                None
            }
        }
    }

    /// Takes the next two bytes of a text of two bytes a letter. What needs four of them is no letter.
    fn unit(&mut self, unit: u16, at: Range<usize>) -> Option<Range<usize>> {
        let code = if (0xd800..0xe000).contains(&unit) { u32::from(b' ') } else { u32::from(unit) };
        self.point(code, at)
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
    pub(super) fn word(&mut self) -> Option<Range<usize>> {
        let (hash, letters) = (std::mem::take(&mut self.hash), std::mem::take(&mut self.letters));
        if letters == 0 || self.number {
            return None;
        }
        let begins = self.run.word((hash, letters), self.at.start, self.known, ENOUGH)?;
        Some(begins..self.at.end)
    }

    /// Where that begins which bytes to come may make a finding of.
    pub(super) fn open(&self) -> Option<usize> {
        let part = (self.part.1 > 0).then_some(self.part.2);
        self.run.open().or((self.letters > 0).then_some(self.at.start)).or(part)
    }
}

/// A text of bytes, one for a letter or more of them, or two for each.
#[derive(Clone)]
pub(super) struct Texts<'a> {
    bytes: Said<'a>,
    /// By which of two bytes a letter begins with, and which is the upper one. Where a prompt is all ASCII, one of
    /// the two is nothing, and they are read as single bytes.
    wide: Option<[[Said<'a>; 2]; 2]>,
    /// The last byte, and where it begins.
    last: Option<(u8, usize)>,
    odd: bool,
}

impl<'a> Texts<'a> {
    pub(super) fn new(known: &'a Known) -> Self {
        let said = || Said::new(known);
        let wide = known.beyond.then(|| [[said(), said()], [said(), said()]]);
        Self { bytes: said(), wide, last: None, odd: false }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Said<'a>> {
        std::iter::once(&mut self.bytes).chain(self.wide.iter_mut().flatten().flatten())
    }

    pub(super) fn clear(&mut self) {
        self.all().for_each(Said::clear);
        self.last = None;
    }

    /// Takes the next byte. Tells where the prompt is that it ends.
    pub(super) fn byte(&mut self, byte: u8, at: Range<usize>, found: &mut Vec<Range<usize>>) {
        found.extend(self.bytes.byte(byte, at.clone()));
        let Some(wide) = &mut self.wide else { return };
        self.odd = !self.odd;
        if let Some((before, start)) = self.last.replace((byte, at.start)) {
            let [big, little] = &mut wide[usize::from(self.odd)];
            found.extend(big.unit(u16::from_be_bytes([before, byte]), start..at.end));
            found.extend(little.unit(u16::from_le_bytes([before, byte]), start..at.end));
        }
    }

    /// Ends the words that are under way.
    pub(super) fn end(&mut self, found: &mut Vec<Range<usize>>) {
        found.extend(self.all().filter_map(Said::word));
    }

    /// Where that begins which bytes to come may make a finding of.
    pub(super) fn open(&self) -> Option<usize> {
        let wide = self.wide.iter().flatten().flatten().map(Said::open);
        let last = self.wide.as_ref().and(self.last).map(|(_, start)| start);
        wide.chain([self.bytes.open(), last]).flatten().min()
    }
}
