//! What became of every call: the audit line, the request's log line, and the
//! token count of answers whose provider gave none.
//!
//! Stages hand over a [`Record`] and go on. It is spelled on the spot; one
//! thread writes what was spelled in batches, so that no call waits for a
//! disk. A call reserves its record's place before it starts: a full queue
//! refuses new calls, it never drops the record of an old one.
mod line;
mod writer;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::{Context, Notes, Uncounted},
    chat::{Request, Usage},
};

pub use writer::{Place, Writer};

/// Where the audit lines go.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The file that gets one JSON line a call; `null`: the log's own lines are all there is.
    #[garde(skip)]
    pub file: Option<PathBuf>,
    /// Whether the lines hold questions and answers. Off: only their lengths.
    #[garde(skip)]
    pub content: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file: Some("data/audit.jsonl".into()), content: false }
    }
}

/// What became of a call.
#[derive(Debug)]
pub struct Record {
    /// When the call ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Who asked, how, and what the stages noted.
    pub context: Arc<Context>,
    /// What was asked; absent where the request was refused before it was read.
    pub chat: Option<Arc<Request>>,
    /// The HTTP status of the reply.
    pub status: u16,
    /// `complete`, `cancelled`, or the error's code.
    pub outcome: &'static str,
    /// The error and its causes.
    pub error: Option<String>,
    /// What was answered, where the settings ask for it.
    pub answer: Option<String>,
    /// Whether a person should look: the caller was promised it.
    pub review: bool,
}

/// Counts what an answer took where its provider did not say, and accounts
/// for it. Called on the writer's thread.
pub type Settle = Arc<dyn Fn(&Uncounted) -> Usage + Send + Sync>;
/// Hears of every call that is over, when all of it is known.
pub type Done = Arc<dyn Fn(&Record, &Notes) + Send + Sync>;

/// What else happens when a call is over.
pub struct Ends {
    /// Counts and accounts for what nobody counted.
    pub settle: Settle,
    /// Hears of the call.
    pub done: Done,
}
