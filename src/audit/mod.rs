//! What became of every call: a durable record, the request's log line, and
//! the token count of answers whose provider gave none.
//!
//! A stage hands over a [`Record`] and gets a [`Ticket`]. The record is spelled
//! on the spot. One thread ([`keeper`]) links what was spelled into a keyed
//! chain ([`chain`]) and brings it to the disk ([`journal`]), many records at a
//! time; then the ticket is good. A task ([`filing`]) moves them from there into
//! the database ([`archive`]), where they are found, exported, checked and
//! erased. A call reserves its record's place before it starts: where no
//! record can be written no model is asked.
pub mod anchor;
pub mod archive;
mod beside;
pub mod chain;
mod claims;
mod commit;
mod counter;
pub mod erase;
pub mod export;
pub mod filing;
pub mod frame;
pub mod journal;
mod keeper;
mod line;
mod lock;
mod pace;
mod queue;
pub mod recheck;
mod rows;
pub mod settings;
mod start;
pub mod verify;
mod walk;
mod watermark;
mod writer;

use std::{
    borrow::Cow,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    call::{Context, Notes, Uncounted},
    chat::{Citation, Request, Usage},
    observe::Metrics,
    settings::SecretFrom,
};

pub use archive::{Archive, TABLES};
pub use chain::Key;
pub use commit::Ticket;
pub use filing::Filing;
pub use lock::Lock;
pub use rows::has_records;
pub use settings::Settings;
pub use writer::{Place, Writer};

use erase::{LeftOut, NewJournal, Unnoted, Unreadable, meta};
use frame::Kind;
use start::Started;

/// What became of a call.
#[derive(Debug)]
pub struct Record {
    /// When the call ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// How long until the first content.
    pub first_token: Option<Duration>,
    /// Who asked, how, and what the stages noted.
    pub context: Arc<Context>,
    /// What was asked; absent where the request was refused before it was read.
    pub chat: Option<Arc<Request>>,
    /// The HTTP status of the reply.
    pub status: u16,
    /// `complete`, `cancelled`, or the error's code.
    pub outcome: &'static str,
    /// The error and its causes, as the log shows it.
    pub error: Option<String>,
    /// The same with what a provider or a model said, where it said something; only the audit holds that.
    pub detail: Option<String>,
    /// What was answered, where the settings ask for it.
    pub answer: Option<Answer>,
    /// What the answer rests on.
    pub sources: Option<Arc<[Citation]>>,
    /// The versions in force.
    pub versions: Option<Arc<Versions>>,
    /// Whether a person should look: the caller was promised it.
    pub review: bool,
    /// How many more of its kind it stands for, which have no record of their own.
    pub more: u64,
    /// Where an earlier reply was given once more: the request that it was made for.
    pub replay_of: Option<Arc<str>>,
}

impl Record {
    /// Of a call that ends now, well, and of which nothing else is known.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            at: SystemTime::now(),
            took: context.began.elapsed(),
            first_token: None,
            context,
            chat: None,
            status: 200,
            outcome: "complete",
            error: None,
            detail: None,
            answer: None,
            sources: None,
            versions: None,
            review: false,
            more: 0,
            replay_of: None,
        }
    }
}

/// What was answered, as far as it is kept.
#[derive(Debug, Default)]
pub struct Answer {
    /// The text, up to a bound.
    pub text: String,
    /// The length of all of it, in bytes.
    pub length: usize,
}

/// What an answer depends on besides the question.
#[derive(Debug)]
pub struct Versions {
    /// The configuration's digest: routes, rules and limits.
    pub policy: Arc<str>,
    /// The price list's digest.
    pub prices: Arc<str>,
}

/// Puts placeholders where something personal is; the same one for the same
/// value, within one record.
pub trait Mask {
    /// The text with placeholders.
    fn mask<'t>(&mut self, text: &'t str) -> Cow<'t, str>;
    /// The same for a name of somebody of a tenant's, such as a user's id: different people stay different.
    fn name<'t>(&mut self, _tenant: &str, name: &'t str) -> Cow<'t, str> {
        self.mask(name)
    }
}

/// Makes what masks one record.
pub trait Masking: Send + Sync {
    /// What masks one record.
    fn masker(&self) -> Box<dyn Mask + '_>;
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
    /// Hears of the chain's end, from time to time.
    pub anchored: anchor::Anchored,
}

/// How records are spelled: what a reload may change.
pub struct Spelling<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// Whether request lines go to standard error as well, and whether as JSON.
    pub log: Option<bool>,
    /// What masks them.
    pub masks: Arc<dyn Masking>,
}

/// Opens the journal and starts what writes and moves records. Without records
/// there is only the writer, for log lines. `lock` is what [`Lock::take`] gave for these settings.
///
/// # Errors
/// The journal cannot be used, or the database does not answer; in words.
pub async fn open(
    spelling: &Spelling<'_>,
    ends: Ends,
    archive: Archive,
    metrics: Arc<Metrics>,
    lock: Option<Lock>,
) -> Result<(Writer, Option<Filing>), String> {
    let settings = spelling.settings;
    let copied = |error: std::io::Error| format!("`audit.file` cannot be opened: {error}");
    let Some(lock) = lock else {
        return Ok((Writer::start(spelling, ends, None, metrics).map_err(copied)?, None));
    };
    if !archive.is_lasting() {
        tracing::warn!("audit records are lost at the end of the process: the database is in memory");
    }
    let folder = &lock.folder().to_owned();
    let started = start::start(lock, &archive).await.map_err(|why| lock::unusable(folder, &why))?;
    let Started { journal, watermark, mark, filed, torn, damaged, unnoted, unreadable, unknown_before } =
        started;
    metrics.audit_damaged.set(damaged as i64);
    let (chain, head, key) = (journal.chain(), journal.head(), (*archive.key).clone());
    let writer = Writer::start(spelling, ends, Some((journal, key, watermark)), metrics).map_err(copied)?;
    let mut notes = Vec::new();
    let mut note = |meta: Vec<u8>| notes.push(writer.note(Kind::Act, "*", "", &meta));
    if torn > 0 {
        // It looks as a crash does, and who checks the records is told that it was there.
        note(meta(&LeftOut { left_out_bytes: torn as u64, after: head.seq }));
    }
    if unnoted {
        note(meta(&Unnoted { no_watermark_after: head.seq }));
    }
    if unreadable > 0 {
        note(meta(&Unreadable { unreadable_watermark_lines: unreadable as u64, after: head.seq }));
    }
    if unknown_before > 0 {
        note(meta(&NewJournal { new_journal_beside_chains: unknown_before as u64 }));
    }
    // What they tell of is gone from the folder by now: a process that is killed at once must not take them with it.
    for note in notes {
        if let Err(error) = note.wait().await {
            tracing::error!(%error, "what was found in the audit's journal could not be recorded there");
        }
    }
    let filing = Filing::start(folder, archive, writer.clone(), mark, settings.max_spool.0, (chain, filed));
    filing.remember().await;
    Ok((writer, Some(filing)))
}

/// The key of the chain: the configured one, else one made of the server's secret,
/// else one that is kept in the journal's folder, made if there is none.
///
/// # Errors
/// It cannot be read or made; in words.
pub fn key(settings: &Settings, secret: Option<[u8; 32]>) -> Result<Key, String> {
    if let Some(from) = &settings.key {
        return read_key(from).map_err(|why| format!("`audit.key`: {why}"));
    }
    match secret {
        Some(secret) => Ok(Key::new(&secret)),
        None => own_key(&settings.folder).map_err(|error| {
            format!("a key for the audit's chain cannot be kept in `{}`: {error}", settings.folder.display())
        }),
    }
}

/// The configured key.
///
/// # Errors
/// It is not there, or too short; in words.
pub fn read_key(from: &SecretFrom) -> Result<Key, String> {
    let secret = from.read()?;
    if secret.reveal().len() < SHORTEST_KEY {
        return Err(format!("the {from} holds no {SHORTEST_KEY} characters"));
    }
    Ok(Key::new(secret.reveal().as_bytes()))
}

/// The fewest characters of a configured key.
const SHORTEST_KEY: usize = 32;

fn own_key(folder: &Path) -> std::io::Result<Key> {
    let path = folder.join("key");
    fs::create_dir_all(folder)?;
    match fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(chain::hex(&rand::random::<[u8; 32]>()).as_bytes())?;
            file.sync_all()?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(Key::new(fs::read_to_string(&path)?.trim().as_bytes()))
}
