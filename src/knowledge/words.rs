//! Text into terms: lower-case words, stemmed, with words of one meaning made one.
//!
//! Documents and questions go through the same function, so that "throttling"
//! finds "limits". What joins words here joins them everywhere.
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use rust_stemmers::{Algorithm, Stemmer};

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// As it is written, lower-cased.
    pub raw: Cow<'a, str>,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends, in bytes.
    pub end: usize,
}

/// Longer words are cut: they are data, not language.
const LONGEST: usize = 64;

/// The words of `text`, in order. Every character that is no letter or digit parts
/// words, except an apostrophe within one; a Chinese, Japanese or Korean character is a word.
pub fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = rest.find(|(_, c)| c.is_alphanumeric())?;
        let mut end = start + first.len_utf8();
        if !is_ideograph(first) {
            while let Some(&(at, c)) = rest.peek() {
                let apostrophe = matches!(c, '\'' | '’')
                    && text[at + c.len_utf8()..].chars().next().is_some_and(char::is_alphabetic);
                if !(apostrophe || c.is_alphanumeric() && !is_ideograph(c)) {
                    break;
                }
                end = at + c.len_utf8();
                rest.next();
            }
            // "A/B" is one word, and neither half is.
            if end - start == 1 && text[end..].starts_with('/') {
                let pair = &text[end + 1..];
                let lone = pair.chars().next().is_some_and(char::is_alphabetic)
                    && !pair.chars().nth(1).is_some_and(char::is_alphanumeric);
                if lone && first.is_alphabetic() {
                    rest.next();
                    rest.next();
                    end = start + 1 + 1 + pair.chars().next().map_or(0, char::len_utf8);
                }
            }
        }
        Some(Word { raw: lower(&text[start..end]), start, end })
    })
}

fn lower(word: &str) -> Cow<'_, str> {
    let cut = word.char_indices().nth(LONGEST).map_or(word.len(), |(at, _)| at);
    let word = &word[..cut];
    if word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect())
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}')
}

/// The beginning of a text: at most so many bytes, and whole characters.
pub fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The terms of `text` that carry meaning, in order, repeats included.
pub fn terms(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    words(text).filter_map(|word| term(&stemmer, &word.raw)).collect()
}

/// The term of one lower-case word; nothing for a word without meaning of its own.
fn term(stemmer: &Stemmer, word: &str) -> Option<String> {
    let single = word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic();
    if single || STOP.contains(word) {
        return None;
    }
    if let Some((_, term)) = IRREGULAR.iter().find(|(spelled, _)| *spelled == word) {
        return Some((*term).to_owned());
    }
    let stem = stemmer.stem(word);
    // An abbreviation's plural has no vowel by which the stemmer would know it: "SDKs".
    let plural = stem.len() > 3 && stem.ends_with('s') && !stem.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    let stem = if plural { &stem[..stem.len() - 1] } else { &*stem };
    Some(MEANING.get(stem).copied().unwrap_or(stem).to_owned())
}

/// Words that the stemmer would take for others, or not for one another.
const IRREGULAR: &[(&str, &str)] = &[
    ("embedding", "embedding"),
    ("embeddings", "embedding"),
    ("cannot", "not"),
    ("cant", "not"),
    ("didnt", "not"),
    ("doesnt", "not"),
    ("dont", "not"),
    ("founded", "founded"),
    ("founder", "founded"),
    ("founders", "founded"),
    ("isnt", "not"),
    ("made", "creat"),
    ("wont", "not"),
];

/// Stems taken for one another. Only pairs that a technical reader would exchange
/// without a thought: each one here is a chance to find the wrong passage.
const SAME: &[(&str, &[&str])] = &[
    ("answer", &["respons", "repli", "respond"]),
    ("authent", &["auth", "authoris", "authoriz", "login"]),
    ("chang", &["edit", "modifi", "alter"]),
    ("configur", &["config", "set", "setup", "adjust"]),
    ("creat", &["make", "generat", "mint", "add"]),
    ("delet", &["remov", "eras"]),
    ("document", &["doc"]),
    ("environ", &["env"]),
    ("expir", &["expiri", "ttl", "lifetim"]),
    ("fail", &["failur", "outag", "crash"]),
    ("fallback", &["failov", "backup"]),
    ("filter", &["redact", "mask"]),
    ("health", &["healthi"]),
    ("limit", &["throttl", "restrict", "cap", "quota"]),
    ("maximum", &["max", "largest", "biggest", "longest", "maxim"]),
    ("mistak", &["broken", "invalid", "wrong", "mistaken"]),
    ("model", &["llm"]),
    ("price", &["cost", "expens"]),
    ("provid", &["vendor", "upstream", "backend"]),
    ("question", &["ask"]),
    ("reload", &["refresh"]),
    ("request", &["call"]),
    ("safeti", &["safe", "secur"]),
    ("start", &["launch", "boot", "run", "begin"]),
    ("stop", &["halt", "termin", "shutdown", "quit", "shut"]),
    ("upgrad", &["updat"]),
    ("user", &["person", "custom", "peopl", "somebodi", "someon"]),
];

/// [`SAME`], from each stem to the one that stands for it.
static MEANING: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    SAME.iter().flat_map(|(one, others)| others.iter().map(|other| (*other, *one))).collect()
});

/// Words without meaning of their own in a question or a text.
static STOP: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "
    able about accept accepted accepts actually against all allow allowed allows also altogether am an
    and another any anybody anyone anything appear appears are around as at available be because become
    becomes been before being between both but by can certain come comes concern concerning contain
    containing contains could did do does doing done during each else enable enabled enables even ever
    every everybody everyone everything exactly explain find for from get gets getting give given go
    goes going got had handle handled handles handling happen happened happening happens has have having
    hello help her here hi him his how i id if im in into is it its itself ive just know let lets like
    look looks many matter may me mean means might mind more most much must my myself need needs no of
    off often on once one only onto or other our out over own please possible really regarding same say
    seem seems seen sees shall should show single so some something stay stays such support supported
    supporting supports sure take takes talk talks tell than thanks that the their them then there these
    they thing things think this those through to together too treat treated treats under up upon us use
    used using very via want wanted wants was way ways we were what whats when where whether which while
    who whom whose why will wish with within without wonder wondering work worked working works would
    yes you your yours
    "
    .split_whitespace()
    .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stemmed_and_words_of_one_meaning_meet() {
        assert_eq!(terms("Throttling the Users' requests"), terms("limit users request"));
        assert_eq!(terms("limits.requests_per_minute.user"), ["limit", "request", "per", "minut", "user"]);
    }

    #[test]
    fn apostrophes_stay_within_a_word_and_a_b_is_one() {
        let raw: Vec<_> = words("don’t A/B-test 'x'").map(|w| w.raw.into_owned()).collect();
        assert_eq!(raw, ["dont", "ab", "test", "x"]);
    }

    #[test]
    fn ideographs_are_words_of_their_own_and_odd_text_does_no_harm() {
        assert_eq!(terms("限流 ok"), ["限", "流", "ok"]);
        for text in ["", "'", "a/", "a/é", "É/b", "\u{0}'’", "x’"] {
            let _ = terms(text);
        }
    }
}
