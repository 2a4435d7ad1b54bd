//! The audit, as it is written down.
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{SecretFrom, Size, Span, is_address};

/// How records are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// When a reply ends: `strict`, once its record is on the disk; `relaxed`, before; `off`: there are no records.
    #[garde(skip)]
    pub durability: Durability,
    /// The folder of the journal that records are written into first. Each gateway has its own.
    #[garde(skip)]
    pub folder: PathBuf,
    /// How long a record may wait for others that go to the disk with it: while calls are under way that may end, or come one after the other all the time.
    #[garde(custom(at_most_a_second))]
    pub gather: Span,
    /// What records hold of questions and answers: `masked`, or `none`, only their lengths.
    #[garde(skip)]
    pub content: Content,
    /// The most that a record holds of a question, and of an answer. What is longer is cut, and says so.
    #[garde(custom(at_most_256_kib))]
    pub max_content: Size,
    /// What becomes of calls while the database takes no records: `spool`, they wait in the journal; `refuse`.
    #[garde(skip)]
    pub on_failure: OnFailure,
    /// How much may wait in the journal for the database. Beyond that calls are refused.
    #[garde(skip)]
    pub max_spool: Size,
    /// How many days records are kept; absent: for ever.
    #[garde(range(min = 1, max = 36500))]
    pub retention_days: Option<u32>,
    /// Where the secret is that the chain of records is made with; absent: it is made of `auth.pepper`.
    #[garde(skip)]
    pub key: Option<SecretFrom>,
    /// How often the chain's end is told to the log, and to the places below.
    #[garde(custom(at_least_a_second))]
    pub anchor_every: Span,
    /// A file that the chain's end is appended to, on another disk at best; absent: none.
    #[garde(skip)]
    pub anchor_file: Option<PathBuf>,
    /// An address that the chain's end is sent to with POST; absent: none.
    #[garde(inner(custom(is_address)))]
    pub anchor_url: Option<String>,
    /// A file that gets each record as a line of JSON besides, without any promise; absent: none.
    #[garde(skip)]
    pub file: Option<PathBuf>,
}

/// What is promised of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A reply ends once its record is on the disk.
    #[default]
    Strict,
    /// A reply ends before.
    Relaxed,
    /// There are no records.
    Off,
}

/// What records hold of questions and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Nothing.
    None,
    /// Their text, with placeholders for what is personal.
    #[default]
    Masked,
}

/// What becomes of calls while the database takes no records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They are refused.
    Refuse,
    /// Their records wait in the journal.
    #[default]
    Spool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            folder: "data/audit".into(),
            gather: Span::millis(2),
            content: Content::default(),
            max_content: Size(16 << 10),
            on_failure: OnFailure::default(),
            max_spool: Size(1 << 30),
            retention_days: None,
            key: None,
            anchor_every: Span::secs(60),
            anchor_file: None,
            anchor_url: None,
            file: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands it over so")]
fn at_most_a_second(span: &Span, (): &()) -> garde::Result {
    match span.0.as_millis() {
        0..=1000 => Ok(()),
        _ => Err(garde::Error::new("must be at most `1s`: replies wait for it")),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands it over so")]
fn at_least_a_second(span: &Span, (): &()) -> garde::Result {
    match span.0.as_secs() {
        0 => Err(garde::Error::new("must be at least `1s`")),
        _ => Ok(()),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands it over so")]
fn at_most_256_kib(size: &Size, (): &()) -> garde::Result {
    match size.0 <= 256 << 10 {
        true => Ok(()),
        false => Err(garde::Error::new("must be at most `256KiB`")),
    }
}
