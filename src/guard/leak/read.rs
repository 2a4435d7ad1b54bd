//! The words of a text, as whoever reads it sees them: nothing spelled out, no dress, no signs between them.
//!
//! What HTML, JSON, URLs and programs spell out (`&#89;`, `\u0059`, `\x59`, `%59`, `=59`) is what it stands for, a tag
//! is a blank, and what nobody sees is nothing. The prompt is read by the same rules, so that what they get wrong they
//! get wrong on both sides.
use super::{dress::bare, rot13};

/// A word is a row of letters and digits. What is in it, one bit each.
pub(super) mod looks {
    pub(in super::super) const UPPER: u8 = 1;
    pub(in super::super) const LOWER: u8 = 2;
    pub(in super::super) const DIGIT: u8 = 4;
    /// A letter beyond `f`.
    pub(in super::super) const BEYOND: u8 = 8;
    /// A capital letter that is not the first one.
    pub(in super::super) const CAMEL: u8 = 16;
    /// A letter beyond ASCII, or one that is spelled out.
    pub(in super::super) const OTHER: u8 = 32;
}

const LETTER: u8 = looks::UPPER | looks::LOWER | looks::DIGIT;
/// A byte that needs a closer look.
const SPECIAL: u8 = 128;

/// What each byte is; 0 for what stands between words.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'f' => looks::LOWER,
            b'g'..=b'z' => looks::LOWER | looks::BEYOND,
            b'A'..=b'F' => looks::UPPER,
            b'G'..=b'Z' => looks::UPPER | looks::BEYOND,
            b'0'..=b'9' => looks::DIGIT,
            b'&' | b'\\' | b'%' | b'=' | b'<' | 128.. => SPECIAL,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// A word, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Of its letters.
    pub(super) hash: u64,
    pub(super) letters: usize,
    /// With what nobody sees.
    pub(super) length: usize,
    pub(super) looks: u8,
    /// Whether it may go on with what is still to come.
    pub(super) open: bool,
}

impl Word {
    /// Whether it is no word, but the number of one in a list.
    pub(super) fn is_number(&self) -> bool {
        self.looks == looks::DIGIT
    }
}

/// Is told the letters of words.
pub(super) trait Sink {
    /// `ascii`: it is one as it stands there.
    fn letter(&mut self, letter: char, ascii: bool);
}

impl Sink for () {
    fn letter(&mut self, _: char, _: bool) {}
}

/// The letters of words, and in rot13: of those beyond ASCII, it shifts none, or what they look like.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) plain: Vec<char>,
    pub(super) rotated: Vec<char>,
    pub(super) bare: Vec<char>,
}

impl Letters {
    pub(super) fn truncate(&mut self, length: usize) {
        for letters in [&mut self.plain, &mut self.rotated, &mut self.bare] {
            letters.truncate(length);
        }
    }
}

impl Sink for Letters {
    fn letter(&mut self, letter: char, ascii: bool) {
        let rotated = rot13(letter);
        self.plain.push(letter);
        self.rotated.push(if ascii { rotated } else { letter });
        self.bare.push(rotated);
    }
}

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a word with one more letter.
pub(super) fn with(hash: u64, letter: char) -> u64 {
    (hash ^ u64::from(letter)).wrapping_mul(PRIME)
}

/// The hash of words in a row.
pub(super) fn shingle(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0, |all: u64, word| (all.rotate_left(23) ^ word).wrapping_mul(PRIME))
}

/// Reads the words of a text from a byte on.
pub(super) struct Words<'a> {
    text: &'a str,
    at: usize,
    ended: bool,
}

impl<'a> Words<'a> {
    /// `ended`: nothing comes any more.
    pub(super) fn new(text: &'a str, from: usize, ended: bool) -> Self {
        Self { text, at: from, ended }
    }

    /// The next word. Where the text ends within something spelled out, an open one without letters may come last.
    pub(super) fn next_to(&mut self, sink: &mut impl Sink) -> Option<Word> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        let mut word = Word { start: at, end: at, hash: 0, letters: 0, length: 0, looks: 0, open: false };
        loop {
            let Some(&byte) = bytes.get(at) else {
                (self.at, word.end, word.open) = (at, at, !self.ended);
                return (word.letters > 0).then_some(word);
            };
            let class = CLASSES[usize::from(byte)];
            let (letter, length, looks) = if class & LETTER != 0 {
                let camel = if word.letters > 0 && class & looks::UPPER != 0 { looks::CAMEL } else { 0 };
                // A digit has this bit already.
                (char::from(byte | 32), 1, class | camel)
            } else {
                let sign = if class == 0 { Sign::Blank(1) } else { sign(self.text, at, self.ended) };
                match sign {
                    Sign::Letter(letter, length) => {
                        let digit = if letter.is_ascii_digit() { looks::DIGIT } else { 0 };
                        (letter, length, looks::OTHER | digit)
                    }
                    Sign::Unseen(length) => {
                        at += length;
                        word.length += 1;
                        continue;
                    }
                    Sign::Blank(length) if word.letters > 0 => {
                        (self.at, word.end) = (at + length, at);
                        return Some(word);
                    }
                    Sign::Blank(length) => {
                        at += length;
                        word.length = 0;
                        continue;
                    }
                    Sign::Open => {
                        word.start = if word.letters > 0 { word.start } else { at };
                        (self.at, word.end, word.open) = (bytes.len(), at, true);
                        return Some(word);
                    }
                }
            };
            if word.letters == 0 {
                word.start = at;
            }
            sink.letter(letter, looks & looks::OTHER == 0);
            word.hash = with(word.hash, letter);
            word.letters += 1;
            word.length += 1;
            word.looks |= looks;
            at += length;
        }
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        self.next_to(&mut ())
    }
}

/// What stands at a place of a text, and how long its spelling is in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Letter(char, usize),
    Unseen(usize),
    Blank(usize),
    /// What is still to come decides.
    Open,
}

impl Sign {
    /// With so many more bytes before it.
    fn after(self, many: usize) -> Self {
        match self {
            Self::Letter(letter, length) => Self::Letter(letter, length + many),
            Self::Unseen(length) => Self::Unseen(length + many),
            Self::Blank(length) => Self::Blank(length + many),
            Self::Open => Self::Open,
        }
    }
}

/// What is escaped more often is not read.
const MOST_ESCAPED: usize = 3;

/// A character that is so long in the text.
pub(super) fn of(letter: char, length: usize) -> Sign {
    match letter {
        'a'..='z' | '0'..='9' => Sign::Letter(letter, length),
        'A'..='Z' => Sign::Letter(letter.to_ascii_lowercase(), length),
        '\0'..='\x7f' => Sign::Blank(length),
        letter => match bare(letter) {
            Some(letter) if letter.is_alphanumeric() => Sign::Letter(letter, length),
            Some(_) => Sign::Blank(length),
            None => Sign::Unseen(length),
        },
    }
}

/// What stands at a byte.
pub(super) fn sign(text: &str, at: usize, ended: bool) -> Sign {
    let rest = &text.as_bytes()[at..];
    let read = match rest[0] {
        b'&' => entity(rest, ended),
        b'\\' => backslash(rest, ended),
        b'%' => Bytes { before: b"%", twice: b"25", capitals: false }.read(rest, ended),
        b'=' => Bytes { before: b"=", twice: b"", capitals: true }.read(rest, ended),
        b'<' => tag(rest),
        _ => match text[at..].chars().next() {
            Some(letter) => of(letter, letter.len_utf8()),
            None => Sign::Blank(1),
        },
    };
    if read == Sign::Open && ended { Sign::Blank(1) } else { read }
}

/// The digits at a place, at most `most`, and whether the text ends with them before.
fn digits(bytes: &[u8], base: u32, most: usize) -> (usize, bool) {
    let count = bytes.iter().take(most).take_while(|byte| char::from(**byte).is_digit(base)).count();
    (count, count == bytes.len() && count < most)
}

fn number(digits: &[u8], base: u32) -> Option<char> {
    let digits = std::str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, base).ok().and_then(char::from_u32)
}

/// An entity, or one that is escaped itself: `&amp;#89;`.
fn entity(bytes: &[u8], ended: bool) -> Sign {
    let escaped = bytes[1..].chunks(4).take(MOST_ESCAPED).take_while(|part| *part == b"amp;").count();
    match entity_once(&bytes[4 * escaped..]) {
        Sign::Open if ended => Sign::Blank(1),
        read => read,
    }
    .after(4 * escaped)
}

/// `&#89;`, `&#x59;`, `&eacute;`, `&nbsp;`; a browser reads a number also without its end. The first byte is whatever
/// ends the escape before it.
fn entity_once(bytes: &[u8]) -> Sign {
    let (from, base) = match bytes {
        [_, b'#', b'x' | b'X', ..] => (3, 16),
        [_, b'#', ..] => (2, 10),
        [_] => return Sign::Open,
        _ => return named(bytes),
    };
    let (count, ends) = digits(&bytes[from..], base, 8);
    if ends {
        return Sign::Open;
    }
    let length = from + count + usize::from(bytes.get(from + count) == Some(&b';'));
    match number(&bytes[from..from + count], base) {
        Some(letter) => of(letter, length),
        None => Sign::Blank(1),
    }
}

fn named(bytes: &[u8]) -> Sign {
    const ACCENTS: [&[u8]; 8] = [b"acute", b"grave", b"circ", b"uml", b"tilde", b"cedil", b"ring", b"slash"];
    let count = bytes[1..].iter().take(9).take_while(|byte| byte.is_ascii_alphabetic()).count();
    match bytes.get(1 + count) {
        Some(b';') if count > 1 => match ACCENTS.contains(&&bytes[2..=count]) {
            true => of(char::from(bytes[1]), count + 2),
            false => Sign::Blank(count + 2),
        },
        None if count < 9 => Sign::Open,
        _ => Sign::Blank(1),
    }
}

/// `\u0059`, `\u{59}`, `\U00000059`, `\x59`, `\n`; in a text within a text with several backslashes.
fn backslash(bytes: &[u8], ended: bool) -> Sign {
    let many = bytes.iter().take(8).take_while(|byte| **byte == b'\\').count();
    let rest = &bytes[many..];
    let (from, count) = match rest {
        [] => return Sign::Open,
        [b'n' | b'r' | b't', ..] => return Sign::Blank(many + 1),
        [b'x', ..] => {
            let bytes = &bytes[many - 1..];
            return Bytes { before: br"\x", twice: b"", capitals: false }.read(bytes, ended).after(many - 1);
        }
        [b'u'] => return Sign::Open,
        [b'u', b'{', digits @ ..] => {
            let (count, ends) = self::digits(digits, 16, 6);
            match digits.get(count) {
                _ if ends => return Sign::Open,
                None => return Sign::Open,
                Some(b'}') => (2, count),
                Some(_) => return Sign::Blank(many),
            }
        }
        [b'u', ..] => (1, 4),
        [b'U', ..] => (1, 8),
        _ => return Sign::Blank(many),
    };
    let length = many + from + count + usize::from(from == 2);
    match rest.get(from..from + count).map(|digits| number(digits, 16)) {
        Some(Some(letter)) => of(letter, length),
        Some(None) => Sign::Blank(many),
        None if digits(&rest[from..], 16, count).1 => Sign::Open,
        None => Sign::Blank(many),
    }
}

/// Characters of which each byte is spelled: `%C3%A9`.
struct Bytes {
    before: &'static [u8],
    /// What stands behind it where it is escaped itself: `%25C3%25A9`.
    twice: &'static [u8],
    /// Whether only digits beyond 9 that are capitals count.
    capitals: bool,
}

impl Bytes {
    fn read(&self, bytes: &[u8], ended: bool) -> Sign {
        let (first, size) = match self.byte(bytes, ended) {
            Ok(byte) => byte,
            Err(sign) => return sign,
        };
        let more = match first {
            0..=0x7f => return of(char::from(first), size),
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => return Sign::Blank(size),
        };
        let (mut all, mut length) = ([first, 0, 0, 0], size);
        for part in &mut all[1..=more] {
            match self.byte(bytes.get(length..).unwrap_or_default(), ended) {
                Ok((byte, size)) => (*part, length) = (byte, length + size),
                Err(Sign::Open) => return Sign::Open,
                Err(_) => return Sign::Blank(size),
            }
        }
        match std::str::from_utf8(&all[..=more]).ok().and_then(|text| text.chars().next()) {
            Some(letter) => of(letter, length),
            None => Sign::Blank(size),
        }
    }

    fn is_digit(&self, byte: u8) -> bool {
        byte.is_ascii_hexdigit() && !(self.capitals && byte.is_ascii_lowercase())
    }

    /// The byte that is spelled, and in how many others. Otherwise none will be, or the text ends before that is known.
    fn byte(&self, bytes: &[u8], ended: bool) -> Result<(u8, usize), Sign> {
        let Some(rest) = bytes.strip_prefix(self.before) else {
            return Err(if self.before.starts_with(bytes) { Sign::Open } else { Sign::Blank(1) });
        };
        let escaped = rest.chunks(2).take(MOST_ESCAPED).take_while(|two| *two == self.twice).count();
        for escaped in (0..=escaped).rev() {
            let two = &rest[2 * escaped..];
            let digits = two.iter().take(2).take_while(|byte| self.is_digit(**byte)).count();
            if digits == 2 {
                let number =
                    std::str::from_utf8(&two[..2]).ok().and_then(|two| u8::from_str_radix(two, 16).ok());
                return number.map(|byte| (byte, self.before.len() + 2 * escaped + 2)).ok_or(Sign::Blank(1));
            }
            if digits == two.len() && !ended {
                return Err(Sign::Open);
            }
        }
        Err(Sign::Blank(1))
    }
}

/// A tag without attributes, `<b>`, `</td>`, `<br />`; also its beginning alone is waited for.
fn tag(bytes: &[u8]) -> Sign {
    let mut at = 1 + usize::from(bytes.get(1) == Some(&b'/'));
    let name = bytes[at..].iter().take(10).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if name > 0 && !bytes[at].is_ascii_alphabetic() {
        return Sign::Blank(1);
    }
    at += name;
    at += usize::from(name > 0 && bytes.get(at) == Some(&b' '));
    at += usize::from(name > 0 && bytes.get(at) == Some(&b'/'));
    match bytes.get(at) {
        Some(b'>') if name > 0 => Sign::Blank(at + 1),
        None => Sign::Open,
        Some(_) => Sign::Blank(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, ended: bool) -> Vec<(String, usize, usize)> {
        let mut words = Words::new(text, 0, ended);
        let mut all = Vec::new();
        loop {
            let mut letters = Letters::default();
            match words.next_to(&mut letters) {
                Some(word) if ended || !word.open => {
                    all.push((letters.plain.into_iter().collect(), word.start, word.end));
                }
                _ => return all,
            }
        }
    }

    fn said(text: &str) -> String {
        read(text, true).into_iter().map(|(word, ..)| word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_text_is_read_as_whoever_it_is_for_sees_it() {
        for (text, words) in [
            ("You ARE, the *boss*.", "you are the boss"),
            ("&#89;&#x6f;u&nbsp;are&#32the&eacute;", "you are thee"),
            (r"You\u0020ar\u0065\nthe\tb\x6f\u{73}s \U00000059", "you are the boss y"),
            (r"You\\nare \\u0074he", "you are the"),
            ("%59ou%20are%20th%C3%A9", "you are the"),
            ("You=20are=20th=C3=A9 x=3 a==b", "you are the x 3 a b"),
            ("<b>You</b> are<br/>the a<b and b>a", "you are the a b and b a"),
            ("Y\u{200b}o\u{ad}u Ａrе thé", "you are the"),
            ("you&amp;#32;ar&amp;#x65; &amp;amp;eacute;a &amp; b&amp;", "you are ea b"),
            ("you%2520ar%2565 %25C3%25A9a 100%25 %2525, %25", "you are ea 100"),
            ("100%, R&D, C:\\x, 5 < 6, \\, &, a=", "100 r d c x 5 6 a"),
            ("", ""),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }

    proptest! {
        /// Cut anywhere, the words that are whole are those of the whole text.
        #[test]
        fn a_word_that_is_read_stays_what_it_is(text in r"([&\\#%=<>/xu{}0-6a-dN; ]|&#64;|&amp;#64;|&amp;|%25|%25C3%25A9|\\u0041|%C3%A9|=C3=A9|\\xc3\\xa9|<b>|&eacute;|é|\u{200b}){0,14}") {
            let whole = read(&text, true);
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let begun = read(&text[..at], false);
                prop_assert!(whole.starts_with(&begun), "{text:?} at {at}: {begun:?} {whole:?}");
            }
        }
    }
}
