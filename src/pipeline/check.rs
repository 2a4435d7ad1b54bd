//! Checks what a model writes before it leaves: text, thoughts, refusals and
//! tool arguments alike, also where a finding spans two pieces.
//!
//! A whole answer is replaced. A stream is held back only where a match may
//! be under way, for at most the longest pattern; with no finding, what leaves
//! is byte for byte what came.
use std::{collections::VecDeque, sync::Arc};

use serde_json::json;

use crate::{
    call::{Call, Trail},
    chat::{Event, Finish},
    error::Result,
    guard::{Guard, Rule},
    observe::Metrics,
    reply::{Flow, Reply, Rewrite},
    stage::{Answer, Next, Stage},
};

/// What stands in for what may not leave.
pub const FILTERED: &str = "[Output filtered for security]";

/// What a piece of the answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Text(u32),
    Reasoning(u32),
    Refusal(u32),
    Arguments(u32, u32),
}

/// The stage.
#[derive(Debug)]
pub struct CheckOutput {
    /// The rules, and what a finding leads to; those that are off are left out.
    pub guards: Arc<[(Guard, Rule)]>,
    /// Where findings are counted.
    pub metrics: Arc<Metrics>,
}

impl Stage for CheckOutput {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        if self.guards.is_empty() {
            return next.call(call).await;
        }
        call.context.explain("check", || {
            let rules = self.guards.iter().map(|(guard, rule)| (guard.name.to_owned(), json!(rule)));
            json!({"rules": rules.collect::<serde_json::Map<_, _>>()})
        });
        let checking = Checking {
            guards: self.guards.clone(),
            metrics: self.metrics.clone(),
            trail: call.trail().clone(),
            streamed: call.chat.stream,
            kept: VecDeque::new(),
            channels: Vec::new(),
        };
        Ok(next.call(call).await?.rewrite(checking))
    }
}

struct Checking {
    guards: Arc<[(Guard, Rule)]>,
    metrics: Arc<Metrics>,
    trail: Trail,
    streamed: bool,
    /// All of a whole answer, until it is checked.
    kept: VecDeque<Event>,
    channels: Vec<(Channel, Pending)>,
}

/// A channel's text near its end.
#[derive(Default)]
struct Pending {
    /// What has left already, as far back as a match can reach, then what is held back.
    text: String,
    /// How much of `text` has left.
    sent: usize,
    /// Findings up to here are known.
    seen: usize,
}

/// More channels than this are more tool calls than any model makes.
const MOST_CHANNELS: usize = 1024;

impl Rewrite for Checking {
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow {
        let Some((channel, text)) = channel_of(&event) else {
            // The end of a choice is the end of its texts.
            if matches!(event, Event::Finish { .. }) && self.end_all(out) {
                return self.stop(out);
            }
            self.pass(event, out);
            return Flow::Continue;
        };
        // Something else begins: what was held back comes before it.
        if self.flush_others(channel, out) {
            return self.stop(out);
        }
        let slot = match self.channels.iter().position(|(at, _)| *at == channel) {
            Some(slot) => slot,
            None if self.channels.len() < MOST_CHANNELS => {
                self.channels.push((channel, Pending::default()));
                self.channels.len() - 1
            }
            None => return self.stop(out),
        };
        let pending = &mut self.channels[slot].1;
        let untouched = pending.sent == pending.text.len();
        pending.text.push_str(text);
        if self.judge(slot, false) {
            return self.stop(out);
        }
        let pending = &mut self.channels[slot].1;
        let hold = pending.text.len() - held(&self.guards, &pending.text);
        if hold == pending.text.len() && untouched {
            // The common case: nothing was held, nothing is held, the event leaves as it came.
            pending.sent = pending.text.len();
            pending.forget(&self.guards);
            self.pass(event, out);
            return Flow::Continue;
        }
        // Never take back what has left.
        let ready = pending.text[pending.sent..hold.max(pending.sent)].to_owned();
        pending.sent = hold.max(pending.sent);
        pending.forget(&self.guards);
        let event = with_text(event, ready);
        if carries(&event) {
            self.pass(event, out);
        }
        Flow::Continue
    }

    fn end(&mut self, out: &mut VecDeque<Event>) {
        if self.end_all(out) {
            self.stop(out);
        } else {
            out.append(&mut self.kept);
        }
    }
}

impl Checking {
    /// Sends an event on, or keeps it until a whole answer is checked.
    fn pass(&mut self, event: Event, out: &mut VecDeque<Event>) {
        if self.streamed { out.push_back(event) } else { self.kept.push_back(event) }
    }

    /// Lets go of what other channels hold back. Tells whether it may not leave.
    fn flush_others(&mut self, channel: Channel, out: &mut VecDeque<Event>) -> bool {
        (0..self.channels.len()).any(|slot| self.channels[slot].0 != channel && self.flush(slot, out))
    }

    /// Lets go of what all channels hold back. Tells whether it may not leave.
    fn end_all(&mut self, out: &mut VecDeque<Event>) -> bool {
        (0..self.channels.len()).any(|slot| self.flush(slot, out))
    }

    fn flush(&mut self, slot: usize, out: &mut VecDeque<Event>) -> bool {
        if self.channels[slot].1.sent == self.channels[slot].1.text.len() {
            return false;
        }
        if self.judge(slot, true) {
            return true;
        }
        let (channel, pending) = &mut self.channels[slot];
        let event = channel.event(pending.text[pending.sent..].to_owned());
        pending.sent = pending.text.len();
        pending.forget(&self.guards);
        self.pass(event, out);
        false
    }

    /// Looks for findings. Tells whether one of them stops the answer.
    fn judge(&mut self, slot: usize, ended: bool) -> bool {
        let pending = &mut self.channels[slot].1;
        for (guard, rule) in self.guards.iter() {
            let mut from = pending.seen;
            while let Some(found) = (guard.find)(&pending.text, from, ended) {
                from = found.end;
                let verdict = if *rule == Rule::Block { "block" } else { "log" };
                self.metrics.guards.with_label_values(&[guard.name, verdict]).inc();
                self.trail.note(|notes| notes.filtered = Some(guard.name));
                if *rule == Rule::Block {
                    return true;
                }
            }
        }
        // What ends with the text is not decided before the next piece comes.
        pending.seen = pending.text.len().saturating_sub(usize::from(!ended));
        false
    }

    /// Ends the answer with the notice in place of what may not leave.
    fn stop(&mut self, out: &mut VecDeque<Event>) -> Flow {
        let grounded = |event: &Event| matches!(event, Event::Usage(_));
        out.extend(self.kept.drain(..).filter(grounded));
        out.push_back(Event::text(FILTERED));
        out.push_back(Event::finish(Finish::Filtered));
        self.channels.clear();
        Flow::Stop
    }
}

impl Pending {
    /// Forgets what is too far back to be part of a match, and one character more for its border.
    fn forget(&mut self, guards: &[(Guard, Rule)]) {
        let longest = guards.iter().map(|(guard, _)| guard.longest).max().unwrap_or(0) + 4;
        if self.sent > longest * 8 {
            let mut cut = self.sent - longest;
            while !self.text.is_char_boundary(cut) {
                cut -= 1;
            }
            self.text.drain(..cut);
            self.sent -= cut;
            self.seen = self.seen.saturating_sub(cut);
        }
    }
}

impl Channel {
    fn event(self, text: String) -> Event {
        match self {
            Self::Text(choice) => Event::Text { choice, text },
            Self::Refusal(choice) => Event::Refusal { choice, text },
            Self::Reasoning(choice) => Event::Reasoning { choice, text, signature: None, redacted: None },
            Self::Arguments(choice, index) => {
                Event::ToolCall { choice, index, id: None, name: None, arguments: text }
            }
        }
    }
}

/// How many bytes at the end of a text may be the beginning of a match.
fn held(guards: &[(Guard, Rule)], text: &str) -> usize {
    let blocking = guards.iter().filter(|(_, rule)| *rule == Rule::Block);
    let run = |guard: &Guard| {
        text.bytes().rev().take(guard.longest + 1).take_while(|b| (guard.may_match)(*b)).count()
    };
    blocking.map(|(guard, _)| run(guard)).max().unwrap_or(0)
}

fn channel_of(event: &Event) -> Option<(Channel, &str)> {
    match event {
        Event::Text { choice, text } => Some((Channel::Text(*choice), text)),
        Event::Refusal { choice, text } => Some((Channel::Refusal(*choice), text)),
        Event::Reasoning { choice, text, .. } => Some((Channel::Reasoning(*choice), text)),
        Event::ToolCall { choice, index, arguments, .. } => {
            Some((Channel::Arguments(*choice, *index), arguments))
        }
        Event::Embedding { .. }
        | Event::Grounded { .. }
        | Event::Usage(_)
        | Event::Continued { .. }
        | Event::Finish { .. } => None,
    }
}

fn with_text(mut event: Event, new: String) -> Event {
    match &mut event {
        Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Reasoning { text, .. } => *text = new,
        Event::ToolCall { arguments, .. } => *arguments = new,
        Event::Embedding { .. }
        | Event::Grounded { .. }
        | Event::Usage(_)
        | Event::Continued { .. }
        | Event::Finish { .. } => {}
    }
    event
}

/// Whether an event says anything without its text.
fn carries(event: &Event) -> bool {
    match event {
        Event::ToolCall { id, name, arguments, .. } => {
            id.is_some() || name.is_some() || !arguments.is_empty()
        }
        event => event.is_content(),
    }
}
