//! Tables: a header announces the cells below it, however far down they stand.
use super::{
    looks::is_about,
    words::{Class, Hit},
};

/// A cell of a row, without the signs around its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub start: usize,
    pub end: usize,
    /// Where its row begins.
    pub row: usize,
    /// What its column's header announces.
    pub class: Class,
}

/// What a header may announce.
const COLUMNS: Class = Class::PHONE
    .or(Class::BIRTH)
    .or(Class::PASSWORD)
    .or(Class::SSN)
    .or(Class::NHS)
    .or(Class::NINO)
    .or(Class::PASSPORT)
    .or(Class::FIELD)
    .or(Class::KEY)
    .or(Class::VERSION)
    .or(Class::IP);

/// The longest row that is read, in bytes, and the most columns.
const LONGEST_ROW: usize = 2048;
const MOST_COLUMNS: usize = 64;
/// Lines that are no rows, one behind the other, which a table goes on behind: a comment, a blank, a sum.
const MOST_ODD: usize = 2;
/// The longest name of a column, in bytes.
const LONGEST_NAME: usize = 40;

/// The cells below headers that announce something. Each line is read a few times at most: what is a row is no header.
pub(super) fn cells(text: &str, hits: &[Hit]) -> Vec<Cell> {
    let (mut cells, mut done) = (Vec::new(), 0);
    for hit in hits.iter().filter(|hit| hit.class.meets(COLUMNS)) {
        if hit.start < done || beside(text.as_bytes(), hit).is_none() {
            continue;
        }
        done = done.max(table(text, hit, hits, &mut cells));
    }
    cells
}

/// The sign that parts the cell of a word from the next one or the one before: within the length of a name.
fn beside(bytes: &[u8], hit: &Hit) -> Option<u8> {
    let sign = |b: &u8| matches!(b, b'\t' | b'|' | b';' | b',');
    let stop = |b: &&u8| sign(b) || **b == b'\n';
    let after = bytes[hit.end..].iter().take(LONGEST_NAME).find(stop);
    let before = || bytes[..hit.start].iter().rev().take(LONGEST_NAME).find(stop);
    after.filter(|b| sign(b)).or_else(|| before().filter(|b| sign(b))).copied()
}

/// Reads the table whose header `hit` stands in, if it does; where it ends.
fn table(text: &str, hit: &Hit, hits: &[Hit], cells: &mut Vec<Cell>) -> usize {
    let bytes = text.as_bytes();
    let before = bytes[..hit.start].iter().rev().take(LONGEST_ROW).take_while(|b| **b != b'\n').count();
    let start = hit.start - before;
    let (Some(by), Some(end)) = (beside(bytes, hit), line_end(bytes, start)) else {
        // No word of so long a line is looked at again.
        return memchr::memchr(b'\n', &bytes[hit.end..]).map_or(bytes.len(), |at| hit.end + at);
    };
    let columns: Vec<(usize, usize)> = Row { bytes, at: start, end, by }.collect();
    // In a sentence a space follows a comma.
    let prose = by == b',' && text[start..end].contains(", ");
    let word = |(start, end): (usize, usize)| !text[start..end].contains(' ');
    let name = |cell: &(usize, usize)| is_name(text, *cell) && (!prose || word(*cell));
    if !(2..=MOST_COLUMNS).contains(&columns.len()) || !columns.iter().all(name) {
        return end;
    }
    let from = hits.partition_point(|hit| hit.start < start);
    let line = &hits[from..from + hits[from..].partition_point(|hit| hit.end <= end)];
    let mut classes: Vec<Class> = columns.iter().map(|cell| announced(text, *cell, line)).collect();
    // How many of each kind of device.
    let is = |cell: &(usize, usize), word: &str| text[cell.0..cell.1].eq_ignore_ascii_case(word);
    if columns.iter().any(|cell| is(cell, "desktop") || is(cell, "tablet")) {
        classes.iter_mut().filter(|class| class.meets(Class::PHONE)).for_each(|class| *class = Class::NONE);
    }
    if classes.iter().all(|class| *class == Class::NONE) {
        return end;
    }
    let (mut at, mut known, mut odd) = (end + 1, end + 1, 0);
    let last = |at: usize| (bytes.len() <= at + LONGEST_ROW).then_some(bytes.len());
    while let Some(end) = line_end(bytes, at).or_else(|| last(at)).filter(|_| at < bytes.len()) {
        let row = || Row { bytes, at, end, by };
        let line = &text[at..end];
        let count = row().count();
        // One with more cells has its own in their places, unless it is the header of the next table, or a sentence.
        let from = hits.partition_point(|hit| hit.start < at);
        let header =
            || hits[from..].iter().take_while(|hit| hit.end <= end).any(|hit| hit.class.meets(COLUMNS));
        let longer = || count > columns.len() && count <= MOST_COLUMNS && !header() && !line.contains(", ");
        // Behind a line that is none a sentence may have as many commas as a row.
        let equal = || count == columns.len() && (odd == 0 || by != b',' || prose || !line.contains(", "));
        if equal() || longer() {
            let values =
                row().zip(&classes).map(|((start, end), class)| Cell { start, end, row: at, class: *class });
            cells.extend(values);
            (known, odd) = (end + 1, 0);
        } else if !is_ruler(line) {
            odd += 1;
            if odd > MOST_ODD || header() {
                break;
            }
        }
        at = end + 1;
    }
    known.min(bytes.len())
}

/// Whether a line only parts those above it from those below.
fn is_ruler(line: &str) -> bool {
    let sign = |c: char| matches!(c, '-' | '+' | '=' | '|' | ':' | ' ' | '\r' | '\u{2500}'..='\u{257f}');
    line.contains(['-', '=', '\u{2500}', '\u{2550}']) && line.chars().all(sign)
}

/// Where the line that begins at `at` ends, if it is no longer than a row.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    memchr::memchr(b'\n', &rest[..rest.len().min(LONGEST_ROW)]).map(|end| at + end)
}

/// The cells of a line, each without spaces and quotes around it.
struct Row<'t> {
    bytes: &'t [u8],
    at: usize,
    end: usize,
    by: u8,
}

impl Iterator for Row<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let line = self.bytes.get(self.at..self.end)?;
        // A sign within quotes is the value's.
        let mut quoted = false;
        let first = line.iter().position(|b| !matches!(b, b' ')).unwrap_or_default();
        let wraps = matches!(self.by, b',' | b';') && line.get(first) == Some(&b'"');
        let length = line.iter().position(|b| {
            quoted ^= wraps && *b == b'"';
            *b == self.by && !quoted
        });
        let (mut start, mut end) = (self.at, self.at + length.unwrap_or(line.len()));
        // Behind the last sign there is one more cell, which may be empty.
        self.at = if length.is_some() { end + 1 } else { self.end + 1 };
        let blank = |b: u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b'*');
        while start < end && blank(self.bytes[start]) {
            start += 1;
        }
        while start < end && blank(self.bytes[end - 1]) {
            end -= 1;
        }
        Some((start, end))
    }
}

/// Whether a cell of the first line may be a column's name.
fn is_name(text: &str, (start, end): (usize, usize)) -> bool {
    let name = &text[start..end];
    let sign = |c: char| c.is_alphabetic() || "_-. ()/#'’º°".contains(c) || c.is_ascii_digit();
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    name.len() <= LONGEST_NAME && digits <= 2 && name.chars().all(sign) && name.split(' ').count() <= 4
}

/// What the name of a column announces: its last word does.
fn announced(text: &str, (start, end): (usize, usize), line: &[Hit]) -> Class {
    let mut within = line.iter().filter(|hit| start <= hit.start && hit.end <= end);
    let Some(hit) = within.next_back().filter(|hit| hit.class.meets(COLUMNS)) else { return Class::NONE };
    let rest = text[hit.end..end].trim_start_matches([' ', '_', '-', '.']);
    let small = ["no", "nr", "num", "number", "date", "day", "id", "home", "work", "mobile", "primary"];
    let mut words = rest.split(|c: char| !c.is_alphabetic());
    // `clave` is any key.
    let named = !hit.class.meets(Class::FIELD) || text[hit.start..].starts_with(['p', 'P']);
    let plain = rest.starts_with(['(', '#', '/'])
        || words.all(|word| word.is_empty() || small.iter().any(|small| small.eq_ignore_ascii_case(word)));
    if plain && named && !(hit.class.meets(Class::PASSWORD.or(Class::FIELD)) && is_about(rest)) {
        hit.class
    } else {
        Class::NONE
    }
}
