//! Leaves one record of every call, refused and abandoned ones too.
use std::{sync::Arc, time::SystemTime};

use crate::{
    audit::{Place, Record, Writer},
    call::{Call, Context},
    chat::{Event, Request},
    error::Result,
    reply::{End, Reply, Tap},
    stage::{Answer, Next, Stage},
};

/// The longest answer that a record holds, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// The stage.
#[derive(Debug)]
pub struct Audit {
    /// Writes the records.
    pub writer: Writer,
}

/// A record in the making. Dropped before its end, it tells that the caller left.
struct Auditing {
    writer: Writer,
    place: Option<Place>,
    context: Arc<Context>,
    chat: Arc<Request>,
    answer: Option<String>,
}

impl Stage for Audit {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let mut auditing = Auditing {
            place: Some(self.writer.reserve()?),
            context: call.context.clone(),
            chat: call.chat.clone(),
            answer: self.writer.wants_content().then(String::new),
            writer: self.writer.clone(),
        };
        match next.call(call).await {
            Ok(reply) => Ok(reply.tap(auditing)),
            Err(error) => {
                auditing.end(End::Failed(&error));
                Err(error)
            }
        }
    }
}

impl Tap for Auditing {
    fn event(&mut self, event: &Event) {
        if let (Some(answer), Event::Text { text, .. }) = (&mut self.answer, event)
            && answer.len() + text.len() <= LONGEST_ANSWER
        {
            answer.push_str(text);
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
            at: SystemTime::now(),
            took: self.context.began.elapsed(),
            context: self.context.clone(),
            chat: Some(self.chat.clone()),
            status: end.status(),
            outcome: end.code(),
            error: error.map(super::super::error::Error::chain),
            answer: self.answer.take(),
            review: false,
        };
        self.writer.record(place, record);
    }
}

impl Drop for Auditing {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}
