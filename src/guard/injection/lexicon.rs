//! What words do in a sentence: `lexicon.txt` and `tongues.txt`, read once.
use std::{ops::BitOrAssign, sync::LazyLock};

use super::{
    fold,
    table::{Sieve, Table},
    tokens,
};

/// A set of classes of the lexicon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(pub(super) u64);

impl Classes {
    /// Whether any of the other set is in it.
    pub(super) fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a word has besides its classes that only another language than English has: what a rule says of such words is
/// learned apart, so that neither spoils what was learned of the other.
pub(super) const FOREIGN: Classes = Classes(1 << 63);

impl BitOrAssign for Classes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The words, and what rules and decoders need to know of them.
#[derive(Default)]
pub(super) struct Lexicon {
    names: Vec<&'static str>,
    words: Table,
    /// The words with which expressions end.
    ends: Sieve,
    /// Single words in Latin letters that tell of an attack: what decoders look for.
    pub(super) telling: Vec<String>,
    /// What an address of e-mail is: somewhere to send things to.
    pub(super) address: Classes,
    /// What a function is, by its name or another word.
    pub(super) tool: Classes,
    /// Words about attacks, translation, examples: what follows is spoken about.
    pub(super) discuss: Classes,
    /// Instructions, and words between them and what they are about.
    pub(super) instructions: Classes,
    pub(super) about: Classes,
}

static LEXICON: LazyLock<Lexicon> =
    LazyLock::new(|| Lexicon::read(include_str!("lexicon.txt"), include_str!("tongues.txt")));

/// Classes whose words decoders look for in text that is turned, shifted or torn apart.
const TELLING: &[&str] = &[
    "override",
    "prior",
    "instr",
    "show",
    "prompt",
    "secret",
    "limits",
    "unbound",
    "role",
    "refuse",
    "ai",
    "data",
    "harm",
    "decode",
    "authority",
    "hide",
    "user",
    "words",
    "send",
    "obey",
    "limits",
    "follow",
    "task",
    "above",
];

impl Lexicon {
    /// The one lexicon.
    pub(super) fn get() -> &'static Self {
        &LEXICON
    }

    /// Reads the classes with their words, and further words of them that decoders need not look for.
    fn read(text: &'static str, further: &'static str) -> Self {
        let mut lexicon = Self::default();
        // Words are cut without knowing any.
        let none = Self::default();
        let mut words: Vec<(u64, u64)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let in_line = match line.split_once(':').filter(|_| !line.starts_with(' ')) {
                Some((name, words)) => {
                    lexicon.names.push(name);
                    words
                }
                None => line,
            };
            for word in in_line.split_whitespace() {
                let Some((folded, hash)) = lexicon.add(word, &none) else { continue };
                words.push((hash, 1 << (lexicon.names.len() - 1)));
                let telling = lexicon.names.last().is_some_and(|name| TELLING.contains(name));
                if telling && folded.len() >= 5 && folded.bytes().all(|b| b.is_ascii_lowercase()) {
                    lexicon.telling.push(folded);
                }
            }
        }
        let known = Table::new(&words, |one, other| one | other);
        for line in further.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, in_line)) = line.split_once(':') else { continue };
            let Some(class) = lexicon.set(name) else { continue };
            let added = in_line.split_whitespace().filter_map(|word| lexicon.add(word, &none));
            let foreign = |hash| if known.get(hash) == 0 { FOREIGN.0 } else { 0 };
            words.extend(added.map(|(_, hash)| (hash, class.0 | foreign(hash))));
        }
        lexicon.words = Table::new(&words, |one, other| one | other);
        lexicon.address = lexicon.set("target").unwrap_or_default();
        lexicon.tool = lexicon.set("tool").unwrap_or_default();
        lexicon.discuss = lexicon.set("discuss").unwrap_or_default();
        lexicon.instructions = lexicon.set("instr|instrw").unwrap_or_default();
        lexicon.about = lexicon.set("about").unwrap_or_default();
        lexicon.telling.sort_unstable();
        lexicon.telling.dedup();
        lexicon
    }

    /// Takes in a word or an expression; gives back what it is folded to, and its hash.
    fn add(&mut self, word: &str, none: &Self) -> Option<(String, u64)> {
        let folded = fold::plain(&word.replace('_', " "));
        let hashes: Vec<u64> = tokens::cut(&folded, none).iter().map(|token| token.hash).collect();
        let (last, before) = hashes.split_last()?;
        if !before.is_empty() {
            self.ends.insert(*last);
        }
        let hash = before.iter().rev().fold(*last, |phrase, before| tokens::join(*before, phrase));
        Some((folded, hash))
    }

    /// The classes of a word or of an expression.
    pub(super) fn classes(&self, hash: u64) -> Classes {
        Classes(self.words.get(hash))
    }

    /// Whether expressions may end with a word.
    pub(super) fn ends_expression(&self, hash: u64) -> bool {
        self.ends.may_have(hash)
    }

    /// The set of the classes that are named, joined by `|`.
    pub(super) fn set(&self, names: &str) -> Option<Classes> {
        names.split('|').try_fold(Classes::default(), |set, name| {
            self.names.iter().position(|known| *known == name).map(|at| Classes(set.0 | 1 << at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_words_are_of_known_classes() {
        let further = include_str!("tongues.txt");
        let lines = || further.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert!(lines().count() > 400);
        for line in lines() {
            let (name, words) = line.split_once(": ").unwrap();
            assert!(Lexicon::get().set(name).is_some() && !words.is_empty(), "{line}");
            // Of longer ones only the end would be known: of three words before another, none.
            let cut =
                |word: &str| tokens::cut(&fold::plain(&word.replace('_', " ")), &Lexicon::default()).len();
            for word in words.split(' ') {
                assert!((1..=4).contains(&cut(word)), "{word} of {name} has {} words", cut(word));
            }
        }
    }

    #[test]
    fn a_word_that_english_has_is_not_foreign() {
        let of = |word: &str| Lexicon::get().classes(tokens::hash(fold::plain(word).as_bytes()));
        assert!(of("zapomeň").any(FOREIGN) && !of("ignore").any(FOREIGN) && !of("prompt").any(FOREIGN));
    }
}
