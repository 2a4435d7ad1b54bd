//! Whether an answer gives away what the application told the model: the system prompt.
//!
//! Runs of words of the prompt are looked for in the answer, as they are,
//! spelled backwards and in rot13, whatever spells out their letters ([`read`]);
//! and in rows of what may be letters in another spelling: single letters,
//! numbers, codes ([`rows`]). What the caller said himself is no secret.
mod dress;
mod grams;
mod read;
mod rows;
mod run;
mod said;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tongues;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    grams::Grams,
    read::{Letters, Word, Words, shingle, with},
    run::{Enough, Known, Run, Shingles},
};
use super::{
    hold::{Act, Found, Guard},
    settings::Mode,
};
use crate::chat::{Message, Request, Role};

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
/// A prompt of fewer words is no secret that could be told from chance. So many are enough where they are encoded.
const FEWEST: usize = 6;
/// Words of the prompt beyond this are not looked at.
const MOST_WORDS: usize = 50_000;
/// A word as long as this may be a code, or words that are joined.
const CODE: usize = 24;
/// A word longer than this is none of a run.
const LONGEST_WORD: usize = 64;
/// A number stands between two words so many bytes after the first at most, and so much between two parts of a row.
const BETWEEN: usize = 16;
/// More than so many bytes between two words end a run.
const FAR: usize = 256;
/// No more waits than this, in bytes: a row may spell marks upon one letter for ever.
const MOST_HELD: usize = 64 << 10;
/// What tells of a place whether a word goes on there, in bytes.
const BEHIND: usize = 8;

/// Looks for the prompt of one call.
pub struct Leak {
    known: Known,
    secret: Secret,
    /// Only for answers in which something is spelled letter by letter.
    grams: OnceLock<Grams>,
    /// What of it gives it away.
    run: Enough,
    blocks: bool,
    what: Arc<str>,
}

impl std::fmt::Debug for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leak").field("shingles", &self.known.shingles.len()).finish_non_exhaustive()
    }
}

/// What was said before the answer: by the application, and by the caller.
struct Secret {
    chat: Arc<Request>,
    /// What the gateway itself puts before it.
    own: Arc<str>,
}

impl Secret {
    /// What nobody else may hear, or what the caller said himself.
    fn texts(&self, secret: bool) -> impl Iterator<Item = String> {
        let messages = self.chat.messages.iter().filter(move |message| match message.role {
            Role::System | Role::Developer => secret,
            Role::User | Role::Tool => !secret,
            Role::Assistant => false,
        });
        messages.map(Message::text).chain(secret.then(|| self.own.to_string()))
    }
}

/// The guard of a call's system prompt, if it has one. `own` is the prompt that the gateway itself puts before it.
pub fn of(settings: &Settings, chat: &Arc<Request>, own: &Arc<str>) -> Option<Arc<dyn Guard>> {
    if settings.mode == Mode::Off {
        return None;
    }
    let secret = Secret { chat: chat.clone(), own: own.clone() };
    let (mut known, mut words, mut letters) = (Known::default(), Spellings::default(), Letters::default());
    let mut most = 0;
    for text in secret.texts(true) {
        known.beyond |= !text.is_ascii();
        let from = words.plain.len();
        let mut read = Words::new(&text, 0, true);
        while let Some(word) = read.next_to(&mut letters).filter(|_| words.plain.len() < MOST_WORDS) {
            if !word.is_number() {
                words.add(&word, &letters);
                known.longest = known.longest.max(word.letters);
            }
            letters.truncate(0);
        }
        if words.plain.len() - from >= FEWEST {
            most = most.max(words.plain.len() - from);
            words.shingles(from, &mut known.shingles);
        }
    }
    if known.shingles.is_empty() {
        return None;
    }
    known.learn(&[words.plain, words.turned, words.rotated, words.bare]);
    let mut said = Vec::new();
    for text in secret.texts(false) {
        said.clear();
        let read = Words::new(&text, 0, true).filter(|word| !word.is_number());
        said.extend(read.take(MOST_WORDS).map(|word| word.hash));
        for four in said.windows(SHINGLE) {
            known.shingles.remove(&shingle(four.iter().copied()));
        }
    }
    let run = Enough { words: settings.words.min(most).max(FEWEST), letters: 0 };
    let blocks = settings.mode == Mode::Block;
    let (grams, what) = (OnceLock::new(), "system_prompt".into());
    Some(Arc::new(Leak { known, secret, grams, run, blocks, what }))
}

/// The words of a text, by their hashes: as they are, each spelled backwards, and in rot13, also without accents.
#[derive(Default)]
struct Spellings {
    plain: Vec<u64>,
    turned: Vec<u64>,
    rotated: Vec<u64>,
    bare: Vec<u64>,
}

impl Spellings {
    fn add(&mut self, word: &Word, letters: &Letters) {
        let hash = |letters: &[char]| letters.iter().fold(0, |hash, letter| with(hash, *letter));
        self.plain.push(word.hash);
        self.turned.push(letters.plain.iter().rev().fold(0, |hash, letter| with(hash, *letter)));
        self.rotated.push(hash(&letters.rotated));
        self.bare.push(hash(&letters.bare));
    }

    /// Adds the shingles of the words from one on.
    fn shingles(&self, from: usize, into: &mut Shingles) {
        into.reserve(4 * (self.plain.len() - from));
        let bare = (self.bare[from..] != self.rotated[from..]).then_some(&self.bare);
        for words in [&self.plain, &self.turned, &self.rotated].into_iter().chain(bare) {
            into.extend(words[from..].windows(SHINGLE).map(|four| shingle(four.iter().copied())));
        }
        // The whole text backwards.
        into.extend(self.turned[from..].windows(SHINGLE).map(|four| shingle(four.iter().rev().copied())));
    }
}

impl Guard for Leak {
    fn name(&self) -> &'static str {
        "leak"
    }

    fn holds(&self) -> bool {
        self.blocks
    }

    fn behind(&self) -> usize {
        BEHIND
    }

    fn scan(&self, text: &str, from: usize, ended: bool, found: &mut Vec<Found>) -> usize {
        let mut at = At { run: Run::default(), row: Vec::new(), sure: from, end: from };
        let mut begun = None;
        for word in Words::new(text, from, ended) {
            let in_row = rows::may_be(&word, text, from);
            if word.open {
                // It may go on, and say something else. Of a long one, only what a row holds matters.
                if word.length <= LONGEST_WORD {
                    begun = Some(word.start);
                } else {
                    self.next_of_row(&mut at, text, word, found);
                }
                break;
            }
            if in_row {
                self.next_of_row(&mut at, text, word, found);
            } else {
                self.end_row(&mut at, text, found);
            }
            if word.is_number() {
                // A table of numbers is not waited for.
                if word.start - at.end > BETWEEN {
                    at.run.clear();
                }
                continue;
            }
            if word.start - at.end > FAR || word.length > LONGEST_WORD {
                at.run.clear();
            }
            if word.length > LONGEST_WORD || rows::goes_on(&word, text, from) {
                continue;
            }
            at.end = word.end;
            if let Some(begins) = at.run.word((word.hash, word.letters), word.start, &self.known, self.run) {
                self.tell(begins..word.end, &mut at, found);
                at.row.clear();
            }
        }
        if ended {
            self.end_row(&mut at, text, found);
            return text.len();
        }
        let row = self.row(text, &at.row, false);
        for range in row.found {
            self.tell(range, &mut at, found);
        }
        let near = begun.unwrap_or(text.len()) - at.end <= FAR;
        let run = at.run.open().filter(|_| near);
        let open = run.into_iter().chain(begun).chain(row.open).min();
        let least = at.sure.max(text.len().saturating_sub(MOST_HELD));
        border(text, open.unwrap_or(text.len()).max(least))
    }
}

/// How far a text is judged.
struct At {
    run: Run,
    /// What may be letters in another spelling.
    row: Vec<Word>,
    sure: usize,
    /// Where the last word of the run ends.
    end: usize,
}

impl Leak {
    fn grams(&self) -> &Grams {
        self.grams.get_or_init(|| Grams::of(&self.secret))
    }

    fn tell(&self, range: Range<usize>, at: &mut At, found: &mut Vec<Found>) {
        if range.start < at.sure {
            return;
        }
        if at.run.open().is_some_and(|begins| begins < range.end) {
            at.run.clear();
        }
        at.sure = range.end;
        let act = if self.blocks { Act::Block } else { Act::Log };
        found.push(Found { range, what: self.what.clone(), act });
    }

    fn next_of_row(&self, at: &mut At, text: &str, word: Word, found: &mut Vec<Found>) {
        if at.row.last().is_some_and(|before| word.start - before.end > BETWEEN) {
            self.end_row(at, text, found);
        }
        at.row.push(word);
    }

    fn end_row(&self, at: &mut At, text: &str, found: &mut Vec<Found>) {
        if at.row.is_empty() {
            return;
        }
        for range in self.row(text, &at.row, true).found {
            self.tell(range, at, found);
        }
        at.row.clear();
    }
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
