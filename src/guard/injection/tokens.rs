//! Words of a folded text, and what is known of each: its hash, its classes, whether it is quoted.
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
    /// Whether it is a word, not a sign.
    pub(super) word: bool,
    /// The hash of the word.
    pub(super) hash: u64,
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

/// The same into a list that is there already.
pub(super) fn cut_into(text: &str, lexicon: &Lexicon, tokens: &mut Vec<Token>) {
    tokens.clear();
    let bytes = text.as_bytes();
    let (mut at, mut place) = (0, 0);
    let mut marks = Quotes::default();
    let mut sign_before = 0;
    while at < bytes.len() && tokens.len() < MOST {
        let byte = bytes[at];
        let start = at;
        match KINDS[byte as usize] {
            kind @ (Kind::Letter | Kind::Digit | Kind::High) => {
                sign_before = 0;
                at += 1;
                while kind != Kind::High && bytes.get(at).is_some_and(|next| KINDS[*next as usize] == kind) {
                    at += 1;
                }
                if kind == Kind::High || bytes.get(at).is_some_and(|next| *next >= 0x80) {
                    at = word(text, start);
                }
                if at == start {
                    // Neither letter nor digit: a dash, a bullet, a picture.
                    at += text[at..].chars().next().map_or(1, char::len_utf8);
                    continue;
                }
                let single = byte >= 0x80 && text[start..at].chars().next().is_some_and(is_dense);
                place += if single { 1 } else { 2 };
                push(tokens, text, start..at, place, marks.open, lexicon);
            }
            Kind::Gap => {
                at += 1;
                sign_before = if byte == b' ' { sign_before } else { 0 };
            }
            Kind::Mark => {
                at += 1;
                marks.see(bytes, start);
                sign_before = 0;
            }
            Kind::Sign => {
                at += 1;
                if byte == b'"' {
                    marks.see(bytes, start);
                }
                // A row of equal signs is one sign.
                if byte != sign_before {
                    place += 1;
                    let hash = mix(u64::from(byte));
                    let classes = Classes::default();
                    let quoted = marks.open;
                    tokens.push(Token { start, end: at, at: place, classes, quoted, word: false, hash });
                    sign_before = byte;
                }
            }
        }
    }
    marks.close(tokens);
}

/// Adds a word with what the lexicon knows of it and of the expression that it ends.
fn push(
    tokens: &mut Vec<Token>,
    text: &str,
    range: std::ops::Range<usize>,
    at: u32,
    quoted: bool,
    lexicon: &Lexicon,
) {
    let hash = hash(&text.as_bytes()[range.clone()]);
    let mut classes = lexicon.classes(hash);
    if range.start > 0 && text.as_bytes()[range.start - 1] == b'@' {
        classes |= lexicon.address;
    }
    let mut phrase = hash;
    for before in tokens.iter().rev().take(3).take_while(|before| before.word) {
        phrase = join(before.hash, phrase);
        classes |= lexicon.classes(phrase);
    }
    tokens.push(Token { start: range.start, end: range.end, at, classes, quoted, word: true, hash });
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
}

impl Quotes {
    fn see(&mut self, bytes: &[u8], at: usize) {
        let byte = bytes[at];
        if !matches!(byte, b'"' | b'\'' | b'`') {
            return;
        }
        if self.open {
            // An apostrophe within a word does not end a quotation.
            let within = byte == b'\'' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
            if byte == self.mark && !within {
                self.open = false;
            }
        } else if at == 0 || !bytes[at - 1].is_ascii_alphanumeric() {
            (self.open, self.mark, self.since) = (true, byte, at);
        }
    }

    /// A quotation that nobody closes is none.
    fn close(&self, tokens: &mut [Token]) {
        if self.open {
            let begins = tokens.partition_point(|token| token.start < self.since);
            tokens[begins..].iter_mut().for_each(|token| token.quoted = false);
        }
    }
}

/// The hash of a word.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
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

/// The hash of two neighbours. An expression's hash is made from its end.
pub(super) fn join(before: u64, after: u64) -> u64 {
    mix(before.rotate_left(23) ^ after.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Spreads the bits of a hash.
pub(super) fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}
