//! Leaves one record of every call, refused and abandoned ones too.
//!
//! Where the audit is strict, the end of an answer, or the refusal, is passed
//! on only once the record is on the disk.
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    audit::{Answer as Answered, Place, Record, Ticket, Versions, Writer},
    call::{Call, Context},
    chat::{Citation, Event, Request},
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
    /// Where whoever passes on the end finds what to wait for.
    ticket: Arc<OnceLock<Ticket>>,
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
            ticket: Arc::default(),
            writer: self.writer.clone(),
        };
        let ticket = auditing.ticket.clone();
        match next.call(call).await {
            Ok(reply) => Ok(reply.tap(auditing).seal(async move {
                match ticket.get() {
                    Some(ticket) => ticket.clone().wait().await,
                    None => Ok(()),
                }
            })),
            Err(error) => {
                auditing.end(End::Failed(&error));
                // Dropped first: the wait is the caller's alone.
                drop(auditing);
                if let Some(ticket) = ticket.get() {
                    ticket.clone().wait().await?;
                }
                Err(error)
            }
        }
    }
}

impl Auditing {
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
            _ => {}
        }
    }

    fn end(&mut self, end: End<'_>) {
        let Some(place) = self.place.take() else { return };
        self.context.trail.note(|notes| notes.outcome = Some(end.code()));
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
        let _ = self.ticket.set(self.writer.record(place, record));
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
