//! Leaves one record of every call, refused and abandoned ones too.
//!
//! Where the audit is strict, the end of an answer, or the refusal, is passed
//! on only once the record is on the disk.
use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    audit::{Answer as Answered, Place, Record, Ticket, Versions, Writer},
    call::{Call, Context},
    chat::{Citation, Event, Finish, Request, Usage},
    error::{Error, Result},
    reply::{End, Reply, Tap},
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Audit {
    /// Takes the records.
    pub writer: Writer,
    /// The versions in force.
    pub versions: Arc<Versions>,
}

/// A record in the making. Dropped before its end, it tells that the caller left.
struct Auditing {
    writer: Writer,
    versions: Arc<Versions>,
    place: Option<Place>,
    context: Arc<Context>,
    chat: Arc<Request>,
    /// What is kept of the answer.
    answer: Option<Said>,
    sources: Option<Arc<[Citation]>>,
    first_token: Option<Duration>,
    /// Whether the reply has said what it took.
    told: bool,
    /// Where whoever passes on the end finds what to wait for.
    last: Arc<Mutex<Option<Last>>>,
}

/// What the end of a reply waits for.
struct Last {
    ticket: Ticket,
    /// What a reply took that was ended before its provider could say so.
    counted: Option<oneshot::Receiver<Usage>>,
}

/// How long the end of a reply waits for its tokens to be counted, where nothing else holds it up.
const COUNTED: Duration = Duration::from_secs(1);

impl Last {
    /// Waits for it, and gives back what remains to be said.
    async fn wait(self) -> Result<Vec<Event>> {
        self.ticket.wait().await?;
        let Some(counted) = self.counted else { return Ok(Vec::new()) };
        let counted = tokio::time::timeout(COUNTED, counted).await;
        Ok(counted.into_iter().flatten().map(Event::Usage).collect())
    }
}

impl Stage for Audit {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let mut auditing = Auditing {
            place: Some(self.writer.reserve()?),
            versions: self.versions.clone(),
            context: call.context.clone(),
            chat: call.chat.clone(),
            answer: self.writer.wanted().map(Said::new),
            sources: None,
            first_token: None,
            told: false,
            last: Arc::default(),
            writer: self.writer.clone(),
        };
        let last = auditing.last.clone();
        let last = async move {
            let last = last.lock().take();
            match last {
                Some(last) => last.wait().await,
                None => Ok(Vec::new()),
            }
        };
        match next.call(call).await {
            Ok(reply) => Ok(reply.tap(auditing).finally(last)),
            Err(error) => {
                auditing.end(End::Failed(&error));
                // Dropped first: the wait is the caller's alone.
                drop(auditing);
                last.await?;
                Err(error)
            }
        }
    }
}

impl Auditing {
    /// Hears what a reply took that was ended early, by a guard. It is counted where nobody waits for it.
    fn counted(&self) -> Option<oneshot::Receiver<Usage>> {
        self.context.trail.note(|notes| {
            let last = notes.uncounted.last()?;
            let (tell, counted) = oneshot::channel();
            last.listeners.add(move |usage| {
                // Who waited for it may have left.
                let _ = tell.send(*usage);
            });
            Some(counted)
        })
    }

    fn keep(&mut self, part: Part, text: &str) {
        if let Some(answer) = &mut self.answer {
            answer.keep(part, text);
        }
    }
}

/// What an answer says, each part of it by itself: pieces of several may come in turns, and what is personal is
/// found only in a whole one.
struct Said {
    parts: Vec<(Part, String)>,
    /// The length of all of it, in bytes.
    length: usize,
    /// How much more is kept.
    room: usize,
}

/// A part of an answer: of a choice, its text, its refusal, or one of its tool calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Text(u32),
    Refusal(u32),
    Call(u32, u32),
}

impl Said {
    fn new(most: usize) -> Self {
        Self { parts: Vec::new(), length: 0, room: most }
    }

    fn keep(&mut self, part: Part, text: &str) {
        // Mostly the last one goes on. Decoders let no more than some 1,400 through.
        let known = self.parts.iter().rposition(|(known, _)| *known == part);
        let at = known.unwrap_or_else(|| {
            self.parts.push((part, String::new()));
            let at = self.parts.len() - 1;
            if at > 0 || matches!(part, Part::Call(..)) {
                self.add(at, "\n");
            }
            at
        });
        self.add(at, text);
    }

    fn add(&mut self, at: usize, text: &str) {
        self.length += text.len();
        let kept = &text[..text.floor_char_boundary(self.room)];
        self.room -= kept.len();
        self.parts[at].1.push_str(kept);
    }

    fn whole(mut self) -> Answered {
        let text = match &mut self.parts[..] {
            [(_, text)] => std::mem::take(text),
            parts => parts.iter().map(|(_, text)| &**text).collect(),
        };
        Answered { text, length: self.length }
    }
}

impl Tap for Auditing {
    fn event(&mut self, event: &Event) {
        if self.first_token.is_none() && event.is_content() {
            self.first_token = Some(self.context.began.elapsed());
        }
        match event {
            Event::Text { choice, text } => self.keep(Part::Text(*choice), text),
            Event::Refusal { choice, text } => self.keep(Part::Refusal(*choice), text),
            Event::ToolCall { choice, index, name, arguments, .. } => {
                let part = Part::Call(*choice, *index);
                if let Some(name) = name {
                    self.keep(part, "[tool ");
                    self.keep(part, name);
                    self.keep(part, "] ");
                }
                self.keep(part, arguments);
            }
            Event::Grounded { citations, .. } => self.sources = Some(citations.clone()),
            Event::Usage(_) => self.told = true,
            // What was said before a guard ended it was said underway.
            Event::Finish { reason: Finish::Filtered, .. } => self.told = false,
            _ => {}
        }
    }

    fn end(&mut self, end: End<'_>) {
        let Some(place) = self.place.take() else { return };
        self.context.trail.note(|notes| notes.outcome = Some(end.code()));
        let counted = match end {
            End::Complete if !self.told => self.counted(),
            _ => None,
        };
        let error = match end {
            End::Failed(error) => Some(error),
            End::Complete | End::Cancelled => None,
        };
        let record = Record {
            first_token: self.first_token,
            chat: Some(self.chat.clone()),
            status: end.status(),
            outcome: end.code(),
            error: error.map(Error::logged),
            detail: error.and_then(Error::detail),
            answer: self.answer.take().map(Said::whole),
            sources: self.sources.take(),
            versions: Some(self.versions.clone()),
            ..Record::new(self.context.clone())
        };
        let ticket = self.writer.record(place, record);
        *self.last.lock() = Some(Last { ticket, counted });
    }
}

impl Drop for Auditing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its caller gets an error, whatever is left of the answer.
            self.end(End::Failed(&Error::internal("a bug: the call's code panicked")));
        }
        self.end(End::Cancelled);
    }
}
