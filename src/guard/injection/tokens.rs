//! Words of a folded text, and what is known of each: its hash, its classes, whether it is quoted.
use std::ops::Range;

use super::lexicon::{Classes, Lexicon};

/// A word, or one sign that is worth a word: a question mark, a bracket, a character of a script without spaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// Where it begins in the folded text, in bytes.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// Where it stands, in half words: a word is two, a character of a script without spaces one.
    pub(super) at: u32,
    /// What it is a sign of, with the one to three words before it where they are an expression.
    pub(super) classes: Classes,
    /// Whether it stands between quotation marks.
    pub(super) quoted: bool,
    /// Whether it is a word or a sign.
    pub(super) kind: Made,
    /// Whether a sentence or a line ends before it.
    pub(super) breaks: bool,
    /// The hash of the word.
    pub(super) hash: u64,
}

/// Of what a token is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A sign.
    Sign,
    /// A word.
    Word,
    /// A word of the letters from a to z alone.
    Latin,
}

impl Token {
    /// Whether it is a word, not a sign.
    pub(super) fn is_word(&self) -> bool {
        self.kind != Made::Sign
    }

    /// Whether it has only the letters from a to z.
    pub(super) fn is_latin(&self) -> bool {
        self.kind == Made::Latin
    }
}

/// Signs that are tokens of their own. Others only separate words.
const SIGNS: &[u8] = b"?!:\"<>[]{}#|=*/";

/// More words than this are not looked at: at most a megabyte of text.
const MOST: usize = 200_000;

/// What a byte is to [`cut`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It only separates words.
    Gap,
    Letter,
    Digit,
    /// Of a character beyond ASCII.
    High,
    /// A sign that is a token.
    Sign,
    /// A quotation mark that is none.
    Mark,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Gap; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Kind::Letter,
            b'0'..=b'9' => Kind::Digit,
            0x80.. => Kind::High,
            b'\'' | b'`' => Kind::Mark,
            _ => Kind::Gap,
        };
        byte += 1;
    }
    let mut sign = 0;
    while sign < SIGNS.len() {
        kinds[SIGNS[sign] as usize] = Kind::Sign;
        sign += 1;
    }
    kinds
};

/// Cuts a folded text into tokens.
pub(super) fn cut(text: &str, lexicon: &Lexicon) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 5 + 4);
    cut_into(text, lexicon, &mut tokens);
    tokens
}

/// The same into a list that is there already. Gives back how many quotations the text has.
pub(super) fn cut_into(text: &str, lexicon: &Lexicon, tokens: &mut Vec<Token>) -> usize {
    tokens.clear();
    let bytes = text.as_bytes();
    let (mut at, mut place) = (0, 0);
    let mut marks = Quotes::default();
    let mut sign_before = 0;
    // The last byte between words, and whether a sentence or a line ended.
    let (mut gap, mut breaks) = (0, false);
    // Whether an underscore stands before the last word.
    let mut joined = false;
    while at < bytes.len() && tokens.len() < MOST {
        let byte = bytes[at];
        let start = at;
        match KINDS[byte as usize] {
            kind @ (Kind::Letter | Kind::Digit | Kind::High) => {
                sign_before = 0;
                let mut hashed = None;
                if kind == Kind::Letter {
                    // Mostly a short word of the letters from a to z, in one look.
                    let eight = eight(bytes, at);
                    let many = letters(eight);
                    at += many;
                    if (1..8).contains(&many) {
                        hashed = Some(short_hash(eight & ((1 << (many * 8)) - 1), many));
                    }
                }
                while kind != Kind::High && bytes.get(at).is_some_and(|next| KINDS[*next as usize] == kind) {
                    (at, hashed) = (at + 1, None);
                }
                let mut latin = kind == Kind::Letter;
                let mut dense = false;
                if kind == Kind::High || bytes.get(at).is_some_and(|next| *next >= 0x80) {
                    at = word(text, start);
                    if at == start {
                        // Neither letter nor digit: a dash, a bullet, a picture.
                        at += text[at..].chars().next().map_or(1, char::len_utf8);
                        gap = 0;
                        continue;
                    }
                    (latin, hashed) = (latin && bytes[start..at].is_ascii(), None);
                    dense = kind == Kind::High && text[start..at].chars().next().is_some_and(is_dense);
                }
                place += if dense { 1 } else { 2 };
                let hash = hashed.unwrap_or_else(|| hash(&bytes[start..at]));
                let mut classes = lexicon.classes(hash);
                if gap == b'@' {
                    classes |= lexicon.address;
                }
                // Two words like this are the name of a function, mostly; more of them are a sentence in disguise.
                let joins = gap == b'_';
                if joins && !joined && bytes.get(at) != Some(&b'_') {
                    classes |= lexicon.tool;
                }
                joined = joins;
                if lexicon.ends_expression(hash) {
                    expressions(tokens, hash, lexicon, &mut classes);
                }
                let (quoted, made) = (marks.open, if latin { Made::Latin } else { Made::Word });
                tokens.push(Token { start, end: at, at: place, classes, quoted, kind: made, breaks, hash });
                (breaks, gap) = (false, 0);
                // Mostly one space comes next.
                if bytes.get(at) == Some(&b' ') {
                    (at, gap) = (at + 1, b' ');
                }
            }
            Kind::Gap => {
                at += 1;
                if byte == b' ' {
                    breaks |= matches!(gap, b'.' | b';');
                } else {
                    breaks |= byte == b'\n';
                    sign_before = 0;
                }
                gap = byte;
            }
            Kind::Mark => {
                (at, gap) = (at + 1, 0);
                marks.see(bytes, start);
                sign_before = 0;
            }
            Kind::Sign => {
                (at, gap) = (at + 1, 0);
                if byte == b'"' {
                    marks.see(bytes, start);
                }
                // A row of equal signs is one sign.
                if byte != sign_before {
                    place += 1;
                    let hash = mix(u64::from(byte));
                    let classes = Classes::default();
                    let (quoted, kind) = (marks.open, Made::Sign);
                    tokens.push(Token { start, end: at, at: place, classes, quoted, kind, breaks, hash });
                    breaks = matches!(byte, b'?' | b'!' | b':');
                    sign_before = byte;
                }
            }
        }
    }
    marks.close(tokens);
    marks.many
}

/// Adds the classes of the expressions that end with a word.
fn expressions(before: &[Token], hash: u64, lexicon: &Lexicon, classes: &mut Classes) {
    let mut phrase = hash;
    for before in before.iter().rev().take(3).take_while(|before| before.is_word()) {
        phrase = join(before.hash, phrase);
        *classes |= lexicon.classes(phrase);
    }
}

/// Eight bytes of a text from one on; zero beyond its end.
fn eight(bytes: &[u8], at: usize) -> u64 {
    let mut some = [0; 8];
    match bytes.get(at..at + 8) {
        Some(all) => some.copy_from_slice(all),
        None => some.iter_mut().zip(&bytes[at..]).for_each(|(place, byte)| *place = *byte),
    }
    u64::from_le_bytes(some)
}

/// How many bytes are letters from a to z, from the first on: eight at a time.
fn letters(eight: u64) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = eight & (0x7f * EACH);
    // The highest bit of each byte says so.
    let from_a = low + (0x80 - 0x61) * EACH;
    let beyond_z = low + (0x80 - 0x7b) * EACH;
    let others = !(from_a & !beyond_z & !eight) & (0x80 * EACH);
    (others.trailing_zeros() / 8) as usize
}

/// The end of the word that begins at a byte. An apostrophe within a word belongs to it.
fn word(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = start;
    while end < bytes.len() {
        let byte = bytes[end];
        if byte.is_ascii_alphanumeric() {
            // Digits and letters are words of their own: `step2` is two.
            if end > start
                && byte.is_ascii_digit() != bytes[end - 1].is_ascii_digit()
                && bytes[end - 1] < 0x80
            {
                break;
            }
            end += 1;
        } else if byte >= 0x80 {
            let Some(letter) = text[end..].chars().next() else { break };
            if !letter.is_alphanumeric() {
                break;
            }
            if is_dense(letter) {
                return if end == start { end + letter.len_utf8() } else { end };
            }
            end += letter.len_utf8();
        } else {
            break;
        }
    }
    end
}

/// Letters of scripts that put no space between words: each is a token.
pub(super) fn is_dense(letter: char) -> bool {
    matches!(letter, '\u{0e00}'..='\u{0e7f}' | '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ffff}')
}

/// Which words are between quotation marks. The marks are those that folding leaves: `"`, `'` and `` ` ``.
#[derive(Default)]
struct Quotes {
    open: bool,
    mark: u8,
    /// Where the mark stands.
    since: usize,
    /// How many quotations are closed.
    many: usize,
}

impl Quotes {
    /// Looks at a mark; gives back what stands in the quotation that it closes.
    fn see(&mut self, bytes: &[u8], at: usize) -> Option<Range<usize>> {
        let byte = bytes[at];
        if self.open {
            // An apostrophe within a word does not end a quotation.
            let within = byte == b'\'' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
            if byte == self.mark && !within {
                self.open = false;
                self.many += 1;
                return Some(self.since + 1..at);
            }
        } else if at == 0 || !bytes[at - 1].is_ascii_alphanumeric() {
            (self.open, self.mark, self.since) = (true, byte, at);
        }
        None
    }

    /// A quotation that nobody closes is none.
    fn close(&self, tokens: &mut [Token]) {
        if self.open {
            let begins = tokens.partition_point(|token| token.start < self.since);
            tokens[begins..].iter_mut().for_each(|token| token.quoted = false);
        }
    }
}

/// What stands between quotation marks in a folded text, each quotation by itself.
pub(super) fn quotations(text: &str) -> Vec<&str> {
    let mut marks = Quotes::default();
    let bytes = text.as_bytes();
    let found = memchr::memchr3_iter(b'"', b'\'', b'`', bytes).filter_map(|at| marks.see(bytes, at));
    found.filter_map(|range| text.get(range)).collect()
}

/// The hash that words begin with.
const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of a word.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = EMPTY;
    // Eight bytes at a time: most words are one step.
    let mut rest = bytes;
    while rest.len() > 8 {
        let (now, later) = rest.split_at(8);
        hash = mix(hash ^ u64::from_le_bytes(now.try_into().unwrap_or_default()));
        rest = later;
    }
    let mut last = [0_u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56)
}

/// The same of a word of at most eight bytes.
fn short_hash(bytes: u64, length: usize) -> u64 {
    mix(EMPTY ^ bytes ^ (length as u64) << 56)
}

/// The hash of two neighbours. An expression's hash is made from its end.
pub(super) fn join(before: u64, after: u64) -> u64 {
    mix(before.rotate_left(23) ^ after.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Spreads the bits of a hash.
pub(super) const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn short_words_are_hashed_as_others(text in "[a-z{`@0 é]{0,12}", at in 0_usize..12) {
            let bytes = text.as_bytes();
            let rest = &bytes[at.min(bytes.len())..];
            let some = eight(bytes, bytes.len() - rest.len());
            let many = letters(some);
            let slow = rest.iter().take(8).take_while(|byte| byte.is_ascii_lowercase()).count();
            proptest::prop_assert_eq!(many, slow);
            if (1..8).contains(&many) {
                proptest::prop_assert_eq!(short_hash(some & ((1 << (many * 8)) - 1), many), hash(&rest[..many]));
            }
        }
    }

    #[test]
    fn sentences_and_lines_break() {
        let breaks = |text: &str| -> String {
            let tokens = cut(text, Lexicon::get());
            let begins = tokens.iter().filter(|token| token.breaks);
            begins.map(|token| &text[token.start..token.end]).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            breaks("one. two; three, four\nfive? six ! seven: eight.nine"),
            "two three five six seven eight"
        );
        assert_eq!(breaks("a.  b e.g.x"), "b");
    }

    #[test]
    fn quotations_are_what_stands_between_marks() {
        assert_eq!(quotations("it's 'ig' + 'no re' and \"don't\" or `x"), ["ig", "no re", "don't"]);
    }
}
