//! Placeholders for values, and the values of placeholders.
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
};

use super::{Finding, Kind, Pii, find::Wanted};

/// The values of one call and their placeholders. It lives with the call, and
/// neither its values nor its size can be printed.
#[derive(Default)]
pub struct Vault {
    entries: Vec<Entry>,
    /// The placeholders' words, each once.
    labels: Vec<(Box<str>, Kind)>,
    given: HashMap<(Kind, u32), usize>,
    places: HashMap<String, usize>,
    numbers: HashMap<Kind, u32>,
    /// Numbers that the texts themselves use: what a caller wrote is not a placeholder.
    reserved: HashSet<(Kind, u32)>,
}

/// A value.
pub(super) struct Entry {
    pub value: String,
    /// What stands for it, such as `[EMAIL_1]`.
    pub placeholder: String,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// Whether nothing was masked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The placeholders' words, each once, and what they stand for.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.labels.iter().map(|(label, kind)| (&**label, *kind))
    }

    /// Where the value of a placeholder is.
    pub(super) fn place(&self, kind: Kind, number: u32) -> Option<usize> {
        self.given.get(&(kind, number)).copied()
    }

    /// The placeholder of a value, where it has one.
    pub(super) fn placeholder(&self, value: &str) -> Option<&str> {
        self.places.get(value).map(|place| &*self.entries[*place].placeholder)
    }

    /// Keeps a number from being given: a text uses it itself.
    pub(super) fn reserve(&mut self, kind: Kind, number: u32) {
        self.reserved.insert((kind, number));
    }

    /// The placeholder of a value: the same as before where it has one.
    pub(super) fn put(&mut self, pii: &Pii, kind: Kind, value: &str) -> usize {
        if let Some(at) = self.places.get(value) {
            return *at;
        }
        let number = self.numbers.entry(kind).or_default();
        *number += 1;
        while self.reserved.contains(&(kind, *number)) {
            *number += 1;
        }
        let (number, label) = (*number, pii.rules.names(kind).1);
        if !self.labels.iter().any(|(_, known)| *known == kind) {
            self.labels.push((label.into(), kind));
        }
        self.given.insert((kind, number), self.entries.len());
        let placeholder = format!("[{label}_{number}]");
        self.entries.push(Entry { value: value.to_owned(), placeholder });
        self.places.insert(value.to_owned(), self.entries.len() - 1);
        self.entries.len() - 1
    }
}

/// Masks texts that share one vault.
pub struct Masker<'p> {
    pii: &'p Pii,
    wanted: Wanted,
    vault: Vault,
}

impl fmt::Debug for Masker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").finish_non_exhaustive()
    }
}

impl<'p> Masker<'p> {
    pub(super) fn new(pii: &'p Pii, wanted: Wanted) -> Self {
        Self { pii, wanted, vault: Vault::default() }
    }

    /// The text with a placeholder for every value; borrowed where there is none.
    pub fn mask<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let found = self.pii.find(text, self.wanted);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(self.replaced(text, &found))
    }

    /// The placeholder that a value got.
    pub fn placeholder(&self, value: &str) -> Option<&str> {
        self.vault.placeholder(value)
    }

    fn replaced(&mut self, text: &str, found: &[Finding]) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for Finding { kind, range } in found {
            masked.push_str(&text[at..range.start]);
            let place = self.vault.put(self.pii, *kind, &text[range.clone()]);
            masked.push_str(&self.vault.entries[place].placeholder);
            at = range.end;
        }
        masked.push_str(&text[at..]);
        masked
    }
}
