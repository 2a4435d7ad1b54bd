//! A whole question: all its texts are searched before any is changed, so that
//! a value has one placeholder wherever it stands, and none that the caller wrote himself.
use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{
    Finding, Kind, Mode, Pii,
    mask::{MOST_DIGITS, Vault},
    texts,
};
use crate::chat::Request;

/// How texts of a question are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Words of people, documents and tools: searched.
    Words,
    /// JSON text: searched; a number becomes a string.
    Json,
    /// Signed to the letter: only what was masked elsewhere is masked, as it was when the model wrote it.
    Signed,
}

/// Which numbers placeholders get.
pub struct Numbering<'a> {
    /// Texts that come to the question later: what they write themselves stays what it is.
    pub prompts: &'a [&'a str],
    /// The numbers that documents give to a label themselves.
    pub taken: &'a dyn Fn(&str) -> Vec<u32>,
    /// The key of a conversation: in all its turns a value has the same number. Without one they are counted from 1.
    pub key: Option<[u8; 32]>,
}

impl std::fmt::Debug for Numbering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Numbering").finish_non_exhaustive()
    }
}

/// What the texts of a question hold.
pub struct Survey<'p> {
    pii: &'p Pii,
    texts: usize,
    found: Vec<(usize, Finding)>,
    /// The values to be masked, in the order of the texts.
    values: Vec<(Kind, String)>,
    counts: HashMap<Kind, u32>,
    vault: Vault,
    known: Option<AhoCorasick>,
}

impl std::fmt::Debug for Survey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").finish_non_exhaustive()
    }
}

impl<'p> Survey<'p> {
    /// Searches all texts of a question; those of the system where they are to be searched.
    pub fn of(pii: &'p Pii, chat: &Request) -> Self {
        let (found, values) = Default::default();
        let mut survey = Self {
            pii,
            texts: 0,
            found,
            values,
            counts: HashMap::new(),
            vault: Vault::default(),
            known: None,
        };
        texts::each(chat, pii.system, &mut |text, name, trust| survey.look(text, name, trust));
        survey
    }

    /// Puts placeholders in the place of all that is to be masked. Gives back the values.
    pub fn mask(mut self, chat: &mut Request, numbering: &Numbering<'_>) -> Result<Vault, String> {
        // What the system's texts say is part of the conversation, searched or not.
        texts::each(chat, true, &mut |text, _, _| self.reserve(text));
        numbering.prompts.iter().for_each(|text| self.reserve(text));
        for kind in self.counts.keys() {
            let taken = (numbering.taken)(self.pii.rules.names(*kind).1);
            taken.iter().for_each(|number| self.vault.reserve(*kind, *number));
        }
        self.vault.number_by(numbering.key);
        self.settle()?;
        texts::each_mut(chat, self.pii.system, &mut |text, trust| {
            if let Some(masked) = self.masked(text, trust) {
                *text = masked;
            }
        });
        Ok(self.vault)
    }

    /// Searches the next text. `name` is the name of the field it stands in, where it has one: it may announce it.
    fn look(&mut self, text: &str, name: Option<&str>, trust: Trust) {
        let number = self.texts;
        self.texts += 1;
        if trust == Trust::Signed {
            return;
        }
        let found = match name.filter(|_| text.bytes().any(|b| b.is_ascii_digit())) {
            None => self.pii.in_question(text),
            Some(name) => {
                let before = name.len() + 2;
                let found = self.pii.in_question(&format!("{name}: {text}")).into_iter();
                let within = found.filter(|found| found.range.start >= before);
                within
                    .map(|found| Finding {
                        kind: found.kind,
                        range: found.range.start - before..found.range.end - before,
                    })
                    .collect()
            }
        };
        for found in found {
            *self.counts.entry(found.kind).or_default() += 1;
            if self.pii.mode(found.kind) == Mode::Mask {
                self.values.push((found.kind, text[found.range.clone()].to_owned()));
                self.found.push((number, found));
            }
        }
    }

    /// What was found, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, u32)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Whether anything is to be masked.
    pub fn masks(&self) -> bool {
        !self.values.is_empty()
    }

    /// Keeps free the placeholders that a text has itself. For every text, before [`Self::settle`].
    fn reserve(&mut self, text: &str) {
        for kind in self.counts.keys() {
            let label = self.pii.rules.names(*kind).1;
            for at in own(text, label) {
                let rest = text[at..].trim_start_matches(['\\', '_', ' ', '-']);
                let digits = rest.bytes().take(MOST_DIGITS).take_while(u8::is_ascii_digit).count();
                if let Ok(number) = rest[..digits].parse() {
                    self.vault.reserve(*kind, number);
                }
            }
        }
    }

    /// Gives every value its placeholder.
    fn settle(&mut self) -> Result<(), String> {
        for (kind, value) in &self.values {
            self.vault.put(self.pii, *kind, value);
        }
        let values = self.vault.entries().iter().map(|entry| &entry.value);
        let known = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(values);
        self.known = Some(known.map_err(|error| error.to_string())?);
        self.texts = 0;
        Ok(())
    }

    /// The next text with its placeholders; `None` where it stays as it is. In the same order as [`Self::look`].
    fn masked(&mut self, text: &str, trust: Trust) -> Option<String> {
        let number = self.texts;
        self.texts += 1;
        let own = self.found.partition_point(|(text, _)| *text < number)
            ..self.found.partition_point(|(text, _)| *text <= number);
        let mut ranges: Vec<_> = self.found[own].iter().map(|(_, found)| found.range.clone()).collect();
        let found_here = ranges.len();
        // The same value may stand where nothing announces it.
        for found in self.known.iter().flat_map(|known| known.find_iter(text)) {
            let range = found.range();
            let beside = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
            let alone =
                beside(text[..range.start].chars().next_back()) && beside(text[range.end..].chars().next());
            // What was found where it stands goes before a value that is only equal to another.
            let next = ranges[..found_here].partition_point(|other| other.end <= range.start);
            if alone && ranges[..found_here].get(next).is_none_or(|other| other.start >= range.end) {
                ranges.push(range);
            }
        }
        if ranges.is_empty() {
            return None;
        }
        ranges.sort_by_key(|range| range.start);
        let (mut masked, mut at) = (String::with_capacity(text.len()), 0);
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let Some(placeholder) =
                self.vault.placeholder(&text[range.clone()]).filter(|_| range.start >= at)
            else {
                continue;
            };
            masked.push_str(&text[at..range.start]);
            let after = &text[range.end..];
            let number = trust == Trust::Json
                && text[..range.start].trim_end().ends_with([':', ',', '['])
                && after.trim_start().starts_with([',', '}', ']'])
                && text[range.clone()].bytes().all(|b| b.is_ascii_digit());
            let quote = if number { "\"" } else { "" };
            masked.extend([quote, placeholder, quote]);
            at = range.end;
        }
        masked.push_str(&text[at..]);
        Some(masked)
    }
}

/// Where a label ends in a text that may be part of a placeholder.
fn own<'t>(text: &'t str, label: &'t str) -> impl Iterator<Item = usize> + 't {
    let first = label.as_bytes()[0];
    let starts = memchr::memchr2_iter(first, first.to_ascii_lowercase(), text.as_bytes());
    starts.filter_map(move |at| {
        let end = at + label.len();
        text.get(at..end).filter(|word| word.eq_ignore_ascii_case(label)).map(|_| end)
    })
}
