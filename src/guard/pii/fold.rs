//! Text as a reader sees it: full-width digits, fancy hyphens, hidden
//! characters, odd spaces and characters that are spelled out must not hide anything.
use std::borrow::Cow;

use super::{escape, text::has_numbers};

/// A text in its plain spelling, and where each byte of it came from.
#[derive(Debug)]
pub(super) struct Folded<'t> {
    pub text: Cow<'t, str>,
    /// Whether it has digits or an at sign.
    pub numbers: bool,
    original: &'t str,
    /// For each byte of `text` (and its end) the place in the original; empty where they are the same.
    places: Vec<u32>,
}

impl<'t> Folded<'t> {
    /// The plain spelling of a text. Copies it only where something is to be folded. In `prose` without any quote
    /// `\n` is two signs, as of a password.
    pub(super) fn new(text: &'t str, prose: bool) -> Self {
        let numbers = has_numbers(text);
        let same = Self { text: Cow::Borrowed(text), numbers, original: text, places: Vec::new() };
        // Where no digits stand nothing is spelled out that would matter.
        let blanks = numbers && (!prose || memchr::memchr(b'"', text.as_bytes()).is_some());
        let mut escape = if numbers { escape::next(text, 0, blanks) } else { None };
        // All ASCII and nothing spelled out is the common case, and quick to tell.
        if escape.is_none()
            && (text.is_ascii() || !text.chars().any(|c| !c.is_ascii() && fold(c) != Fold::Same))
        {
            return same;
        }
        let mut plain = String::with_capacity(text.len());
        let mut places = Vec::with_capacity(text.len() + 1);
        let mut at = 0;
        while at < text.len() {
            // What stays as it is, up to what may not.
            let upto = escape.map_or(text.len(), |(place, ..)| place);
            let same = text.as_bytes()[at..upto].iter().take_while(|b| b.is_ascii()).count();
            plain.push_str(&text[at..at + same]);
            places.extend((at..at + same).map(|at| at as u32));
            at += same;
            let (c, length) = match escape {
                Some((place, c, length)) if place == at => {
                    escape = escape::next(text, at + length, blanks);
                    (c, length)
                }
                _ => match text[at..].chars().next() {
                    Some(c) => (c, c.len_utf8()),
                    None => break,
                },
            };
            let begin = plain.len();
            match fold(c) {
                // Within a word it is a long vowel: `パスワード`.
                Fold::To(_) if c == 'ー' && plain.ends_with(is_kana) => plain.push(c),
                Fold::Same => plain.push(c),
                Fold::To(other) => plain.push(other),
                Fold::Gone => {}
            }
            places.resize(places.len() + plain.len() - begin, at as u32);
            at += length;
        }
        places.push(text.len() as u32);
        let numbers = has_numbers(&plain);
        Self { text: Cow::Owned(plain), numbers, original: text, places }
    }

    /// Where a piece of the plain text is in the original.
    pub(super) fn original(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        if self.places.is_empty() {
            return start..end;
        }
        if start == end {
            let at = self.places.get(start).map_or(0, |place| *place as usize);
            return at..at;
        }
        let place = |at: usize| self.places.get(at).map_or(0, |place| *place as usize);
        // What is hidden behind the last character is no part of it.
        let last = place(end.saturating_sub(1).max(start));
        let rest = &self.original[last..];
        // What reads as one of these is not spelled out.
        let itself = matches!(self.text.as_bytes().get(end.saturating_sub(1)), Some(b'&' | b'\\'));
        let spelled = if itself { None } else { escape::length(rest) };
        let length = spelled.or_else(|| rest.chars().next().map(char::len_utf8));
        place(start)..last + length.unwrap_or_default()
    }
}

#[derive(PartialEq, Eq)]
enum Fold {
    Same,
    To(char),
    Gone,
}

/// What a character looks like to a reader.
fn fold(c: char) -> Fold {
    match c {
        // Full-width ASCII.
        '\u{ff01}'..='\u{ff5e}' => to(c as u32 - 0xfee0),
        // Digits of other scripts, and mathematical ones.
        '\u{660}'..='\u{669}' => digit(c, 0x660),
        '\u{6f0}'..='\u{6f9}' => digit(c, 0x6f0),
        '\u{966}'..='\u{96f}' => digit(c, 0x966),
        '\u{9e6}'..='\u{9ef}' => digit(c, 0x9e6),
        '\u{e50}'..='\u{e59}' => digit(c, 0xe50),
        '\u{1d7ce}'..='\u{1d7ff}' => to((c as u32 - 0x1d7ce) % 10 + 0x30),
        '\u{2080}'..='\u{2089}' => digit(c, 0x2080),
        '\u{2070}' | '\u{2074}'..='\u{2079}' => digit(c, 0x2070),
        '\u{1d400}'..='\u{1d433}' => letter(c as u32 - 0x1d400),
        '\u{1d5a0}'..='\u{1d5d3}' => letter(c as u32 - 0x1d5a0),
        '\u{1d670}'..='\u{1d6a3}' => letter(c as u32 - 0x1d670),
        // Spaces.
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            Fold::To(' ')
        }
        // Hyphens, dashes and minus signs.
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{2043}' | '\u{30fc}' => {
            Fold::To('-')
        }
        // Dots and the like.
        '\u{2024}' | '\u{3002}' | '\u{ff61}' | '\u{b7}' | '\u{2027}' => Fold::To('.'),
        '\u{2215}' | '\u{2044}' => Fold::To('/'),
        '\u{fe6b}' => Fold::To('@'),
        '\u{2018}' | '\u{2019}' => Fold::To('\''),
        '\u{201c}'..='\u{201e}' | '\u{ab}' | '\u{bb}' | '\u{300c}' | '\u{300d}' => Fold::To('"'),
        // Hidden: soft hyphen, zero width, joiners, direction marks, variation selectors, tags, byte order mark.
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => Fold::Gone,
        '\u{2060}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{34f}' => Fold::Gone,
        '\u{e0000}'..='\u{e007f}' | '\u{20e3}' => Fold::Gone,
        _ => Fold::Same,
    }
}

fn is_kana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30ff}')
}

fn to(code: u32) -> Fold {
    char::from_u32(code).map_or(Fold::Same, Fold::To)
}

fn digit(c: char, zero: u32) -> Fold {
    to(c as u32 - zero + 0x30)
}

/// Mathematical letters: 26 capitals, then 26 small ones.
fn letter(at: u32) -> Fold {
    to(if at < 26 { at + 0x41 } else { at - 26 + 0x61 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(Folded::new("plain, naïve 東京", true).text, Cow::Borrowed(_)));
    }

    #[test]
    fn what_looks_like_a_digit_is_one_and_places_are_kept() {
        let original = "é １２\u{200b}３‑４\u{a0}5";
        let folded = Folded::new(original, false);
        assert_eq!(folded.text, "é 123-4 5");
        let at = folded.text.find("123-4").unwrap();
        assert_eq!(&original[folded.original(at, at + 5)], "１２\u{200b}３‑４");
        assert_eq!(&original[folded.original(at, at + 2)], "１２");
    }

    #[test]
    fn what_is_spelled_out_is_one_character_and_has_its_place() {
        let original = r"é \n &#x41;nn\u0040b&period;org\n";
        let folded = Folded::new(original, false);
        assert_eq!(folded.text, "é   Ann@b.org ");
        let at = folded.text.find("Ann").unwrap();
        assert_eq!(&original[folded.original(at, at + 4)], r"&#x41;nn\u0040");
        assert_eq!(&original[folded.original(at, at + 6)], r"&#x41;nn\u0040b&period;");
    }
}
