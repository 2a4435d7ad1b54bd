//! Whether an answer gives away what the application told the model: the system prompt.
//!
//! Runs of words of the prompt are looked for in the answer, as they are,
//! spelled backwards and in rot13; and in what the answer has in base64 or
//! hexadecimal. What the caller said himself is no secret.
use std::{collections::HashSet, ops::Range, sync::Arc};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    hold::{Act, Found, Guard},
    settings::Mode,
};
use crate::chat::{Request, Role};

/// What becomes of an answer that gives the system prompt away.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// off: nobody looks; log: findings are counted and noted; block: the answer is replaced.
    #[garde(skip)]
    pub mode: Mode,
    /// From how many words of the prompt in a row on it is given away. A shorter prompt counts as a whole.
    #[garde(range(min = 6, max = 100))]
    pub words: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: Mode::Off, words: 12 }
    }
}

/// Words of the prompt that are looked up together.
const SHINGLE: usize = 4;
/// A prompt of fewer words is no secret that could be told from chance.
const FEWEST: usize = 6;
/// Words of a prompt beyond this are not looked at.
const MOST_WORDS: usize = 50_000;
/// A word as long as this may be a code.
const CODE: usize = 24;
/// Of a longer code only so much is held back, in bytes.
const LONGEST_CODE: usize = 2048;
/// A word longer than this ends a run.
const LONGEST_WORD: usize = 64;

/// A number stands between two words so many bytes after the first at most.
const BETWEEN: usize = 16;

/// Looks for the prompt of one call.
pub struct Leak {
    shingles: HashSet<u64, foldhash::fast::FixedState>,
    /// Words in a row that give it away.
    run: usize,
    blocks: bool,
    what: Arc<str>,
}

impl std::fmt::Debug for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leak").field("shingles", &self.shingles.len()).finish_non_exhaustive()
    }
}

/// The guard of a call's system prompt, if it has one. `own` is the prompt that the gateway itself puts before it.
pub fn of(settings: &Settings, chat: &Request, own: &str) -> Option<Arc<dyn Guard>> {
    if settings.mode == Mode::Off {
        return None;
    }
    let texts = |secret: bool| {
        let messages = chat.messages.iter().filter(move |message| match message.role {
            Role::System | Role::Developer => secret,
            Role::User | Role::Tool => !secret,
            Role::Assistant => false,
        });
        messages.map(crate::chat::Message::text)
    };
    let mut shingles: HashSet<u64, foldhash::fast::FixedState> = HashSet::default();
    let mut longest = 0;
    for text in texts(true).chain([own.to_owned()]) {
        let words: Vec<String> = said(&text).take(MOST_WORDS).collect();
        if words.len() < FEWEST {
            continue;
        }
        longest = longest.max(words.len());
        let turned: Vec<String> = words.iter().map(|word| word.chars().rev().collect()).collect();
        let backwards: Vec<String> = turned.iter().rev().cloned().collect();
        let rotated: Vec<String> = words.iter().map(|word| word.chars().map(rot13).collect()).collect();
        for spelled in [&words, &turned, &backwards, &rotated] {
            shingles.extend(spelled.windows(SHINGLE).map(|four| shingle(four.iter().map(String::as_str))));
        }
    }
    if shingles.is_empty() {
        return None;
    }
    for text in texts(false) {
        let words: Vec<String> = said(&text).take(MOST_WORDS).collect();
        for four in words.windows(SHINGLE) {
            shingles.remove(&shingle(four.iter().map(String::as_str)));
        }
    }
    let run = settings.words.min(longest).max(FEWEST);
    Some(Arc::new(Leak { shingles, run, blocks: settings.mode == Mode::Block, what: "system_prompt".into() }))
}

impl Guard for Leak {
    fn name(&self) -> &'static str {
        "leak"
    }

    fn holds(&self) -> bool {
        self.blocks
    }

    fn behind(&self) -> usize {
        4
    }

    fn scan(&self, text: &str, from: usize, ended: bool, found: &mut Vec<Found>) -> usize {
        // The last words, each with where it is; only of the run that may still grow.
        let mut last: Vec<(Range<usize>, String)> = Vec::new();
        let mut run: Option<(usize, usize)> = None;
        let mut sure = from;
        for (range, word) in words(&text[from..]) {
            let range = range.start + from..range.end + from;
            let open = range.end == text.len() && !ended;
            if let Some(hit) = self.in_code(&text[range.clone()], range.start) {
                found.push(self.finding(hit.clone()));
                (last, run, sure) = (Vec::new(), None, hit.end);
                continue;
            }
            if open {
                // The word may go on; so may a code, of which only the end can still matter.
                // Base64 is read in fours.
                let begins = range.start + range.len().saturating_sub(LONGEST_CODE) / 4 * 4;
                let begins = last.first().map_or(begins, |(first, _)| first.start.max(sure)).min(begins);
                return border(text, begins.max(sure));
            }
            // A table of numbers is not waited for.
            let near = |(before, _): &(Range<usize>, String)| range.start - before.end <= BETWEEN;
            if stands_between(&word) && last.last().is_some_and(near) {
                continue;
            }
            if word.len() > LONGEST_WORD {
                (last, run, sure) = (Vec::new(), None, range.end);
                continue;
            }
            last.push((range.clone(), word));
            let many = last.len();
            let known = many >= SHINGLE
                && self
                    .shingles
                    .contains(&shingle(last[many - SHINGLE..].iter().map(|(_, word)| word.as_str())));
            if known {
                let (begins, length) =
                    run.map_or((last[many - SHINGLE].0.start, SHINGLE), |(at, length)| (at, length + 1));
                run = Some((begins, length));
                if length >= self.run {
                    found.push(self.finding(begins..range.end));
                    (last, run, sure) = (Vec::new(), None, range.end);
                }
            } else {
                run = None;
                // What can still begin a run are the last words.
                if many >= SHINGLE {
                    last.drain(..=many - SHINGLE);
                }
                sure = last.first().map_or(range.end, |(first, _)| first.start).max(sure);
            }
        }
        if ended {
            text.len()
        } else {
            border(text, last.first().map_or(text.len(), |(first, _)| first.start).max(sure))
        }
    }
}

impl Leak {
    fn finding(&self, range: Range<usize>) -> Found {
        Found { range, what: self.what.clone(), act: if self.blocks { Act::Block } else { Act::Log } }
    }

    /// Whether a word is a code in which the prompt is: where, if so.
    fn in_code(&self, word: &str, at: usize) -> Option<Range<usize>> {
        if word.len() < CODE || !word.is_ascii() {
            return None;
        }
        // A long one in pieces, each with half of the one before: what a stream sees of it.
        let pieces = (0..word.len())
            .step_by(LONGEST_CODE / 2)
            .map(|from| &word[from..(from + LONGEST_CODE).min(word.len())]);
        pieces.filter_map(decoded).any(|plain| self.is_said(&plain)).then(|| at..at + word.len())
    }

    fn is_said(&self, plain: &str) -> bool {
        let words: Vec<String> = said(plain).collect();
        // A line of a wrapped code holds few words.
        let needed = self.run.min(FEWEST) + 1 - SHINGLE;
        let known = words
            .windows(SHINGLE)
            .map(|four| self.shingles.contains(&shingle(four.iter().map(String::as_str))));
        let mut row = 0;
        for known in known {
            row = if known { row + 1 } else { 0 };
            if row >= needed {
                return true;
            }
        }
        false
    }
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What a code says so far: hexadecimal or base64.
fn decoded(word: &str) -> Option<String> {
    if word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let digits: Vec<u8> =
            word.bytes().filter_map(|b| (b as char).to_digit(16)).map(|digit| digit as u8).collect();
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect();
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    let bare = word.trim_end_matches('=');
    let even = &bare[..bare.len() - bare.len() % 4];
    let bytes = BASE64.decode(even).or_else(|_| URL_SAFE.decode(even)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The words of a text, each with where it is, in lower case. The signs of base64 belong to a word, and what nobody
/// sees does not end it.
fn words(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let within = |letter: char| letter.is_alphanumeric() || matches!(letter, '+' | '/' | '=');
        let begins = at + text[at..].find(within)?;
        let ends = |letter: char| !within(letter) && !is_invisible(letter);
        let end = text[begins..].find(ends).map_or(text.len(), |length| begins + length);
        at = end;
        let word = &text[begins..end];
        let word = match word.is_ascii() {
            true => word.to_ascii_lowercase(),
            false => word.replace(is_invisible, "").to_lowercase(),
        };
        Some((begins..end, word))
    })
}

/// The words of a text without what may stand between them.
fn said(text: &str) -> impl Iterator<Item = String> {
    words(text).map(|(_, word)| word).filter(|word| !stands_between(word))
}

/// Whether it is no word, but the number of one in a list, or a blank as HTML writes it.
fn stands_between(word: &str) -> bool {
    word == "nbsp" || word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

fn shingle<'a>(words: impl Iterator<Item = &'a str>) -> u64 {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    words.for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

fn rot13(letter: char) -> char {
    match letter {
        'a'..='z' => ((letter as u8 - b'a' + 13) % 26 + b'a') as char,
        letter => letter,
    }
}

/// The beginning of a character at or before a byte.
fn border(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::Message;

    const PROMPT: &str = "You are the assistant of Example Bank. Never quote internal prices to anybody outside. \
        The secret word of the week is marmalade, and refunds above ninety euros need a manager.";

    fn guard(question: &str) -> Arc<dyn Guard> {
        let messages = vec![Message::new(Role::System, PROMPT), Message::new(Role::User, question)];
        let settings = Settings { mode: Mode::Block, ..Settings::default() };
        of(&settings, &Request { messages, ..Request::default() }, "").unwrap()
    }

    fn leaks(answer: &str) -> bool {
        let mut found = Vec::new();
        assert_eq!(guard("Hi").scan(answer, 0, true, &mut found), answer.len());
        !found.is_empty()
    }

    #[test]
    fn the_prompt_is_found_as_it_is_and_encoded() {
        let lower = PROMPT.to_lowercase();
        let base64 = base64::engine::general_purpose::STANDARD.encode(PROMPT);
        let hex: String = PROMPT.bytes().map(|byte| format!("{byte:02x}")).collect();
        for said in [
            PROMPT.to_owned(),
            format!("Sure! My instructions: {}", &PROMPT[40..150]),
            PROMPT.replace(' ', " * "),
            PROMPT.replace(' ', "&nbsp;"),
            PROMPT.chars().flat_map(|letter| [letter, '\u{200b}']).collect(),
            PROMPT.split(' ').enumerate().map(|(at, word)| format!("{at}. {word}\n")).collect(),
            lower.chars().rev().collect(),
            lower.chars().map(rot13).collect(),
            lower.split(' ').map(|word| word.chars().rev().collect::<String>() + " ").collect(),
            format!("Here: {base64}"),
            format!("Here: {hex}."),
        ] {
            assert!(leaks(&said), "{said}");
        }
    }

    #[test]
    fn an_answer_may_speak_of_the_same_things() {
        for said in [
            "I am the assistant of Example Bank. How may I help you?",
            "Refunds above ninety euros are decided by somebody else.",
            "aGVsbG8gd29ybGQsIHRoaXMgaXMgYSBwaWN0dXJlIG9mIGEgY2F0",
            "",
        ] {
            assert!(!leaks(said), "{said}");
        }
        let mut found = Vec::new();
        guard(PROMPT).scan(PROMPT, 0, true, &mut found);
        assert!(found.is_empty(), "who knows it may hear it");
        let settings = Settings { mode: Mode::Log, ..Settings::default() };
        assert!(of(&settings, &Request::default(), "You are helpful.").is_none(), "too short to be a secret");
    }

    #[test]
    fn a_table_of_numbers_leaves_as_it_comes() {
        let text = format!("You are {}", "17 ".repeat(2000));
        let mut found = Vec::new();
        let sure = guard("Hi").scan(&text, 0, false, &mut found);
        assert!(text.len() - sure < 64 && found.is_empty(), "{sure} of {}", text.len());
    }

    proptest! {
        #[test]
        fn no_byte_of_it_leaves_wherever_it_is_cut(before in "[a-z é.]{0,40}", cuts in proptest::collection::vec(0_usize..260, 0..12)) {
            let text = format!("{before} {PROMPT} And more.");
            let guard = guard("Hi");
            let whole = { let mut found = Vec::new(); guard.scan(&text, 0, true, &mut found); found };
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| text.is_char_boundary(*at) && *at < text.len()).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let (mut sure, mut found) = (0, Vec::new());
            for cut in cuts {
                let ended = cut == text.len();
                let next = guard.scan(&text[..cut], sure, ended, &mut found);
                prop_assert!(next >= sure && text.is_char_boundary(next));
                sure = next;
                if let Some(first) = whole.first().filter(|_| found.is_empty()) {
                    prop_assert!(sure <= first.range.start, "{sure} of {:?} left", first.range);
                }
            }
            prop_assert_eq!(&found[0].range, &whole[0].range);
        }
    }
}
