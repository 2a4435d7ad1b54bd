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
    chat::{Citation, Event, Request, Usage},
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
    /// What is kept of the answer, and how much at most.
    answer: Option<(Answered, usize)>,
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
            answer: self.writer.wanted().map(|most| (Answered::default(), most)),
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
            Ok(reply) => Ok(reply.tap(auditing).then(last)),
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

    fn keep(&mut self, text: &str) {
        if let Some((answer, most)) = &mut self.answer {
            answer.length += text.len();
            let room = most.saturating_sub(answer.text.len());
            answer.text.push_str(&text[..text.floor_char_boundary(room)]);
        }
    }
}

impl Tap for Auditing {
    fn event(&mut self, event: &Event) {
        if self.first_token.is_none() && event.is_content() {
            self.first_token = Some(self.context.began.elapsed());
        }
        match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } => self.keep(text),
            Event::ToolCall { name, arguments, .. } => {
                if let Some(name) = name {
                    self.keep("\n[tool ");
                    self.keep(name);
                    self.keep("] ");
                }
                self.keep(arguments);
            }
            Event::Grounded { citations, .. } => self.sources = Some(citations.clone()),
            Event::Usage(_) => self.told = true,
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
            answer: self.answer.take().map(|(answer, _)| answer),
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
