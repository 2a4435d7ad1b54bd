//! Placeholders for values, and the values of placeholders.
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt::{self, Write as _},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

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
    /// By what a value's number is made; without it, numbers are counted.
    key: Option<[u8; 32]>,
}

/// No placeholder's number has more digits.
pub(super) const MOST_DIGITS: usize = 9;
/// The numbers that are made by a key: nine digits, so that two values of one conversation hardly ever have the
/// same (of a hundred values, in one of 180,000 conversations).
const KEYED: std::ops::Range<u32> = 100_000_000..1_000_000_000;

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

    /// Has numbers made by this key.
    pub(super) fn number_by(&mut self, key: Option<[u8; 32]>) {
        self.key = key;
    }

    /// The placeholder of a value: the same as before where it has one.
    pub(super) fn put(&mut self, pii: &Pii, kind: Kind, value: &str) -> usize {
        if let Some(at) = self.places.get(value) {
            return *at;
        }
        let label = pii.rules.names(kind).1;
        let number = match &self.key {
            None => {
                let mut next = self.numbers.get(&kind).copied().unwrap_or_default() + 1;
                while self.reserved.contains(&(kind, next)) {
                    next += 1;
                }
                self.numbers.insert(kind, next);
                next
            }
            Some(key) => {
                let mut next = keyed(key, label, value);
                // One call has far fewer values than there are numbers.
                for _ in KEYED {
                    if !self.reserved.contains(&(kind, next)) && !self.given.contains_key(&(kind, next)) {
                        break;
                    }
                    next = if next + 1 < KEYED.end { next + 1 } else { KEYED.start };
                }
                next
            }
        };
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

/// What tags for the names of people are made with: a secret of the server.
#[derive(Clone)]
pub struct Tags([u8; 32]);

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tags")
    }
}

impl Tags {
    /// Made of a secret of the server.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }
}

/// The number of a value under a key: the same each time, and nothing tells the value by it.
fn keyed(key: &[u8; 32], label: &str, value: &str) -> u32 {
    let tag = tag(key, &[label, value]);
    let number = tag.first_chunk().copied().map_or(0, u64::from_be_bytes);
    KEYED.start + (number % KEYED.len() as u64) as u32
}

/// A keyed digest in which no part can be taken for the end of another.
fn tag(key: &[u8; 32], parts: &[&str]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
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

    /// A name of somebody, such as a user's id, with a short keyed tag for every value: `[EMAIL:3f9a12c4]`. Who has
    /// the key can tell one from another, and find what is said about one again; nobody can tell the value.
    pub fn name<'t>(&self, text: &'t str, tenant: &str, tags: &Tags) -> Cow<'t, str> {
        let found = self.pii.find(text, self.wanted);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut named, mut at) = (String::with_capacity(text.len()), 0);
        for Finding { kind, range } in &found {
            let label = self.pii.rules.names(*kind).1;
            // `Ann@Example.org` is the same person.
            let [a, b, c, d, ..] = tag(&tags.0, &[tenant, label, &text[range.clone()].to_lowercase()]);
            let value = u32::from_be_bytes([a, b, c, d]);
            named.push_str(&text[at..range.start]);
            // Writing to a string cannot fail.
            let _ = write!(named, "[{label}:{value:08x}]");
            at = range.end;
        }
        named.push_str(&text[at..]);
        Cow::Owned(named)
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
