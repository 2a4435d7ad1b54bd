//! A text that is searched: its words of announcement, its borders, its groups of digits.
use super::{
    kind::Kind,
    table::{self, Cell},
    words::{self, Class, Hit},
};

/// What is found by a recogniser, in bytes of the plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// How far before a value the word may stand that announces it, in bytes.
pub(super) const REACH: usize = 56;
/// How far behind it, where text that follows is known.
const AFTER: usize = 28;

/// No word is followed further than this in either direction, in bytes: the search takes linear time.
const LONGEST_WORD: usize = 256;

/// A text in its plain spelling, about to be searched.
pub(super) struct Text<'t> {
    pub str: &'t str,
    pub bytes: &'t [u8],
    pub hits: Vec<Hit>,
    /// The cells of tables whose headers announce something, in order.
    pub cells: Vec<Cell>,
    /// Of which classes they are.
    classes: Class,
    /// Whether it has digits or an at sign.
    pub numbers: bool,
    /// Whether a word behind a value may announce it. In a stream it may not: the value would have to wait for it.
    pub ahead: bool,
}

impl<'t> Text<'t> {
    /// `numbers`: whether it has digits or an at sign.
    pub(super) fn new(text: &'t str, numbers: bool, people: bool, ahead: bool) -> Self {
        let hits = words::hits(text, numbers, people);
        let classes = hits.iter().fold(Class::NONE, |all, hit| all.or(hit.class));
        // In a stream the header has left, and nobody knows how many rows follow.
        let cells = if ahead { table::cells(text, &hits) } else { Vec::new() };
        Self { str: text, bytes: text.as_bytes(), hits, cells, classes, numbers, ahead }
    }

    /// A text that is known to have none of the words.
    pub(super) fn quiet(text: &'t str) -> Self {
        let (hits, cells, classes) = (Vec::new(), Vec::new(), Class::NONE);
        Self { str: text, bytes: text.as_bytes(), hits, cells, classes, numbers: false, ahead: false }
    }

    /// Whether a word of a class stands anywhere. Asked for each number: it takes no look at the words.
    pub(super) fn has(&self, class: Class) -> bool {
        self.classes.meets(class)
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    pub(super) fn before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(0, |at| self.byte(at))
    }

    /// How far before `at` the nearest word of a class ends.
    pub(super) fn distance(&self, class: Class, at: usize) -> Option<usize> {
        // What a column is of, its header says, and no word of another one.
        let cell = self.cell(at);
        if cell.is_some_and(|cell| cell.class.meets(class)) {
            return Some(0);
        }
        let least = cell.map_or(0, |cell| cell.row);
        self.nearest(class, at).filter(|hit| hit.start >= least).map(|hit| at - hit.end)
    }

    /// The nearest word of a class before `at`, within reach.
    pub(super) fn nearest(&self, class: Class, at: usize) -> Option<&Hit> {
        let upto = self.hits.partition_point(|hit| hit.end <= at);
        let near = self.hits[..upto].iter().rev().take_while(|hit| hit.end + REACH >= at);
        near.into_iter().find(|hit| hit.class.meets(class))
    }

    /// The cell of a table that `at` is in.
    pub(super) fn cell(&self, at: usize) -> Option<&Cell> {
        let upto = self.cells.partition_point(|cell| cell.start <= at);
        self.cells[..upto].last().filter(|cell| at < cell.end)
    }

    /// Whether a word of `class` announces the value at `start..end`, and none of `not` stands nearer to it.
    pub(super) fn announced(&self, class: Class, not: Class, start: usize, end: usize) -> bool {
        let objection = self.distance(not, start);
        if let Some(distance) = self.distance(class, start) {
            return objection.is_none_or(|nearer| nearer > distance);
        }
        if !self.ahead || objection.is_some_and(|distance| distance < 24) {
            return false;
        }
        let from = self.hits.partition_point(|hit| hit.start < end);
        let near = self.hits[from..].iter().take_while(|hit| hit.start <= end + AFTER);
        let line =
            |hit: &&Hit| !self.bytes[end..hit.start].iter().any(|b| matches!(b, b'\n' | b';' | b'.' | b','));
        near.take_while(line).any(|hit| hit.class.meets(class))
    }

    /// Whether a word of a class stands right before `at`.
    pub(super) fn close(&self, class: Class, at: usize, within: usize) -> bool {
        self.distance(class, at).is_some_and(|distance| distance <= within)
    }

    /// Whether a word of a class names the value at `start`: nothing stands between but signs and words such as `number`.
    pub(super) fn names(&self, class: Class, start: usize) -> bool {
        self.distance(class, start).is_some_and(|distance| {
            let between = &self.str[start - distance..start];
            // Another value, or another column.
            let apart = |b: u8| b.is_ascii_digit() || matches!(b, b';' | b'|' | b'\t');
            if between.bytes().any(apart) {
                return false;
            }
            let mut between = between.split(|c: char| !c.is_alphabetic());
            let small = ["no", "nr", "num", "number", "numbers", "id", "ids", "code", "is", "was"];
            between.all(|word| word.is_empty() || small.iter().any(|w| w.eq_ignore_ascii_case(word)))
        })
    }

    /// Whether a value may begin here: not within a word or a longer number.
    pub(super) fn begins(&self, at: usize) -> bool {
        match self.before(at) {
            0 => true,
            b'.' => !self.before(at - 1).is_ascii_digit(),
            // `1,234`, but not `1,+44…` or a cell of a table.
            b',' => {
                !self.before(at - 1).is_ascii_digit()
                    || !self.byte(at).is_ascii_digit()
                    || self.cell(at).is_some_and(|cell| cell.start == at)
            }
            b'-' | b'/' | b':' if at >= 2 && self.glued(at - 1) => false,
            // `SSN #123`, but not `order #123`, and no channel, colour or anchor.
            b'#' => {
                self.announces_at(at)
                    || self.announces_at(at - 1)
                    || (self.before(at - 1) == b' ' && self.announces_at(at - 2))
            }
            b'_' | b'$' | b'%' | b'^' => false,
            before if before < 0x80 => !before.is_ascii_alphanumeric(),
            _ => self.str.get(..at).is_some_and(|rest| rest.chars().next_back().is_none_or(|c| !joins(c))),
        }
    }

    /// Whether the digits at `at` stand right behind a digit and a comma: in a row of values, else they are thousands or
    /// a fraction. Only what has a form that those have not may begin there.
    pub(super) fn in_row(&self, at: usize) -> bool {
        self.before(at) == b',' && self.before(at - 1).is_ascii_digit()
    }

    /// Whether the row begins within sight: with the line, or behind another comma. In a sentence a space stands there.
    pub(super) fn row_begins(&self, at: usize) -> bool {
        let field = |b: &&u8| b.is_ascii_alphanumeric() || b"-:.+_/\"".contains(b);
        let upto = at.saturating_sub(1);
        let length = self.bytes[..upto].iter().rev().take(48).take_while(field).count();
        let fraction = self.bytes[upto - length..upto] == *b"0";
        matches!(self.before(upto - length), 0 | b'\n' | b',') && length < 48 && !fraction
    }

    /// Whether the sign at `at` ties what follows to a word or a number: `AB-12`, but not `Tel:030`.
    fn glued(&self, at: usize) -> bool {
        let (before, sign) = (self.before(at), self.byte(at));
        match sign {
            b':' => before.is_ascii_digit(),
            b'/' => before.is_ascii_alphanumeric() && !self.announces_at(at),
            _ => before.is_ascii_alphanumeric() && !self.announces_at(at),
        }
    }

    /// Whether a word that announces something ends at `at`.
    fn announces_at(&self, at: usize) -> bool {
        let upto = self.hits.partition_point(|hit| hit.end < at);
        self.hits[upto..]
            .iter()
            .take_while(|hit| hit.start < at)
            .any(|hit| hit.end == at && !hit.class.meets(Class::THING))
    }

    /// Whether a value may end here.
    pub(super) fn ends(&self, at: usize) -> bool {
        let next = self.byte(at + 1);
        match self.byte(at) {
            b'_' | b'%' | b'@' => false,
            b'.' | b'/' | b':' => !next.is_ascii_digit(),
            b'-' => !next.is_ascii_alphanumeric(),
            here if here < 0x80 => !here.is_ascii_alphanumeric(),
            // Within a character nothing ends.
            _ => self.str.get(at..).is_some_and(|rest| rest.chars().next().is_none_or(|c| !joins(c))),
        }
    }

    /// Whether a sign of money stands before `at`.
    pub(super) fn priced(&self, at: usize) -> bool {
        let before = self.str[..at].trim_end_matches(' ');
        at - before.len() <= 1 && before.ends_with(['$', '€', '£', '¥', '₹', '₽'])
    }

    /// Whether what stands before the sign before `start` is the first group of an account number: `DE89`.
    pub(super) fn begins_account(&self, start: usize) -> bool {
        let Some(end) = start.checked_sub(1) else { return false };
        let (from, upto) = self.token(end);
        let word = &self.bytes[from..upto];
        upto == end
            && word.len() == 4
            && word[..2].iter().all(u8::is_ascii_alphabetic)
            && word[2..].iter().all(u8::is_ascii_digit)
    }

    /// The word of ASCII letters and digits around `at`.
    pub(super) fn token(&self, at: usize) -> (usize, usize) {
        let word = |b: &u8| b.is_ascii_alphanumeric();
        let start = at - self.bytes[..at].iter().rev().take(LONGEST_WORD).take_while(|b| word(b)).count();
        (start, at + self.bytes[at..].iter().take(LONGEST_WORD).take_while(|b| word(b)).count())
    }
}

/// Whether a text has digits or an at sign, also one that is spelled out. Every byte is looked at: without a
/// way out of the loop it is done many bytes at a time.
pub(super) fn has_numbers(text: &str) -> bool {
    let sign =
        |byte: u8| u8::from(byte.is_ascii_digit()) | u8::from(byte == b'@') | (u8::from(byte == b'&') << 1);
    match text.bytes().fold(0, |found, byte| found | sign(byte)) {
        0 => false,
        2 => text.contains(super::escape::AT_SIGN),
        _ => true,
    }
}

/// Whether a character makes a word with what stands beside it.
fn joins(c: char) -> bool {
    (c.is_alphanumeric() || c == '_') && !is_wide(c)
}

/// Whether a script is written without spaces between words.
pub(super) fn is_wide(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{e7f}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ffff}')
}

/// A run of digits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub start: usize,
    pub end: usize,
    /// The single sign that stands before it; 0 for the first, 1 for several signs.
    pub by: u8,
}

impl Group {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

/// The most groups of one number.
pub(super) const MOST_GROUPS: usize = 20;

/// A group with more digits is the last of its number: none is written as one and more groups. A
/// stream need not wait for what follows it.
pub(super) const LONGEST_GROUP: usize = 11;

/// Groups of digits that stand together.
pub(super) struct Groups {
    groups: [Group; MOST_GROUPS],
    count: usize,
}

impl std::ops::Deref for Groups {
    type Target = [Group];
    fn deref(&self) -> &[Group] {
        &self.groups[..self.count]
    }
}

impl Groups {
    /// The groups from the digit at `start` on, as far as signs that numbers are written with part them.
    pub(super) fn read(text: &Text<'_>, start: usize) -> Self {
        let mut groups = Self { groups: [Group::default(); MOST_GROUPS], count: 0 };
        let (mut at, mut by) = (start, 0);
        while groups.count < MOST_GROUPS {
            let end = at + text.bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            groups.groups[groups.count] = Group { start: at, end, by };
            groups.count += 1;
            let gap = gap(&text.bytes[end..]);
            if gap == 0 || end - at > LONGEST_GROUP || !text.byte(end + gap).is_ascii_digit() {
                break;
            }
            by = if gap == 1 { text.byte(end) } else { 1 };
            at = end + gap;
        }
        groups
    }

    /// The lengths of the first `count` groups are these.
    pub(super) fn shape(&self, lengths: &[usize]) -> bool {
        self.len() >= lengths.len() && self.iter().zip(lengths).all(|(group, length)| group.len() == *length)
    }

    /// The same sign parts the first `count` groups.
    pub(super) fn even(&self, count: usize) -> bool {
        self[1..count].iter().all(|group| group.by == self[1].by)
    }
}

/// The length of the signs that part two groups of one number.
fn gap(bytes: &[u8]) -> usize {
    let sign = |at: usize| bytes.get(at).copied().unwrap_or(0);
    match (sign(0), sign(1), sign(2)) {
        (b' ' | b'-' | b'.', b'(', _) | (b')', b' ' | b'-' | b'/' | b'.', b'0'..=b'9') => 2,
        (b' ', b'-' | b'/' | b'.', b' ') => 3,
        (b')', b' ', b'(') => 3,
        (b'(' | b')', b'0'..=b'9', _) => 1,
        (b' ' | b'-' | b'.' | b'/', b'0'..=b'9', _) => 1,
        (b' ' | b'-', b' ' | b'-', b'0'..=b'9') => 2,
        (b'\t', b'0'..=b'9', _) => 0,
        _ => 0,
    }
}

/// The digits of some groups, in one row; `N` at most.
pub(super) struct Digits<const N: usize> {
    digits: [u8; N],
    count: usize,
}

impl<const N: usize> Digits<N> {
    /// `None` where there are more.
    pub(super) fn of(text: &Text<'_>, groups: &[Group]) -> Option<Self> {
        let mut all = Self { digits: [0; N], count: 0 };
        for group in groups {
            for byte in &text.bytes[group.start..group.end] {
                *all.digits.get_mut(all.count)? = byte - b'0';
                all.count += 1;
            }
        }
        Some(all)
    }
}

impl<const N: usize> std::ops::Deref for Digits<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.digits[..self.count]
    }
}

/// The nearest border of a character at or behind a place.
pub(super) fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// The nearest border of a character at or before a place.
pub(super) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
