//! Gives a question what was said before in its session, and adds the turn
//! when its answer has ended well.
//!
//! Inside the input rules, so that what is kept is masked, and outside the
//! cache: what was said before is part of what makes two questions equal. An
//! answer that broke off leaves no turn, and neither does one that stood in.
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    call::{Call, Conversation, Trail},
    chat::{Event, Finish},
    error::{Error, Result},
    observe::Metrics,
    prompt::Prompts,
    reply::{End, Reply, Tap},
    session::{Bounds, Failed, Fresh, History, Name, OnFailure, Sessions, Settings, summary},
    stage::{Answer, Next, Stage},
};

/// The longest answer that is listened to, in bytes.
const LONGEST: usize = 4 << 20;

/// The stage.
#[derive(Debug)]
pub struct Session {
    /// The conversations.
    pub sessions: Arc<Sessions>,
    /// How much is given along, and what becomes of a call without.
    pub settings: Arc<Settings>,
    /// How a model is asked to sum up.
    pub prompts: Arc<Prompts>,
    /// Where it is counted what became of turns.
    pub metrics: Arc<Metrics>,
}

impl Stage for Session {
    async fn run<S: Answer>(&self, mut call: Call, next: Next<'_, S>) -> Result<Reply> {
        let session = match &call.context.session {
            Some(session) if call.context.remember && self.settings.enabled => session.clone(),
            _ => return next.call(call).await,
        };
        let caller = call.context.caller.clone();
        let name = Name::new(&caller, &session);
        let began = Timestamp::now();
        let question = call.chat.question();
        let history = self.read(&call, &name).await?;
        if let Some(history) = history {
            let given = history.give(&mut call.chat_mut().messages, &self.settings);
            call.trail().note(|notes| {
                if let Some(conversation) = &mut notes.conversation {
                    conversation.given = given.turns;
                    conversation.left_out = given.left_out;
                    conversation.summary = given.summary;
                }
            });
        }
        call.context.explain("session", || json!(call.trail().notes().conversation));
        let (context, trail) = (call.context.clone(), call.trail().clone());
        let reply = next.call(call).await?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listening = Listening(heard.clone());
        let wanted = summary::Wanted {
            name,
            session,
            caller,
            settings: self.settings.clone(),
            prompts: self.prompts.clone(),
        };
        let keeping =
            Keeping { sessions: self.sessions.clone(), metrics: self.metrics.clone(), trail, wanted };
        Ok(reply.tap(listening).seal(async move {
            let stood_in = context.trail.note(|notes| notes.stood_in);
            let answer = heard.lock().said().filter(|_| !stood_in);
            if let Some(answer) = answer {
                let settings = keeping.wanted.settings.clone();
                keeping.keep(Fresh::new(began, &context.id, question, answer, &settings)).await;
            }
            Ok(())
        }))
    }
}

impl Session {
    /// What was said before, where it can be read, and where there is something.
    async fn read(&self, call: &Call, name: &Name) -> Result<Option<History>> {
        let read = tokio::time::timeout(self.settings.timeout.0, self.sessions.load(name)).await;
        let (history, event) = match read.unwrap_or(Err(Failed::Late)) {
            Ok(Some(history)) => (Some(history), "continued"),
            Ok(None) => (None, "begun"),
            Err(failed) => {
                self.count("unavailable");
                call.trail().note(|notes| {
                    notes.conversation = Some(Conversation { unavailable: true, ..Conversation::default() });
                });
                if self.settings.on_failure == OnFailure::Refuse {
                    return Err(Error::from(failed));
                }
                tracing::warn!(request_id = %call.context.id, error = %failed, "a question is asked without its conversation");
                return Ok(None);
            }
        };
        self.count(event);
        call.trail().note(|notes| notes.conversation = Some(Conversation::default()));
        Ok(history)
    }

    fn count(&self, event: &str) {
        self.metrics.sessions.with_label_values(&[event]).inc();
    }
}

/// What has been heard of an answer.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    refusal: String,
    ended: bool,
}

impl Heard {
    /// The answer, if it ended well and says something.
    fn said(&mut self) -> Option<String> {
        let text = std::mem::take(if self.text.is_empty() { &mut self.refusal } else { &mut self.text });
        (self.ended && !text.trim().is_empty()).then_some(text)
    }
}

struct Listening(Arc<Mutex<Heard>>);

impl Tap for Listening {
    fn event(&mut self, event: &Event) {
        let mut heard = self.0.lock();
        match event {
            Event::Text { choice: 0, text } if heard.text.len() < LONGEST => heard.text.push_str(text),
            Event::Refusal { choice: 0, text } if heard.refusal.len() < LONGEST => {
                heard.refusal.push_str(text);
            }
            // One that waits for a tool is no answer yet.
            Event::Finish { choice: 0, reason } => {
                heard.ended = !matches!(reason, Finish::ToolCalls | Finish::Pause);
            }
            _ => {}
        }
    }

    fn end(&mut self, _: End<'_>) {}
}

struct Keeping {
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    trail: Trail,
    wanted: summary::Wanted,
}

impl Keeping {
    /// Adds the turn. Who asks again after this answer finds it; but nobody waits long for it.
    async fn keep(self, turn: Fresh) {
        let patience = self.wanted.settings.timeout.0;
        let (tasks, trail) = (self.sessions.tasks.clone(), self.trail.clone());
        // A task of its own: what has begun comes to its end, also when nobody waits any more.
        let keeping = tasks.spawn(async move {
            let settings = self.wanted.settings.clone();
            let added = self.sessions.add(&self.wanted.name, &turn, Bounds::of(&settings)).await;
            let count = |event| self.metrics.sessions.with_label_values(&[event]).inc();
            match added {
                Ok(Some(added)) => {
                    count("kept");
                    self.metrics.sessions.with_label_values(&["dropped"]).inc_by(added.dropped as u64);
                    self.trail.note(|notes| {
                        if let Some(conversation) = &mut notes.conversation {
                            conversation.kept = true;
                            conversation.dropped = added.dropped as usize;
                        }
                    });
                    self.sessions.grown(added, || self.wanted, &settings);
                }
                // Deleted while it was asked: it is not to come back.
                Ok(None) => count("deleted"),
                Err(error) => {
                    count("unkept");
                    tracing::warn!(request_id = turn.request, %error, "a turn is not in its conversation");
                }
            }
        });
        if tokio::time::timeout(patience, keeping).await.is_err() {
            trail.note(|notes| {
                if let Some(conversation) = &mut notes.conversation {
                    conversation.late = true;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_ended_well_is_a_turn() {
        let said = |events: &[Event]| {
            let heard = Arc::new(Mutex::new(Heard::default()));
            let mut listening = Listening(heard.clone());
            events.iter().for_each(|event| listening.event(event));
            drop(listening);
            Arc::into_inner(heard).and_then(|heard| heard.into_inner().said())
        };
        let (text, stop) = (Event::text("yes"), Event::finish(Finish::Stop));
        assert_eq!(said(&[text.clone(), Event::text(" no"), stop.clone()]).as_deref(), Some("yes no"));
        assert_eq!(said(&[text.clone(), Event::finish(Finish::Length)]).as_deref(), Some("yes"));
        let refusal = Event::Refusal { choice: 0, text: "I may not".into() };
        assert_eq!(said(&[refusal, stop.clone()]).as_deref(), Some("I may not"));
        for broken in [&[text.clone()][..], &[stop], &[text, Event::finish(Finish::ToolCalls)]] {
            assert_eq!(said(broken), None);
        }
    }
}
