//! One question on its way through the gateway.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

pub use crate::caller::{Caller, Priority};
use crate::{
    chat::{Cost, Grounding, Request, Usage},
    purse::{Purse, Share},
};

/// One question on its way through the gateway. Cloning copies no message.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks, and how.
    pub context: Arc<Context>,
    /// What is asked.
    pub chat: Arc<Request>,
    /// Who is to answer; set by the `fallback` stage.
    pub target: Option<Arc<Target>>,
    /// Whether another target is left to be asked: then nobody waits long for this one.
    pub others: bool,
    /// What pays for attempts, where a budget applies; set by the `budget` stage.
    pub purse: Option<Arc<dyn Purse>>,
    /// Puts the caller's own values in the place of placeholders, where an answer's JSON is judged by a schema;
    /// set by the `screen` stage.
    pub own: Option<Own>,
}

/// Gives a text with the caller's own values, spelled as JSON wants them.
#[derive(Clone)]
pub struct Own(pub Arc<dyn Fn(&str) -> String + Send + Sync>);

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl Call {
    /// A call that begins.
    pub fn new(context: Context, chat: Request) -> Self {
        let (context, chat) = (Arc::new(context), Arc::new(chat));
        Self { context, chat, target: None, others: false, purse: None, own: None }
    }

    /// The chat, to be changed. Copies it only if another attempt still holds it.
    pub fn chat_mut(&mut self) -> &mut Request {
        Arc::make_mut(&mut self.chat)
    }

    /// The notebook of this call.
    pub fn trail(&self) -> &Trail {
        &self.context.trail
    }
}

/// Who asks, and how.
#[derive(Debug)]
pub struct Context {
    /// The request id: the client's own where it is sane, else a UUIDv7.
    pub id: Arc<str>,
    /// The endpoint's path template, for metrics and logs only: no stage decides by it.
    pub endpoint: &'static str,
    /// Who asks.
    pub caller: Caller,
    /// The conversation that the caller counts it to, for records.
    pub session: Option<Arc<str>>,
    /// Whether what was said before in that conversation is given along, and this turn is added to it.
    pub remember: bool,
    /// The W3C trace that this call belongs to.
    pub trace: Trace,
    /// When the call began.
    pub began: Instant,
    /// When its time is over: the gateway's bound, or the client's where that is sooner.
    pub deadline: Instant,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether a cached answer will do.
    pub use_cache: bool,
    /// How long the answer may be cached, where it is not as configured.
    pub cache_ttl: Option<Duration>,
    /// Whether the caller takes a stated fallback answer for an error.
    pub last_resort: bool,
    /// The configuration's version, where the caller hears what each stage decided.
    pub explain: Option<Arc<str>>,
    /// What the stages noted.
    pub trail: Trail,
}

impl Context {
    /// A call that begins now and has so long, with nothing else said of it.
    pub fn new(id: impl Into<Arc<str>>, endpoint: &'static str, caller: Caller, time: Duration) -> Self {
        let now = Instant::now();
        Self {
            id: id.into(),
            endpoint,
            caller,
            session: None,
            remember: false,
            trace: Trace::default(),
            began: now,
            deadline: now + time,
            priority: Priority::Normal,
            use_cache: false,
            cache_ttl: None,
            last_resort: false,
            explain: None,
            trail: Trail::default(),
        }
    }

    /// Notes what a stage decided, where the caller wants to hear it; else `what` is not even put together.
    pub fn explain(&self, stage: &'static str, what: impl FnOnce() -> Value) {
        if self.explain.is_some() {
            let what = what();
            self.trail.note(|notes| {
                if notes.decisions.len() < MOST_DECISIONS {
                    notes.decisions.push((stage, what));
                }
            });
        }
    }

    /// The time that is left.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A W3C trace context (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The `traceparent` that goes to the provider: the caller's trace id, our own span id.
    pub parent: Arc<str>,
    /// The caller's `tracestate`, sent on unread.
    pub state: Option<Arc<str>>,
}

impl Trace {
    /// The trace id, 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }
}

/// Who is to answer: one model of one provider, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The provider's configured name.
    pub provider: Arc<str>,
    /// The model, in the provider's words.
    pub model: Arc<str>,
    /// The version's name, for A/B and canary; the model's name where none is given.
    pub version: Arc<str>,
    /// The model's name where it is configured, else `other`: safe as a metrics label.
    pub label: Arc<str>,
    /// Its row in the route table.
    pub slot: usize,
}

/// The typed notebook of a call. Stages write into it; the audit line, the
/// log, the headers and the reply's body read it.
#[derive(Clone, Debug, Default)]
pub struct Trail(Arc<Mutex<Notes>>);

/// What is noted about a call.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Notes {
    /// What the cache did.
    pub cache: Cached,
    /// The attempts, in order; at most [`MOST_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
    /// Who answered.
    pub target: Option<Arc<Target>>,
    /// Whether another target than the first one answered.
    pub fell_back: bool,
    /// The input rules that changed the question.
    pub cleaned: bool,
    /// What judges of the question found; at most one of each kind.
    pub judged: Vec<Judged>,
    /// The output rule that cut the answer.
    pub filtered: Option<Arc<str>>,
    /// What the guards found, how often, and what they did; at most [`MOST_FINDINGS`] kinds.
    pub findings: Vec<Findings>,
    /// The prompt's version, where one was used.
    pub prompt_version: Option<Arc<str>>,
    /// The documents' version, where they were used.
    pub corpus_version: Option<Arc<str>>,
    /// What was found in the documents for the model.
    pub grounding: Option<Arc<Grounding>>,
    /// The size of the context that was given to the model, in characters.
    pub context_used: usize,
    /// How far the answer can be relied on.
    pub confidence: Option<f64>,
    /// What it took, all attempts together.
    pub usage: Option<Usage>,
    /// What an answer from the cache would have cost.
    pub saved: Cost,
    /// Answers that somebody has yet to count.
    pub uncounted: Vec<Arc<Uncounted>>,
    /// How often another target went on with an answer that had broken off.
    pub continued: u32,
    /// What its conversation gave it, and what became of its turn; `None` where it has none.
    pub conversation: Option<Conversation>,
    /// Whether a person was promised to look at it.
    pub review: bool,
    /// Whether a stated answer stood in for one that could not be had, or not be given.
    pub stood_in: bool,
    /// What a model answered and the caller did not get, because too little speaks for it.
    pub withheld: Option<Arc<str>>,
    /// What the cache keeps this question's answer under, where a person's answer may take its place.
    pub kept_as: Option<[u8; 16]>,
    /// The review item whose answer was given: a person stands for it.
    pub approved: Option<Arc<str>>,
    /// Who asks, for what is kept beside the call.
    pub user: Option<Arc<str>>,
    /// How long it waited for a place.
    pub queued: Duration,
    /// What the stages decided, in their own words, for a caller who asked for that; at most [`MOST_DECISIONS`].
    pub decisions: Vec<(&'static str, Value)>,
    /// The state of the request limits, for the headers.
    pub limit: Option<Limit>,
    /// The state of the token limits, where one applies.
    pub token_limit: Option<Limit>,
    /// How the answer ended, in one word; `None` while it has not.
    pub outcome: Option<&'static str>,
}

/// What a judge found in a question.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Judged {
    /// Which judge: `prompt_injection`, `safety`, or the remote one of either.
    pub judge: &'static str,
    /// What it found: a category, never words of the question.
    pub what: Arc<str>,
    /// How sure it is, 0 to 1.
    pub score: f32,
    /// What that led to: `log` or `block`.
    pub verdict: &'static str,
    /// Whose words they were: `user` or `document`.
    pub from: &'static str,
    /// The rules that spoke for it, for those who run the gateway.
    pub reasons: Vec<&'static str>,
    /// How it was hidden, outermost layer first.
    pub layers: Vec<&'static str>,
}

/// An answer whose provider did not say what it took.
#[derive(Debug)]
pub struct Uncounted {
    /// What was asked.
    pub chat: Arc<Request>,
    /// Who answered.
    pub target: Arc<Target>,
    /// What was answered, as far as it came: thoughts, text and tool calls.
    pub output: String,
    /// Where in `output` the answer's text begins, if nothing else follows it:
    /// then another target can go on with it.
    pub text_from: Option<usize>,
    /// What the provider had said by then.
    pub known: Option<Usage>,
    /// Which of the attempts this was.
    pub attempt: Option<usize>,
    /// What is settled when it is counted.
    pub share: Option<Arc<dyn Share>>,
    /// Who wants to hear what it took.
    pub listeners: Listeners,
}

/// Those who want to hear what an answer took, once it is counted. Whoever is
/// not told by then is dropped, which is the news that nobody counted it.
#[derive(Default)]
pub struct Listeners(Mutex<Vec<Listener>>);

type Listener = Box<dyn FnOnce(&Usage) + Send>;

impl Listeners {
    /// Adds one. It is called on the thread that counts.
    pub fn add(&self, listener: impl FnOnce(&Usage) + Send + 'static) {
        self.0.lock().push(Box::new(listener));
    }

    /// Tells them, once.
    pub fn tell(&self, usage: &Usage) {
        let listeners = std::mem::take(&mut *self.0.lock());
        listeners.into_iter().for_each(|listener| listener(usage));
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}

/// What a guard found of one kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Findings {
    /// The guard.
    pub guard: &'static str,
    /// What it found: a configured name, never the value.
    pub what: Arc<str>,
    /// What became of it: `log`, `mask` or `block`.
    pub action: &'static str,
    /// How often.
    pub count: u32,
}

/// More kinds of findings than this are counted by metrics only.
pub const MOST_FINDINGS: usize = 64;

/// More decisions than this explain no more.
pub const MOST_DECISIONS: usize = 128;

/// More attempts than this are counted by the retry stage, not noted.
pub const MOST_ATTEMPTS: usize = 32;

/// One try at one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Who was asked.
    pub target: Arc<Target>,
    /// How long until the first content or the failure.
    pub took: Duration,
    /// The error's code.
    pub error: Option<&'static str>,
    /// What it took, once that is known.
    pub usage: Option<Usage>,
}

impl Notes {
    /// What the call has cost, all attempts together.
    pub fn cost(&self) -> Cost {
        self.usage.and_then(|usage| usage.cost).unwrap_or_default()
    }

    /// Adds a finding of a guard.
    pub fn found(&mut self, guard: &'static str, what: &Arc<str>, action: &'static str, count: u32) {
        let same = |known: &Findings| known.guard == guard && known.what == *what && known.action == action;
        match self.findings.iter().position(same) {
            Some(at) => self.findings[at].count += count,
            None if self.findings.len() < MOST_FINDINGS => {
                self.findings.push(Findings { guard, what: what.clone(), action, count });
            }
            None => {}
        }
    }

    /// Adds what an attempt took.
    pub fn took(&mut self, usage: Usage, attempt: Option<usize>) {
        self.usage = Some(self.usage.map_or(usage, |before| before.plus(usage)));
        if let Some(attempt) = attempt.and_then(|index| self.attempts.get_mut(index)) {
            attempt.usage = Some(usage);
        }
    }
}

/// What the cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cached {
    /// It was not asked.
    #[default]
    Bypass,
    /// It had nothing.
    Miss,
    /// It had the answer.
    Hit,
}

/// What a conversation gave a call, and what became of the call's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Conversation {
    /// Turns that were given along, word for word.
    pub given: usize,
    /// Turns that were left out, because there are too many.
    pub left_out: usize,
    /// Whether a summary of earlier turns was given along.
    pub summary: bool,
    /// Whether nothing was given along because the store did not answer.
    pub unavailable: bool,
    /// Whether the turn was added.
    pub kept: bool,
    /// Whether that took longer than the reply waited for it.
    pub late: bool,
    /// Turns that were dropped to make room for it.
    pub dropped: usize,
}

/// The state of the tightest limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Requests or tokens a minute.
    pub limit: u64,
    /// Those left now.
    pub remaining: u64,
    /// Until all are there again.
    pub reset: Duration,
}

impl Trail {
    /// Writes into the notebook.
    pub fn note<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.0.lock())
    }

    /// A copy of what is noted.
    pub fn notes(&self) -> Notes {
        self.0.lock().clone()
    }
}
