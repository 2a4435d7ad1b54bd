//! Answers equal questions once, and keeps the answer for a while.
use std::{sync::Arc, time::Duration};

use futures_util::stream;
use serde_json::json;

use crate::{
    cache::{Cache as Store, Flight, Found, Policy, Stored, StoredNotes},
    call::{Cached, Call, Context},
    chat::{Cost, Event, Finish, Format, Purpose, Request},
    error::{Error, Result},
    observe::Metrics,
    reply::{End, Head, Origin, Reply, Tap},
    stage::{Answer, Next, Stage},
};

/// An answer longer than this is passed on but not kept, in events.
const LONGEST: usize = 100_000;

/// The stage.
pub struct Cache {
    /// What is kept.
    pub store: Arc<Store>,
    /// What is kept, and what equal questions are.
    pub policy: Arc<Policy>,
    /// Where hits and misses are counted.
    pub metrics: Arc<Metrics>,
}

struct Filling {
    flight: Flight,
    context: Arc<Context>,
    head: Head,
    events: Vec<Event>,
    ttl: Duration,
}

impl Stage for Cache {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let key = match self.policy.key(&call) {
            Ok(key) => key,
            Err(why) => {
                self.count("bypass");
                call.context.explain("cache", || json!({"decision": "bypass", "why": why}));
                return next.call(call).await;
            }
        };
        // A person's answer takes the place of a plain one only.
        let kept_as = is_plain(&call.chat).then(|| key.bytes());
        let mut joined = false;
        let flight = loop {
            match self.store.find(key) {
                Found::Stored(stored) => {
                    let what = if joined { "joined" } else { "hit" };
                    self.count(what);
                    call.context.explain("cache", || json!({"decision": what}));
                    return Ok(replay(&call, stored, kept_as));
                }
                Found::Nothing(flight) => break flight,
                Found::Asked(mut flight) => {
                    joined = true;
                    // An `Err` is the news that the flight has landed.
                    let landed = tokio::time::timeout(call.context.time_left(), flight.changed()).await;
                    landed.map_err(|_| Error::DeadlineExceeded)?.ok();
                }
            }
        };
        self.count("miss");
        call.context.explain("cache", || json!({"decision": "miss"}));
        call.trail().note(|notes| (notes.cache, notes.kept_as) = (Cached::Miss, kept_as));
        let context = call.context.clone();
        let ttl = context.cache_ttl.unwrap_or(self.policy.settings.ttl.0);
        let reply = next.call(call).await?;
        let head = reply.head.clone();
        Ok(reply.tap(Filling { flight, context, head, events: Vec::new(), ttl }))
    }
}

impl Cache {
    fn count(&self, result: &str) {
        self.metrics.cache.with_label_values(&[result]).inc();
    }
}

/// Whether a question is answered by one plain text.
fn is_plain(chat: &Request) -> bool {
    chat.purpose == Purpose::Chat
        && chat.tools.is_empty()
        && chat.choices.is_none_or(|choices| choices == 1)
        && matches!(chat.format, None | Some(Format::Text))
}

fn replay(call: &Call, stored: Arc<Stored>, kept_as: Option<[u8; 16]>) -> Reply {
    call.trail().note(|notes| {
        notes.cache = Cached::Hit;
        notes.kept_as = kept_as;
        notes.approved.clone_from(&stored.approved);
        notes.target.clone_from(&stored.target);
        notes.prompt_version.clone_from(&stored.notes.prompt_version);
        notes.corpus_version.clone_from(&stored.notes.corpus_version);
        notes.context_used = stored.notes.context_used;
        notes.confidence = stored.notes.confidence;
        notes.saved = stored.notes.cost;
    });
    let (head, many) = (Head { origin: Origin::Cache, ..stored.head.clone() }, stored.events.len());
    // The tokens are those of the answer; they were paid for once.
    let free = move |index: usize| match &stored.events[index] {
        Event::Usage(usage) => Event::Usage(crate::chat::Usage { cost: Some(Cost(0)), ..*usage }),
        event => event.clone(),
    };
    Reply::new(head, stream::iter((0..many).map(free).map(Ok)))
}

impl Tap for Filling {
    fn event(&mut self, event: &Event) {
        if self.events.len() <= LONGEST {
            self.events.push(event.clone());
        }
    }

    fn end(&mut self, end: End<'_>) {
        let whole = |event: &Event| match event {
            // Pieced together of two models' answers, it is neither's.
            Event::Continued { .. } => false,
            Event::Finish { reason, .. } => {
                matches!(reason, Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls)
            }
            _ => true,
        };
        let ended = self.events.iter().any(|e| matches!(e, Event::Finish { .. } | Event::Embedding { .. }));
        if !matches!(end, End::Complete)
            || !ended
            || self.events.len() > LONGEST
            || !self.events.iter().all(whole)
        {
            return;
        }
        let (notes, target) = self.context.trail.note(|notes| {
            let stored = StoredNotes {
                prompt_version: notes.prompt_version.clone(),
                corpus_version: notes.corpus_version.clone(),
                context_used: notes.context_used,
                confidence: notes.confidence,
                cost: notes.cost(),
            };
            // The last resort of one moment is not the answer of the next.
            (stored, notes.target.clone().filter(|_| !notes.fell_back))
        });
        if target.is_some() {
            let (head, events) = (std::mem::take(&mut self.head), std::mem::take(&mut self.events));
            let caller = &self.context.caller;
            let asker = caller.user.clone().map(|user| (caller.tenant().clone(), user));
            let stored = Stored { head, events, target, notes, ttl: self.ttl, asker, approved: None };
            self.flight.store(stored);
        }
    }
}
