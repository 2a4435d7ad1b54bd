//! The letters of the prompt, without its words' borders: what is spelled letter by letter has none.
use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use super::{
    FEWEST, MOST_WORDS, Secret,
    read::{Letters, Words},
};

/// So many letters are looked up together.
pub(super) const GRAM: usize = 16;
/// Letters of a prompt beyond this are not looked at, in each of its spellings.
const MOST_LETTERS: usize = 1 << 15;

/// What a letter is multiplied by for each one after it.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// The same for the one that is [`GRAM`] before.
const OLDEST: u64 = {
    let (mut power, mut at) = (1_u64, 0);
    while at < GRAM {
        power = power.wrapping_mul(BASE);
        at += 1;
    }
    power
};

/// The last letters of a row, each with something.
#[derive(Debug)]
struct Window<T> {
    hash: u64,
    letters: VecDeque<(char, T)>,
}

impl<T> Window<T> {
    fn new() -> Self {
        Self { hash: 0, letters: VecDeque::with_capacity(GRAM + 1) }
    }

    /// The hash of the last [`GRAM`] letters with this one, if there are so many.
    fn push(&mut self, letter: char, with: T) -> Option<u64> {
        self.letters.push_back((letter, with));
        self.hash = self.hash.wrapping_mul(BASE).wrapping_add(u64::from(letter));
        if self.letters.len() > GRAM
            && let Some((oldest, _)) = self.letters.pop_front()
        {
            self.hash = self.hash.wrapping_sub(u64::from(oldest).wrapping_mul(OLDEST));
        }
        (self.letters.len() == GRAM).then_some(self.hash)
    }
}

/// Which letters in a row are the prompt's: of each [`GRAM`] in how many words they stand, and whether a word ends
/// with them.
#[derive(Debug, Default)]
pub(super) struct Grams(HashMap<u64, (u8, bool), foldhash::fast::FixedState>);

impl Grams {
    /// Of what the application said and the caller did not.
    pub(super) fn of(secret: &Secret) -> Self {
        let mut grams = Self::default();
        for text in secret.texts(true) {
            let (Letters { plain: letters, rotated, bare }, ends) = letters(&text);
            if ends.len() < FEWEST {
                continue;
            }
            let words = || ends.iter().scan(0, |from, end| Some(std::mem::replace(from, *end)..*end));
            let turned: Vec<char> = words().flat_map(|word| letters[word].iter().rev().copied()).collect();
            let backwards: Vec<char> = letters.iter().rev().copied().collect();
            let from_behind: Vec<usize> =
                ends.iter().rev().skip(1).map(|end| letters.len() - end).chain([letters.len()]).collect();
            grams.learn(&letters, &ends);
            grams.learn(&turned, &ends);
            grams.learn(&rotated, &ends);
            if bare != rotated {
                grams.learn(&bare, &ends);
            }
            grams.learn(&backwards, &from_behind);
        }
        for text in secret.texts(false) {
            let mut window = Window::new();
            for letter in letters(&text).0.plain {
                if let Some(gram) = window.push(letter, ()) {
                    grams.0.remove(&gram);
                }
            }
        }
        grams
    }

    fn learn(&mut self, letters: &[char], ends: &[usize]) {
        let (mut window, mut ends, mut within) = (Window::new(), ends.iter().peekable(), 0_u16);
        for (at, letter) in letters.iter().enumerate().take(MOST_LETTERS) {
            let end = ends.next_if(|end| **end == at + 1).is_some();
            within = within << 1 | u16::from(end);
            if let Some(gram) = window.push(*letter, ()) {
                self.0.entry(gram).or_insert((within.count_ones() as u8, end));
            }
        }
    }
}

/// The letters of a text, and where its words end among them. Numbers are none of either.
fn letters(text: &str) -> (Letters, Vec<usize>) {
    let (mut letters, mut ends) = (Letters::default(), Vec::new());
    let mut words = Words::new(text, 0, true);
    let mut from = 0;
    for _ in 0..MOST_WORDS {
        let Some(word) = words.next_to(&mut letters) else { break };
        if word.is_number() {
            letters.truncate(from);
            continue;
        }
        from = letters.plain.len();
        ends.push(from);
    }
    (letters, ends)
}

/// Letters in a row, looked for in the prompt.
pub(super) struct Spelled<'a> {
    /// Made when there are letters enough.
    grams: &'a dyn Fn() -> &'a Grams,
    window: Window<usize>,
    /// Where the run began, and in how many words it stands.
    run: Option<(usize, usize)>,
}

impl<'a> Spelled<'a> {
    pub(super) fn new(grams: &'a dyn Fn() -> &'a Grams) -> Self {
        Self { grams, window: Window::new(), run: None }
    }

    /// Takes the next letter. Tells where the prompt is that it ends.
    pub(super) fn letter(&mut self, letter: char, at: Range<usize>) -> Option<Range<usize>> {
        let gram = self.window.push(letter, at.start)?;
        let Some((words, end)) = (self.grams)().0.get(&gram) else {
            self.run = None;
            return None;
        };
        let begins = self.window.letters.front().map_or(at.start, |(_, start)| *start);
        let (begins, words) = match self.run {
            Some((begins, words)) => (begins, words + usize::from(*end)),
            None => (begins, usize::from(*words)),
        };
        self.run = Some((begins, words));
        (words >= FEWEST).then(|| {
            self.clear();
            begins..at.end
        })
    }

    pub(super) fn clear(&mut self) {
        (self.window, self.run) = (Window::new(), None);
    }

    /// Where that begins which letters to come may make a finding of.
    pub(super) fn open(&self) -> Option<usize> {
        let over = usize::from(self.window.letters.len() == GRAM);
        let oldest = self.window.letters.get(over).map(|(_, start)| *start);
        self.run.map(|(begins, _)| begins).or(oldest)
    }
}
