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

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use regex::Regex;
use regex_syntax::hir::Hir;

pub use answers::Answers;
pub use settings::{Categories, Moderation, Rule, Sanitize, Settings};

use super::settings::Mode;

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
    /// All patterns in one: most texts are told by it alone.
    any: Option<Regex>,
    each: Vec<Compiled>,
    /// The longest match of any of them, in bytes.
    pub longest: usize,
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
            // It could be made with all others. What cannot be told to be harmless is not.
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
        let mut sources: Vec<(Arc<str>, Mode, String)> = Vec::new();
        if settings.builtin {
            for (category, patterns) in builtin::RULES {
                let mode = settings.categories.get(*category).copied().unwrap_or(settings.mode);
                sources.extend(patterns.iter().map(|pattern| ((*category).into(), mode, bounded(pattern))));
            }
        }
        for (number, rule) in settings.rules.iter().enumerate() {
            let mode = rule
                .mode
                .or_else(|| settings.categories.get(&rule.category).copied())
                .unwrap_or(settings.mode);
            let phrases = rule
                .phrases
                .iter()
                .map(|phrase| regex::escape(&phrase.trim().to_lowercase()).replace(' ', r"\s{1,3}"));
            for pattern in phrases.chain(rule.patterns.iter().cloned()) {
                if pattern.is_empty() {
                    return Err(format!("`safety.rules[{number}]`: a phrase is empty"));
                }
                sources.push((rule.category.as_str().into(), mode, bounded(&pattern)));
            }
        }
        sources.retain(|(_, mode, _)| *mode != Mode::Off && settings.mode != Mode::Off);
        let mut longest = 0;
        for (category, _, pattern) in &sources {
            let hir = regex_syntax::Parser::new().parse(pattern);
            let hir = hir.map_err(|error| format!("`safety.rules`, category `{category}`: {error}"))?;
            longest = longest.max(length(&hir).ok_or_else(|| {
                format!(
                    "`safety.rules`, category `{category}`: a pattern's match has to be 1 to {LONGEST} bytes long; \
                     write `{{0,20}}` for `*`"
                )
            })?);
        }
        let whole: Vec<String> = sources.iter().map(|(_, _, pattern)| format!("(?:{pattern})")).collect();
        let compile = |pattern: &str| Regex::new(pattern).map_err(|error| format!("`safety.rules`: {error}"));
        let any = if whole.is_empty() { None } else { Some(compile(&whole.join("|"))?) };
        // What could be made together can be made alone.
        let each = sources.into_iter().map(|(category, mode, source)| {
            let pattern = OnceLock::new();
            Compiled { category, mode, source, pattern }
        });
        Ok(Self { any, each: each.collect(), longest })
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
        self.find_lower(&text.to_ascii_lowercase())
    }

    /// The same in a text that is in lower case already, as patterns are.
    pub fn find_lower(&self, lower: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        if self.any.as_ref().is_none_or(|any| !any.is_match(lower)) {
            return found;
        }
        for rule in &self.each {
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

/// A pattern between the borders of words.
fn bounded(pattern: &str) -> String {
    format!(r"\b(?:{pattern})\b")
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
