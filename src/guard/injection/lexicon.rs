//! What words do in a sentence: `lexicon.txt`, read once.
use std::{collections::HashMap, ops::BitOrAssign, sync::LazyLock};

use super::{fold, tokens};

/// A set of classes of the lexicon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(pub(super) u64);

impl Classes {
    /// Whether any of the other set is in it.
    pub(super) fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOrAssign for Classes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The words, and what rules and decoders need to know of them.
pub(super) struct Lexicon {
    names: Vec<&'static str>,
    words: HashMap<u64, Classes, foldhash::fast::FixedState>,
    /// A bit for each hash that may be there: most words are told by one look at it.
    seen: Box<[u64; 1024]>,
    /// Single words in Latin letters that tell of an attack: what decoders look for.
    pub(super) telling: Vec<String>,
    /// What an address of e-mail is: somewhere to send things to.
    pub(super) address: Classes,
    /// Words about attacks, translation, examples: what follows is spoken about.
    pub(super) discuss: Classes,
    /// Instructions, and words between them and what they are about.
    pub(super) instructions: Classes,
    pub(super) about: Classes,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::read(include_str!("lexicon.txt")));

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

    fn read(text: &'static str) -> Self {
        let mut lexicon = Self {
            names: Vec::new(),
            words: HashMap::default(),
            seen: Box::new([0; 1024]),
            telling: Vec::new(),
            address: Classes::default(),
            discuss: Classes::default(),
            instructions: Classes::default(),
            about: Classes::default(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words = match line.split_once(':').filter(|_| !line.starts_with(' ')) {
                Some((name, words)) => {
                    lexicon.names.push(name);
                    words
                }
                None => line,
            };
            words.split_whitespace().for_each(|word| lexicon.add(word));
        }
        lexicon.address = lexicon.set("target").unwrap_or_default();
        lexicon.discuss = lexicon.set("discuss").unwrap_or_default();
        lexicon.instructions = lexicon.set("instr|instrw").unwrap_or_default();
        lexicon.about = lexicon.set("about").unwrap_or_default();
        lexicon.telling.sort_unstable();
        lexicon.telling.dedup();
        lexicon
    }

    fn add(&mut self, word: &str) {
        let folded = fold::plain(&word.replace('_', " "));
        let hashes: Vec<u64> = tokens::cut(&folded, &Self::empty()).iter().map(|token| token.hash).collect();
        let Some((last, before)) = hashes.split_last() else { return };
        let hash = before.iter().rev().fold(*last, |phrase, before| tokens::join(*before, phrase));
        self.words.entry(hash).or_default().0 |= 1 << (self.names.len() - 1);
        self.seen[(hash >> 6) as usize & 1023] |= 1 << (hash & 63);
        let telling = self.names.last().is_some_and(|name| TELLING.contains(name));
        if telling && folded.len() >= 5 && folded.bytes().all(|b| b.is_ascii_lowercase()) {
            self.telling.push(folded);
        }
    }

    fn empty() -> Self {
        Self {
            names: Vec::new(),
            words: HashMap::default(),
            seen: Box::new([0; 1024]),
            telling: Vec::new(),
            address: Classes::default(),
            discuss: Classes::default(),
            instructions: Classes::default(),
            about: Classes::default(),
        }
    }

    /// The classes of a word or of an expression.
    pub(super) fn classes(&self, hash: u64) -> Classes {
        if self.seen[(hash >> 6) as usize & 1023] >> (hash & 63) & 1 == 0 {
            return Classes::default();
        }
        self.words.get(&hash).copied().unwrap_or_default()
    }

    /// The set of the classes that are named, joined by `|`.
    pub(super) fn set(&self, names: &str) -> Option<Classes> {
        names.split('|').try_fold(Classes::default(), |set, name| {
            self.names.iter().position(|known| *known == name).map(|at| Classes(set.0 | 1 << at))
        })
    }
}
