//! A streamed answer broke off: the next target goes on from the text already sent.
use std::{collections::VecDeque, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture, stream};

use super::GoingOn;
use crate::{
    call::{Call, Target, Uncounted},
    chat::{Event, Finish, Usage},
    error::{Error, Result},
    provider::continuation::{self, Prefill},
    reply::{Events, Rescue},
    route::{Seam, Way, last_words},
    stage::{Answer, Rest},
    tokens,
};

/// A longer text than this is not given to another model to go on with, in bytes.
const LONGEST: usize = 1 << 20;
/// Stands by while an answer goes by.
pub(super) struct Continuing<S> {
    rest: Rest<S>,
    /// As it was asked the first time.
    call: Call,
    route: Arc<str>,
    /// Who has not been asked yet.
    others: VecDeque<Arc<Target>>,
    going_on: Arc<GoingOn>,
    left: u32,
    /// The model has told why it stopped: there is nothing to go on with.
    finished: bool,
    /// The answer, once it broke off.
    broken: Option<Box<Broken>>,
}

/// An answer that broke off, and who goes on with it.
struct Broken {
    /// The text that was sent.
    text: String,
    /// What was sent of a continuation is more than text: nobody can go on with that.
    beyond: bool,
    seam: Seam,
    by: Arc<Target>,
    /// Whether the client was told.
    told: bool,
    /// What the attempts so far took.
    before: Usage,
}

impl<S: Answer> Continuing<S> {
    pub(super) fn new(
        rest: Rest<S>,
        call: Call,
        route: Arc<str>,
        others: VecDeque<Arc<Target>>,
        going_on: Arc<GoingOn>,
    ) -> Self {
        let left = going_on.most;
        Self { rest, call, route, others, going_on, left, finished: false, broken: None }
    }
}

impl<S: Answer> Rescue for Continuing<S> {
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Result<()> {
        if let Some(broken) = &mut self.broken {
            return broken.event(event, &mut self.finished, out);
        }
        self.finished |= matches!(event, Event::Finish { .. });
        out.push_back(event);
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<Event>) -> Result<()> {
        self.broken.as_mut().map_or(Ok(()), |broken| broken.close(out))
    }

    fn rescue(self, error: Error) -> BoxFuture<'static, Result<(Self, Events)>> {
        self.go_on(error).boxed()
    }
}

impl Broken {
    /// Passes on what is new of a continuation.
    fn event(&mut self, event: Event, finished: &mut bool, out: &mut VecDeque<Event>) -> Result<()> {
        match event {
            Event::Text { choice: 0, text } => {
                let new = self.seam.push(&self.text, &text).map_err(|_| no_proof())?;
                if self.seam.is_open() {
                    self.tell(out);
                }
                self.say(new, out);
            }
            // The thought was told before; another model's is not a part of it.
            Event::Reasoning { .. } | Event::Continued { .. } => {}
            Event::Usage(usage) => out.push_back(Event::Usage(self.with(usage))),
            Event::Finish { .. } => {
                self.close(out)?;
                *finished = true;
                out.push_back(event);
            }
            Event::ToolCall { .. } | Event::Refusal { .. } | Event::Text { .. } => {
                self.close(out)?;
                self.beyond = true;
                out.push_back(event);
            }
            Event::Embedding { .. } | Event::Grounded { .. } => out.push_back(event),
        }
        Ok(())
    }

    /// Other things than text follow, or nothing.
    fn close(&mut self, out: &mut VecDeque<Event>) -> Result<()> {
        let held = self.seam.end(&self.text).map_err(|_| no_proof())?;
        self.tell(out);
        self.say(held, out);
        Ok(())
    }

    fn say(&mut self, new: String, out: &mut VecDeque<Event>) {
        if !new.is_empty() {
            self.text.push_str(&new);
            out.push_back(Event::text(new));
        }
    }

    fn tell(&mut self, out: &mut VecDeque<Event>) {
        if !std::mem::replace(&mut self.told, true) {
            out.push_back(Event::Continued { by: self.by.version.clone() });
        }
    }

    /// What all attempts took; the money is known where each of them is billed.
    fn with(&self, usage: Usage) -> Usage {
        Usage { cost: None, ..self.before.plus(usage) }
    }
}

fn no_proof() -> Error {
    Error::broken("a continuation does not follow on what was sent")
}

impl<S: Answer> Continuing<S> {
    /// Asks the others, in order, to go on. Fails with the first error where none can.
    async fn go_on(mut self, error: Error) -> Result<(Self, Events)> {
        let nobody = self.left == 0 || self.others.is_empty() || self.call.context.time_left().is_zero();
        if !error.facts().failover || nobody && !self.finished || !self.account().await {
            self.count("failed");
            return Err(error);
        }
        let Some(broken) = &self.broken else { return Err(error) };
        if self.finished {
            // The answer is whole; only its last words to us are missing.
            return Ok(self.ending(None));
        }
        if broken.beyond || broken.text.len() > LONGEST {
            self.count("failed");
            return Err(error);
        }
        if self.tokens_left(0) == Some(0) {
            return Ok(self.ending(Some(Finish::Length)));
        }
        tracing::info!(request_id = %self.call.context.id, route = %self.route, error = error.logged(),
            sent = broken.text.len(), "an answer broke off; another target is asked to go on");
        while self.left > 0
            && !self.call.context.time_left().is_zero()
            && let Some(target) = self.others.pop_front()
        {
            if let Some(events) = self.ask(&target).await {
                self.left -= 1;
                self.count("continued");
                return Ok((self, events));
            }
        }
        self.count("failed");
        Err(error)
    }

    fn count(&self, result: &str) {
        self.going_on.metrics.continuations.with_label_values(&[&*self.route, result]).inc();
    }

    /// Books what the attempt took that broke off, and keeps its text. Tells
    /// whether there is something that can be gone on with.
    async fn account(&mut self) -> bool {
        let trail = self.call.trail();
        let Some(uncounted) = trail.note(|notes| notes.uncounted.last().cloned()) else { return false };
        if self.broken.is_none() && uncounted.text_from.is_none() && !self.finished {
            // Counted with the call's record, as any answer that broke off.
            return false;
        }
        // It stays where it is until it is counted: a client that leaves meanwhile is billed for it, too.
        let usage = estimate(uncounted.clone()).await;
        let booked = trail.note(|notes| {
            let at = notes.uncounted.iter().position(|one| Arc::ptr_eq(one, &uncounted))?;
            notes.uncounted.remove(at);
            let usage = (self.going_on.bill)(&uncounted, usage);
            notes.took(usage, uncounted.attempt);
            uncounted.listeners.tell(&usage);
            Some(usage)
        });
        let Some(usage) = booked else { return false };
        if let Some(broken) = &mut self.broken {
            broken.before = broken.before.plus(usage);
            return true;
        }
        let from = uncounted.text_from.unwrap_or(uncounted.output.len());
        let text = uncounted.output[from..].to_owned();
        let (seam, by) = (Seam::new(&text, Way::Told), uncounted.target.clone());
        let broken = Broken { text, beyond: false, seam, by, told: false, before: usage };
        self.broken = Some(Box::new(broken));
        true
    }

    /// How much longer the answer may be, in tokens, if so many are spent on repeating; absent: no bound.
    fn tokens_left(&self, repeated: u64) -> Option<u32> {
        let most = self.call.chat.max_tokens?;
        let written = self.broken.as_ref().map_or(0, |broken| broken.before.output);
        let left = u64::from(most).saturating_sub(written);
        Some(if left == 0 { 0 } else { u32::try_from(left + repeated).unwrap_or(u32::MAX) })
    }

    /// Asks a target to go on. `None`: it does not.
    async fn ask(&mut self, target: &Arc<Target>) -> Option<Events> {
        let prefill = (self.going_on.prefill)(target)?;
        let first = self.try_ask(target, prefill).await;
        let answered = match first {
            // A model may think where its server takes no beginning then: it is told in words.
            Err(Error::Refused { .. }) if prefill != Prefill::No => self.try_ask(target, Prefill::No).await,
            answered => answered,
        };
        answered
            .inspect_err(|error| {
                tracing::debug!(request_id = %self.call.context.id, target = %target.model,
                    error = error.logged(), "it does not go on with the answer");
            })
            .ok()
    }

    async fn try_ask(&mut self, target: &Arc<Target>, prefill: Prefill) -> Result<Events> {
        let Some(broken) = &self.broken else { return Err(no_proof()) };
        let last = last_words(&broken.text);
        // What it is told to repeat is no part of the answer: about a token for three bytes.
        let repeated = if prefill == Prefill::No { last.len() as u64 / 3 + 8 } else { 0 };
        let most = self.tokens_left(repeated);
        let Some(broken) = &mut self.broken else { return Err(no_proof()) };
        let mut chat = (*self.call.chat).clone();
        chat.max_tokens = most;
        continuation::ask(&mut chat, &broken.text, &broken.text[last], prefill);
        let call = Call {
            chat: Arc::new(chat),
            target: Some(target.clone()),
            others: !self.others.is_empty(),
            ..self.call.clone()
        };
        let reply = self.rest.call(call).await?;
        let way = match prefill {
            Prefill::No => Way::Told,
            Prefill::Asked | Prefill::Itself => Way::Prefill,
        };
        (broken.seam, broken.by, broken.told) = (Seam::new(&broken.text, way), target.clone(), false);
        self.call.trail().note(|notes| {
            notes.continued += 1;
            notes.fell_back = true;
            notes.target = Some(target.clone());
        });
        Ok(reply.into_parts().1)
    }

    /// The end of an answer that nobody need go on with.
    fn ending(mut self, finish: Option<Finish>) -> (Self, Events) {
        let usage = self.broken.take().map(|broken| Event::Usage(Usage { cost: None, ..broken.before }));
        let events = finish.map(Event::finish).into_iter().chain(usage);
        let events = events.map(Ok).collect::<Vec<_>>();
        (self, Box::pin(stream::iter(events)))
    }
}

/// Counts an answer, which takes too long for a thread that serves.
async fn estimate(uncounted: Arc<Uncounted>) -> Usage {
    let known = uncounted.known.unwrap_or_default();
    let count = move || tokens::estimate(&uncounted.chat, &uncounted.output, uncounted.known);
    // Only a panic while counting ends otherwise.
    tokio::task::spawn_blocking(count).await.unwrap_or(known)
}
