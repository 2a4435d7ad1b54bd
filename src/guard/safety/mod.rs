//! Content safety: phrases and patterns by category, in what is asked and in what is answered.
//!
//! The built-in rules are few and precise: they find what hardly anybody says
//! for another reason. Whoever needs more names phrases and patterns of their
//! own, or asks a moderation service ([`moderation`]). Every pattern has a
//! longest match, so that a stream never holds back more than that.
mod answers;
mod builtin;
pub mod moderation;
mod settings;
mod words;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use regex::Regex;
use regex_syntax::hir::Hir;

pub use answers::Answers;
pub use settings::{Categories, Moderation, Rule, Sanitize, Settings};

use super::settings::Mode;
use words::Words;

/// The longest match that a pattern may have, in bytes.
const LONGEST: usize = 1024;

/// A finding: which category, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The category, as configured or built in.
    pub category: Arc<str>,
    /// What it leads to.
    pub mode: Mode,
    /// Where, in bytes.
    pub range: Range<usize>,
}

/// Rules, ready to be used.
#[derive(Debug, Default)]
pub struct Rules {
    /// Which of them a text could match: mostly none.
    words: Words,
    each: Vec<Compiled>,
    /// The longest match of any of them, in bytes.
    pub longest: usize,
    /// Whether any has other letters than those from a to z.
    beyond_ascii: bool,
}

#[derive(Debug)]
struct Compiled {
    category: Arc<str>,
    mode: Mode,
    source: String,
    /// Made when a text first has to be told by it alone: hardly one ever has to be, and together they take a MB.
    pattern: OnceLock<Option<Regex>>,
}

impl Compiled {
    /// Where it first is, from a place on.
    fn find_at(&self, lower: &str, from: usize) -> Option<Range<usize>> {
        match self.pattern.get_or_init(|| Regex::new(&self.source).ok()) {
            Some(pattern) => pattern.find_at(lower, from).map(|hit| hit.range()),
            // It could be made when the settings were read. What cannot be told to be harmless is not.
            None => Some(from..lower.len()),
        }
    }
}

impl Rules {
    /// The rules of the settings that are not off.
    ///
    /// # Errors
    /// What is wrong with a rule, in words.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let mut each: Vec<Compiled> = Vec::new();
        let mut add = |category: &str, mode: Mode, pattern: &str| {
            if mode != Mode::Off && settings.mode != Mode::Off {
                let (category, source) = (category.into(), bounded(pattern));
                each.push(Compiled { category, mode, source, pattern: OnceLock::new() });
            }
        };
        if settings.builtin {
            for (category, patterns) in builtin::RULES {
                let mode = settings.categories.get(*category).copied().unwrap_or(settings.mode);
                patterns.iter().for_each(|pattern| add(category, mode, pattern));
            }
        }
        for rule in &settings.rules {
            let mode = rule
                .mode
                .or_else(|| settings.categories.get(&rule.category).copied())
                .unwrap_or(settings.mode);
            for phrase in &rule.phrases {
                let phrase = regex::escape(&phrase.trim().to_lowercase()).replace(' ', r"\s{1,3}");
                add(&rule.category, mode, &phrase);
            }
            rule.patterns.iter().for_each(|pattern| add(&rule.category, mode, pattern));
        }
        let (mut longest, mut read_ones) = (0, Vec::with_capacity(each.len()));
        for rule in &each {
            let told = |why: String| format!("`safety.rules`, category `{}`: {why}", rule.category);
            let (hir, most) = read(&rule.source).map_err(told)?;
            longest = longest.max(most);
            read_ones.push(hir);
        }
        let words = Words::new(each.iter().map(|rule| rule.source.as_str()).zip(&read_ones))
            .map_err(|error| format!("`safety.rules`: {error}"))?;
        let beyond_ascii = each.iter().any(|rule| !rule.source.is_ascii());
        Ok(Self { words, each, longest, beyond_ascii })
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Whether any of them keeps something from going on.
    pub fn blocks(&self) -> bool {
        self.each.iter().any(|rule| rule.mode == Mode::Block)
    }

    /// All that is found in a text, in the order of the rules; at most one of each category.
    pub fn find(&self, text: &str) -> Vec<Found> {
        self.find_lower(&small(text))
    }

    /// The same in a text that may hide what it says: `folded` is what it says in plain small letters, without
    /// accents. Rules that have some are held against the text as it is. Where they are is not told.
    pub fn find_hidden(&self, text: &str, folded: &str) -> Vec<Found> {
        let mut found = self.find_lower(folded);
        if self.beyond_ascii && !text.is_ascii() {
            found.extend(self.find(text));
        }
        found
    }

    fn find_lower(&self, lower: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for rule in self.words.possible(lower, 0) {
            let rule = &self.each[rule];
            if found.iter().any(|found| found.category == rule.category) {
                continue;
            }
            if let Some(range) = rule.find_at(lower, 0) {
                let (category, mode) = (rule.category.clone(), rule.mode);
                found.push(Found { category, mode, range });
            }
        }
        found
    }
}

/// The categories of the rules that come with Sluice.
pub fn builtin_categories() -> impl Iterator<Item = &'static str> {
    builtin::RULES.iter().map(|(category, _)| *category)
}

/// A pattern between the borders of words.
fn bounded(pattern: &str) -> String {
    format!(r"\b(?:{pattern})\b")
}

/// The text in small letters, each as long as the one in whose place it stands: places in it stay what they are.
fn small(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let small = |c: char| {
        let mut lower = c.to_lowercase();
        let one = lower.next().filter(|one| lower.next().is_none() && one.len_utf8() == c.len_utf8());
        one.unwrap_or(c)
    };
    text.chars().map(small).collect()
}

/// What a pattern says, and its longest match in bytes.
///
/// # Errors
/// What is wrong with it, in words.
fn read(pattern: &str) -> Result<(Hir, usize), String> {
    let hir = regex_syntax::Parser::new().parse(pattern).map_err(|error| error.to_string())?;
    if has_capital(pattern) {
        return Err("a pattern has to be in small letters, as the text is that it is held against".into());
    }
    let wrong = || format!("a pattern's match has to be 1 to {LONGEST} bytes long; write `{{0,20}}` for `*`");
    let most = length(&hir).ok_or_else(wrong)?;
    Ok((hir, most))
}

/// Whether a pattern asks for a capital letter; those that only mean something, as in `\S`, do not.
fn has_capital(pattern: &str) -> bool {
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let skipped: &[char] = match c {
            '\\' if rest.next().is_some() && rest.as_str().starts_with('{') => &['}'],
            '\\' => continue,
            // Names and flags of a group.
            '(' if rest.as_str().starts_with('?') => &[':', '>', ')'],
            c if c.is_uppercase() => return true,
            _ => continue,
        };
        rest.by_ref().find(|c| skipped.contains(c));
    }
    false
}

/// The longest match in bytes, if it has one that is short enough and matches something.
fn length(hir: &Hir) -> Option<usize> {
    let properties = hir.properties();
    let (least, most) = (properties.minimum_len()?, properties.maximum_len()?);
    (least > 0 && most <= LONGEST).then_some(most)
}

/// Takes out control characters and the signs of markup, and cuts.
pub fn sanitized(text: &str, settings: &settings::Sanitize) -> Option<String> {
    let unwanted = |c: char| {
        settings.markup && matches!(c, '<' | '>' | '{' | '}')
            || c.is_control() && !matches!(c, '\n' | '\r' | '\t')
    };
    let end = text.char_indices().nth(settings.max_chars).map_or(text.len(), |(at, _)| at);
    let cut = &text[..end];
    if end == text.len() && !cut.contains(unwanted) {
        return None;
    }
    Some(cut.chars().filter(|c| !unwanted(*c)).collect())
}

#[cfg(test)]
mod tests;
