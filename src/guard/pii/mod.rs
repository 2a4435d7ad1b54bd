//! Personal data and secrets: found, counted, masked and given back.
//!
//! A search goes over the text once for the words that announce a value or
//! begin a secret, and once for digits and signs; only what they point at is
//! judged, by the recogniser of its type: its form, its check digits, and what
//! stands around it. A text in which they find nothing costs next to nothing.
mod answers;
mod birth;
mod card;
mod email;
mod escape;
mod find;
mod fold;
mod iban;
mod key;
mod kind;
mod led;
mod login;
mod looks;
mod mask;
mod national;
mod network;
mod open;
mod own;
mod people;
mod phone;
mod question;
mod restore;
mod secret;
pub mod settings;
mod spoken;
mod table;
mod text;
mod texts;
mod tie;
mod trie;
mod wallet;
mod words;

use std::{ops::Range, sync::Arc};

pub use answers::Answers;
use find::Wanted;
pub use kind::Kind;
pub use mask::{Masker, Tags, Vault};
pub use question::{Numbering, Survey};
pub use restore::Restore;
use settings::Rules;
pub use settings::{Mode, Settings};
use text::has_numbers;
pub(super) use texts::texts_in;

/// The types that are looked for, and what is done about each.
#[derive(Debug)]
pub struct Pii {
    rules: Rules,
    /// Whether system prompts are searched, too.
    pub system: bool,
    input: u64,
    any: u64,
    answers_held: u64,
    answers_watched: u64,
}

/// The types that digits, an at sign or a word show: without any of them none is there.
const PLAIN: u64 = (1 << 12) - 1;

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Where it is, in bytes.
    pub range: Range<usize>,
}

impl Pii {
    /// Compiles the settings.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let rules = Rules::new(settings)?;
        let on = |mode| mode != Mode::Off;
        let input = Rules::kinds(&rules.input, on);
        Ok(Self {
            system: settings.system,
            input,
            any: input | Rules::kinds(&rules.output, on),
            answers_held: Rules::kinds(&rules.output, |mode| matches!(mode, Mode::Mask | Mode::Block)),
            answers_watched: Rules::kinds(&rules.output, |mode| mode == Mode::Log),
            rules,
        })
    }

    /// Makes what the first question would have to wait for.
    pub fn prepare(&self) {
        if self.input != 0 {
            find::find("words", Wanted { kinds: self.input, ahead: true, shapes: false }, &[]);
        }
    }

    /// What a question holds of the types that are not off, in order.
    pub fn in_question(&self, text: &str) -> Vec<Finding> {
        self.find(text, Wanted { kinds: self.input, ahead: true, shapes: false })
    }

    /// Whether a word that a client made up, such as the id of a request, holds what is never to be written down,
    /// whatever the settings say.
    pub fn tells(word: &str) -> bool {
        let wanted = Wanted { kinds: PLAIN, ahead: true, shapes: false };
        has_numbers(word) && !find::find(word, wanted, &[]).is_empty()
    }

    fn find(&self, text: &str, wanted: Wanted) -> Vec<Finding> {
        if wanted.kinds == 0 {
            return Vec::new();
        }
        find::find(text, wanted, &self.rules.custom)
            .into_iter()
            .map(|(kind, range)| Finding { kind, range })
            .collect()
    }

    /// What happens to a type in a question.
    pub fn mode(&self, kind: Kind) -> Mode {
        self.rules.input.get(kind.index()).copied().unwrap_or(Mode::Off)
    }

    /// The name of a type, as in settings and metrics.
    pub fn name(&self, kind: Kind) -> &str {
        self.rules.names(kind).0
    }

    /// The types that are looked for in answers, and what happens to each.
    pub fn output_modes(&self) -> serde_json::Map<String, serde_json::Value> {
        self.modes(&self.rules.output)
    }

    /// The types that are looked for in questions, and what happens to each.
    pub fn input_modes(&self) -> serde_json::Map<String, serde_json::Value> {
        self.modes(&self.rules.input)
    }

    fn modes(&self, modes: &[Mode]) -> serde_json::Map<String, serde_json::Value> {
        let on = self.rules.labels.iter().zip(modes).filter(|(_, mode)| **mode != Mode::Off);
        on.map(|(name, mode)| (name.to_string(), serde_json::json!(mode))).collect()
    }

    /// The name of a type, to be kept.
    pub fn label(&self, kind: Kind) -> Arc<str> {
        self.rules.labels.get(kind.index()).cloned().unwrap_or_default()
    }

    /// Masks the texts of one record, all types that are not off in questions and answers both.
    pub fn masker(&self) -> Masker<'_> {
        Masker::new(self, Wanted { kinds: self.any, ahead: true, shapes: false })
    }
}
