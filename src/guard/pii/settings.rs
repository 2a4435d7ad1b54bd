//! What happens to personal data and secrets, type by type.
use std::ops::Range;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, kind::KINDS};

/// What a finding leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is not looked for.
    Off,
    /// It is counted and noted.
    Log,
    /// Something else stands in its place.
    #[default]
    Mask,
    /// The question is refused; the answer does not leave.
    Block,
}

impl Mode {
    /// Its name, as in settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Mask => "mask",
            Self::Block => "block",
        }
    }
}

/// Makes the settings of one direction: every type with its default.
macro_rules! modes {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $default:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, garde::Validate)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$doc])* #[garde(skip)] pub $field: Mode,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: Mode::$default,)* }
            }
        }

        impl $name {
            /// The modes, in the order of the types.
            fn list(&self) -> [Mode; KINDS.len()] {
                [$(self.$field,)*]
            }
        }
    };
}

modes!(
    /// What happens to personal data in questions.
    Input {
        /// E-mail addresses.
        email: Mask,
        /// Telephone numbers.
        phone: Mask,
        /// Payment cards.
        card: Mask,
        /// Bank accounts (IBAN).
        iban: Mask,
        /// US social security numbers.
        ssn: Mask,
        /// UK health service numbers.
        nhs: Mask,
        /// UK national insurance numbers.
        nino: Mask,
        /// Passports.
        passport: Mask,
        /// IP addresses.
        ip: Mask,
        /// Dates of birth.
        birth: Mask,
        /// Addresses of crypto wallets.
        wallet: Mask,
        /// Keys, tokens, passwords, private keys.
        secret: Mask,
        /// Street addresses. Found by rules that miss many and mistake some.
        address: Off,
        /// Names of persons. Found by rules that miss many and mistake some.
        person: Off,
    }
);

modes!(
    /// What happens to personal data in answers that was not in the question.
    Output {
        /// E-mail addresses.
        email: Log,
        /// Telephone numbers.
        phone: Log,
        /// Payment cards, and any sixteen digits that stand alone.
        card: Block,
        /// Bank accounts (IBAN).
        iban: Mask,
        /// US social security numbers, and any number written like one.
        ssn: Block,
        /// UK health service numbers.
        nhs: Mask,
        /// UK national insurance numbers.
        nino: Mask,
        /// Passports.
        passport: Mask,
        /// IP addresses.
        ip: Log,
        /// Dates of birth.
        birth: Log,
        /// Addresses of crypto wallets.
        wallet: Log,
        /// Keys, tokens, passwords, private keys.
        secret: Mask,
        /// Street addresses.
        address: Off,
        /// Names of persons.
        person: Off,
    }
);

/// Personal data and secrets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What happens to them in questions.
    #[garde(dive)]
    pub input: Input,
    /// What happens to them in answers.
    #[garde(dive)]
    pub output: Output,
    /// Whether system prompts are searched, too.
    #[garde(skip)]
    pub system: bool,
    /// Further types.
    #[garde(dive, length(max = MOST_CUSTOM))]
    pub custom: Vec<CustomSettings>,
}

/// The most types that the configuration may add.
pub const MOST_CUSTOM: usize = 32;

/// A type that the configuration adds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct CustomSettings {
    /// Its name, as in metrics; in capitals it is the placeholder's.
    #[garde(custom(is_name))]
    #[schemars(regex(pattern = "^[a-z][a-z0-9_]{0,31}$"))]
    pub name: String,
    /// A regular expression of what is looked for.
    #[serde(default)]
    #[garde(custom(is_pattern))]
    pub pattern: Option<String>,
    /// The words that are looked for, whole and in any case.
    #[serde(default)]
    #[garde(length(max = 10_000), inner(length(chars, min = 2, max = 200)))]
    pub words: Vec<String>,
    /// What happens to it in questions.
    #[serde(default)]
    #[garde(skip)]
    pub input: Mode,
    /// What happens to it in answers.
    #[serde(default = "log")]
    #[garde(skip)]
    pub output: Mode,
    /// The longest match of the pattern, in bytes: what a stream holds back where answers are masked or blocked.
    #[serde(default = "longest")]
    #[garde(range(min = 1, max = 1024))]
    pub longest: usize,
}

fn log() -> Mode {
    Mode::Log
}

fn longest() -> usize {
    64
}

fn is_name(name: &str, _: &()) -> garde::Result {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !first || !rest || name.len() > 32 {
        return Err(garde::Error::new(
            "must be small letters, digits and underscores, a letter first, at most 32",
        ));
    }
    match KINDS.iter().any(|(_, known, _)| *known == name) {
        true => Err(garde::Error::new("is the name of a type that comes with Sluice")),
        false => Ok(()),
    }
}

#[expect(clippy::ref_option, reason = "garde hands the field over as it is")]
fn is_pattern(pattern: &Option<String>, _: &()) -> garde::Result {
    let Some(pattern) = pattern else { return Ok(()) };
    match compiled(pattern) {
        Ok(pattern) if pattern.is_match("") => Err(garde::Error::new("matches the empty text")),
        Ok(_) => Ok(()),
        Err(error) => Err(garde::Error::new(error)),
    }
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| error.to_string())
}

/// A type that the configuration adds, ready to be looked for.
#[derive(Debug)]
pub(super) struct Custom {
    pub name: std::sync::Arc<str>,
    pub label: Box<str>,
    pub longest: usize,
    pattern: Option<Regex>,
    words: Option<aho_corasick::AhoCorasick>,
}

impl Custom {
    fn new(settings: &CustomSettings) -> Result<Self, String> {
        let words = settings.words.iter().map(String::len).max();
        let automaton = aho_corasick::AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(aho_corasick::MatchKind::LeftmostLongest)
            .build(&settings.words)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            name: settings.name.as_str().into(),
            label: settings.name.to_uppercase().into(),
            longest: settings
                .pattern
                .as_ref()
                .map_or(0, |_| settings.longest)
                .max(words.map_or(0, |longest| longest + 1)),
            pattern: settings.pattern.as_deref().map(compiled).transpose()?,
            words: words.map(|_| automaton),
        })
    }

    /// What matches, the longest match as configured.
    pub(super) fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let pattern =
            self.pattern.iter().flat_map(move |pattern| pattern.find_iter(text)).map(|found| found.range());
        let alone = |range: &Range<usize>| {
            let beside = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            beside(text[..range.start].chars().next_back()) && beside(text[range.end..].chars().next())
        };
        let words = self.words.iter().flat_map(move |words| words.find_iter(text)).map(|found| found.range());
        let short = |range: &Range<usize>| !range.is_empty() && range.len() <= self.longest;
        pattern.filter(short).chain(words.filter(move |range| alone(range)))
    }
}

/// The modes of all types, and the types that the configuration adds.
#[derive(Debug)]
pub(super) struct Rules {
    pub input: Vec<Mode>,
    pub output: Vec<Mode>,
    /// The types' names.
    pub labels: Vec<std::sync::Arc<str>>,
    pub custom: Vec<Custom>,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let mut rules = Self {
            input: settings.input.list().into(),
            output: settings.output.list().into(),
            labels: KINDS.iter().map(|(_, name, _)| (*name).into()).collect(),
            custom: Vec::new(),
        };
        for custom in settings.custom.iter().take(MOST_CUSTOM) {
            let made = Custom::new(custom).map_err(|why| format!("pii.custom `{}`: {why}", custom.name))?;
            rules.labels.push(made.name.clone());
            rules.custom.push(made);
            rules.input.push(custom.input);
            rules.output.push(custom.output);
        }
        Ok(rules)
    }

    /// The types whose mode is one of some.
    pub(super) fn kinds(modes: &[Mode], wanted: impl Fn(Mode) -> bool) -> u64 {
        modes.iter().enumerate().filter(|(_, mode)| wanted(**mode)).fold(0, |set, (at, _)| set | 1 << at)
    }

    /// The name and the placeholder's word of a type.
    pub(super) fn names(&self, kind: Kind) -> (&str, &str) {
        match kind {
            Kind::Custom(at) => self
                .custom
                .get(usize::from(at))
                .map_or(("custom", "CUSTOM"), |custom| (&custom.name, &custom.label)),
            kind => KINDS
                .iter()
                .find(|(known, ..)| *known == kind)
                .map_or(("pii", "PII"), |(_, name, label)| (name, label)),
        }
    }
}
