//! What is looked for, and what it leads to.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::guard::{remote, settings::Mode};

/// What becomes of each category, by its name.
pub type Categories = BTreeMap<String, Mode>;

/// What becomes of unsafe content, in what is asked and in what is answered.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// off: nobody looks; log: findings are counted and noted; block: they are refused.
    #[garde(skip)]
    pub mode: Mode,
    /// Another mode for a category, by its name.
    #[garde(length(max = 256))]
    pub categories: Categories,
    /// Whether questions are looked at.
    #[garde(skip)]
    pub input: bool,
    /// Whether answers are.
    #[garde(skip)]
    pub output: bool,
    /// Whether the rules that come with Sluice apply.
    #[garde(skip)]
    pub builtin: bool,
    /// Rules of one's own.
    #[garde(length(max = 256), dive, custom(say_something))]
    pub rules: Vec<Rule>,
    /// A moderation service with OpenAI's API, asked besides.
    #[garde(dive)]
    pub moderation: Moderation,
    /// What is taken out of the text of `/predict`.
    #[garde(dive)]
    pub sanitize: Sanitize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Log,
            categories: Categories::new(),
            input: true,
            output: true,
            builtin: true,
            rules: Vec::new(),
            moderation: Moderation::default(),
            sanitize: Sanitize::default(),
        }
    }
}

/// What belongs to a category.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The category, one of one's own or a built-in one.
    #[garde(custom(is_name))]
    pub category: String,
    /// Phrases, found as whole words whatever their case.
    #[garde(length(max = 10_000), inner(custom(is_phrase)))]
    pub phrases: Vec<String>,
    /// Regular expressions over the text in lower case; each has to have a longest match.
    #[garde(length(max = 256), inner(custom(is_pattern)))]
    pub patterns: Vec<String>,
    /// What it leads to; absent: what its category does.
    #[garde(skip)]
    pub mode: Option<Mode>,
}

/// A moderation service with OpenAI's API.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Moderation {
    /// Where it is, and what holds without it.
    #[garde(dive)]
    pub service: remote::Settings,
    /// The model that it is to use; absent: its own choice.
    #[garde(skip)]
    pub model: Option<String>,
    /// From which score on a category counts, 0 to 1; absent: where the service flags it.
    #[garde(inner(range(min = 0.01, max = 1.0)))]
    pub threshold: Option<f32>,
    /// What its findings lead to, besides the modes by category.
    #[garde(skip)]
    pub mode: Mode,
    /// Whether answers are sent to it, too. They are held until it has spoken, streams as well.
    #[garde(skip)]
    pub output: bool,
}

impl Default for Moderation {
    fn default() -> Self {
        let service = remote::Settings::default();
        Self { service, model: None, threshold: None, mode: Mode::Block, output: false }
    }
}

/// What is taken out of a text.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Sanitize {
    /// Whether control characters and markup are.
    #[garde(skip)]
    pub enabled: bool,
    /// Whether `<`, `>`, `{` and `}` are.
    #[garde(skip)]
    pub markup: bool,
    /// The longest text, in characters; the rest is cut.
    #[garde(range(min = 1))]
    pub max_chars: usize,
}

impl Default for Sanitize {
    fn default() -> Self {
        Self { enabled: false, markup: true, max_chars: 10_000 }
    }
}

fn say_something(rules: &[Rule], (): &()) -> garde::Result {
    let empty = rules.iter().position(|rule| rule.phrases.is_empty() && rule.patterns.is_empty());
    let told = |at| garde::Error::new(format!("[{at}] has neither phrases nor patterns"));
    empty.map_or(Ok(()), |at| Err(told(at)))
}

fn is_phrase(phrase: &str, (): &()) -> garde::Result {
    (!phrase.trim().is_empty()).then_some(()).ok_or_else(|| garde::Error::new("is empty"))
}

fn is_pattern(pattern: &str, (): &()) -> garde::Result {
    super::read(pattern).map_err(garde::Error::new)?;
    // It can be read, and be too large to be made all the same.
    regex::Regex::new(&super::bounded(pattern)).map(drop).map_err(garde::Error::new)
}

fn is_name(name: &str, (): &()) -> garde::Result {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'/' | b'-');
    let known = (1..=40).contains(&name.len()) && name.bytes().all(fits);
    let problem = "must be 1 to 40 of `a` to `z`, digits, `_`, `-` and `/`";
    known.then_some(()).ok_or_else(|| garde::Error::new(problem))
}
