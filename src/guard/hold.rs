//! The one mechanism by which guards judge text that comes in pieces.
//!
//! A guard is shown a text as far as it is known, and tells up to where it is
//! sure: nothing that may still come makes a finding of what is before that.
//! Only that much leaves. So no byte of a finding ever leaves, wherever the
//! text is cut; and where nothing is found, what leaves is byte for byte what
//! came, later by at most the longest match that is still open.
//!
//! An answer has several texts: what is thought, what is said, the arguments of each tool call. Mostly one follows
//! the other, and where the next one begins, the one before has ended. Some providers send pieces of them in turns.
//! So the first pieces of the next one wait for a moment: if the one before goes on, the texts are held each by
//! itself from there on.
mod channel;

use std::{collections::VecDeque, fmt, ops::Range, sync::Arc};

use self::channel::{Channel, carries, channel_of, choice_of, with_text};
use crate::{
    chat::{Event, Finish},
    reply::{Flow, Rewrite},
};

/// A rule for text that comes in pieces. It keeps nothing: the mechanism keeps the text.
pub trait Guard: Send + Sync + fmt::Debug {
    /// Its name, for metrics and the trail.
    fn name(&self) -> &'static str;
    /// Whether text waits for its verdict. One that does not only watches.
    fn holds(&self) -> bool;
    /// How many bytes before `from` a verdict may depend on: words of context, borders.
    fn behind(&self) -> usize;
    /// Judges `text` from byte `from` on; what stands before that is judged
    /// already, and only context. Adds what is certain, in order, and gives
    /// back up to where it is sure: no finding lies across that place, whatever
    /// comes. The next call has it as `from`. With `ended` nothing comes any
    /// more, and all is certain: it gives back the text's length.
    fn scan(&self, text: &str, from: usize, ended: bool, found: &mut Vec<Found>) -> usize;
}

/// What a guard found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where, in bytes of the text.
    pub range: Range<usize>,
    /// What it is: a configured name, fit for a metric's label.
    pub what: Arc<str>,
    /// What is to be done.
    pub act: Act,
}

/// What is to be done about a finding.
#[derive(Clone, PartialEq, Eq)]
pub enum Act {
    /// It is counted.
    Log,
    /// This stands in its place.
    Replace(Arc<str>),
    /// This stands in its place: a caller's own value, which is spelled as JSON wants it where the text is JSON.
    Restore(Arc<str>),
    /// The text does not leave.
    Block,
}

/// Values of callers are not shown.
impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Act {
    /// Its name, as in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Replace(_) => "mask",
            Self::Restore(_) => "restore",
            Self::Block => "block",
        }
    }
}

/// What stands in for what may not leave.
pub const FILTERED: &str = "[Output filtered for security]";

/// More channels than these no decoder lets through: 1,024 tool calls, and three texts of each of 128 answers.
const MOST_CHANNELS: usize = 1024 + 3 * 128;
/// What has left is forgotten in pieces of this size, in bytes.
const FORGET: usize = 1024;
/// So much of the next text waits to see whether the one before has ended, in bytes, each piece [`PIECE`] more.
const MOST_WAITING: usize = 256;
/// What a piece counts beside its text, in bytes.
const PIECE: usize = 8;

/// Is told what is found: the guard and the finding.
pub type Told = Box<dyn FnMut(&dyn Guard, &Found) + Send>;

/// How a reply is judged.
pub struct Judging {
    guards: Arc<[Arc<dyn Guard>]>,
    told: Told,
    /// Whether the answer's text is JSON, so that what is put into it must be spelled so.
    json: bool,
    /// Whether nothing leaves until all is judged: of an answer that leaves as a whole, nothing leaves if one part may not.
    whole: bool,
    /// Whether a part may not leave, and the rest is read for what it took alone.
    over: bool,
    kept: VecDeque<Event>,
    channels: Vec<(Channel, Held)>,
    order: Order,
    /// What waits to see whether the text before it has ended, at most one of each choice.
    waiting: Vec<Waiting>,
}

/// How the texts of a choice come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// One after the other: each ends where the next one begins.
    OneByOne,
    /// Pieces of several in turns: all end with the choice.
    InTurns,
}

/// Pieces that wait to see whether the text before them goes on.
struct Waiting {
    choice: u32,
    /// The channel of that text.
    before: usize,
    events: VecDeque<Event>,
    size: usize,
}

impl fmt::Debug for Judging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judging").field("guards", &self.guards).finish_non_exhaustive()
    }
}

/// A text near its end.
#[derive(Default)]
struct Held {
    /// What has left already, as far back as a verdict can depend on it, then what is held back.
    text: String,
    /// How much of `text` has left.
    sent: usize,
    /// Up to where each guard is sure.
    sure: Vec<usize>,
    /// What stands in place of what, in order; none begins before `sent`.
    edits: VecDeque<(Range<usize>, Act)>,
}

/// What may leave of a text.
enum Ready {
    /// All that came, as it came.
    AsItCame,
    /// This.
    Text(String),
    /// Nothing any more.
    Never,
}

impl Judging {
    /// Judges by these guards. `whole`: nothing leaves until all is judged; `json`: the answer's text is JSON.
    pub fn new(guards: Arc<[Arc<dyn Guard>]>, whole: bool, json: bool, told: Told) -> Self {
        Self {
            guards,
            told,
            json,
            whole,
            over: false,
            kept: VecDeque::new(),
            channels: Vec::new(),
            // Nobody sees of a whole answer in which order its texts came.
            order: if whole { Order::InTurns } else { Order::OneByOne },
            waiting: Vec::new(),
        }
    }

    /// Holds each text by itself from the beginning: what is held back of it leaves when it goes on or with the end of
    /// its choice. Fit for guards that hardly ever hold anything at the end of a text.
    #[must_use]
    pub fn each_by_itself(self) -> Self {
        Self { order: Order::InTurns, ..self }
    }

    /// Sends an event on, or keeps it until a whole answer is judged.
    fn pass(&mut self, event: Event, out: &mut VecDeque<Event>) {
        if self.whole { self.kept.push_back(event) } else { out.push_back(event) }
    }

    /// Ends the texts of a choice, or of all. Tells whether something may not leave.
    fn end_texts(&mut self, of: Option<u32>, out: &mut VecDeque<Event>) -> bool {
        (0..self.channels.len()).any(|slot| {
            of.is_none_or(|choice| self.channels[slot].0.choice() == choice) && self.end_text(slot, out)
        })
    }

    /// Ends a text. Tells whether something may not leave.
    fn end_text(&mut self, slot: usize, out: &mut VecDeque<Event>) -> bool {
        let (channel, held) = &self.channels[slot];
        if held.sent == held.text.len() {
            return false;
        }
        let channel = *channel;
        match self.judge(slot, "", true) {
            Ready::Never => return true,
            Ready::AsItCame => {}
            Ready::Text(text) if text.is_empty() => {}
            Ready::Text(text) => self.pass(channel.event(text), out),
        }
        false
    }

    /// The text of the same choice of which something is held back.
    fn open_beside(&self, channel: Channel) -> Option<usize> {
        self.channels.iter().position(|(other, held)| {
            *other != channel && other.choice() == channel.choice() && held.sent < held.text.len()
        })
    }

    /// Takes an event while others wait.
    fn sort_in(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow {
        let mut work = VecDeque::from([event]);
        while let Some(event) = work.pop_front() {
            let of = choice_of(&event);
            let Some(at) = self.waiting.iter().position(|waiting| Some(waiting.choice) == of) else {
                match self.take(event, out) {
                    Flow::Continue => continue,
                    Flow::Stop => return Flow::Stop,
                }
            };
            let before = self.waiting[at].before;
            let text = channel_of(&event);
            if text.is_some_and(|(channel, text)| channel == self.channels[before].0 && !text.is_empty()) {
                self.order = Order::InTurns;
            } else {
                let waiting = &mut self.waiting[at];
                waiting.size += PIECE + text.map_or(0, |(_, text)| text.len());
                if waiting.size <= MOST_WAITING && !matches!(event, Event::Finish { .. }) {
                    waiting.events.push_back(event);
                    continue;
                }
                if self.end_text(before, out) {
                    return self.stop(out);
                }
            }
            // All that waited is judged before this one.
            work.push_front(event);
            let waited = self.waiting.swap_remove(at).events;
            waited.into_iter().rev().for_each(|event| work.push_front(event));
        }
        Flow::Continue
    }

    /// Adds a piece to a text, and gives back what may leave of it now.
    fn judge(&mut self, slot: usize, piece: &str, ended: bool) -> Ready {
        let Self { guards, told, channels, json, .. } = self;
        let (channel, held) = &mut channels[slot];
        let json =
            matches!(channel, Channel::Arguments(..)) || (*json && matches!(channel, Channel::Text(_)));
        held.sure.resize(guards.len(), 0);
        let untouched = held.sent == held.text.len();
        held.text.push_str(piece);
        let (mut upto, mut found, mut edited) = (held.text.len(), Vec::new(), false);
        for (guard, sure) in guards.iter().zip(&mut held.sure) {
            *sure = guard.scan(&held.text, *sure, ended, &mut found).max(*sure);
            if guard.holds() {
                upto = upto.min(*sure);
            }
            for found in found.drain(..) {
                told(&**guard, &found);
                match found.act {
                    Act::Log => {}
                    Act::Block => return Ready::Never,
                    act => {
                        edited = true;
                        held.edits.push_back((found.range, act));
                    }
                }
            }
        }
        if edited {
            held.edits.make_contiguous().sort_by_key(|(range, _)| (range.start, range.end));
        }
        let upto = upto.max(held.sent);
        if untouched && upto == held.text.len() && held.edits.is_empty() {
            // The common case: nothing was held, nothing is held, the piece leaves as it came.
            held.sent = upto;
            held.forget(guards);
            return Ready::AsItCame;
        }
        let ready = held.release(upto, json);
        held.forget(guards);
        Ready::Text(ready)
    }

    /// Ends the answer with the notice in place of what may not leave. A whole answer is read to
    /// its end: what it took is said there.
    fn stop(&mut self, out: &mut VecDeque<Event>) -> Flow {
        self.channels.clear();
        self.waiting.clear();
        self.kept.retain(|event| matches!(event, Event::Usage(_)));
        if self.whole {
            self.over = true;
            return Flow::Continue;
        }
        self.notice(out);
        Flow::Stop
    }

    fn notice(&mut self, out: &mut VecDeque<Event>) {
        out.append(&mut self.kept);
        out.push_back(Event::text(FILTERED));
        out.push_back(Event::finish(Finish::Filtered));
    }
}

impl Judging {
    /// Judges an event for which nothing waits.
    fn take(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow {
        let Some((channel, text)) = channel_of(&event) else {
            // The end of a choice is the end of its texts.
            if let Event::Finish { choice, .. } = event
                && self.end_texts(Some(choice), out)
            {
                return self.stop(out);
            }
            self.pass(event, out);
            return Flow::Continue;
        };
        // Something else of the same choice begins: what is held back comes before it, if it has ended.
        if self.order == Order::OneByOne
            && let Some(before) = self.open_beside(channel)
        {
            let (choice, size) = (channel.choice(), PIECE + text.len());
            if size <= MOST_WAITING {
                self.waiting.push(Waiting { choice, before, events: VecDeque::from([event]), size });
                return Flow::Continue;
            }
            if self.end_text(before, out) {
                return self.stop(out);
            }
        }
        let slot = match self.channels.iter().position(|(at, _)| *at == channel) {
            Some(slot) => slot,
            None if self.channels.len() < MOST_CHANNELS => {
                self.channels.push((channel, Held::default()));
                self.channels.len() - 1
            }
            None => return self.stop(out),
        };
        // The proof of authorship ends a thought.
        let ended = matches!(event, Event::Reasoning { signature: Some(_), .. });
        match self.judge(slot, text, ended) {
            Ready::Never => return self.stop(out),
            Ready::AsItCame => self.pass(event, out),
            Ready::Text(text) => {
                let event = with_text(event, text);
                if carries(&event) {
                    self.pass(event, out);
                }
            }
        }
        Flow::Continue
    }
}

impl Rewrite for Judging {
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow {
        if self.over {
            if matches!(event, Event::Usage(_)) {
                self.kept.push_back(event);
            }
            return Flow::Continue;
        }
        match self.waiting.is_empty() {
            true => self.take(event, out),
            false => self.sort_in(event, out),
        }
    }

    fn end(&mut self, out: &mut VecDeque<Event>) {
        while let Some(waiting) = self.waiting.pop() {
            let stopped = self.end_text(waiting.before, out);
            if stopped {
                self.stop(out);
                return;
            }
            for event in waiting.events {
                if self.event(event, out) == Flow::Stop {
                    return;
                }
            }
        }
        if self.over || self.end_texts(None, out) {
            self.kept.retain(|event| matches!(event, Event::Usage(_)));
            self.notice(out);
        } else {
            out.append(&mut self.kept);
        }
    }
}

impl Held {
    /// What leaves up to a place, with what stands in place of findings. A
    /// finding that reaches beyond the place waits as a whole.
    fn release(&mut self, upto: usize, json: bool) -> String {
        let mut ready = String::with_capacity(upto - self.sent);
        let mut upto = upto;
        while let Some((range, _)) = self.edits.front() {
            if range.end > upto {
                upto = upto.min(range.start).max(self.sent);
                break;
            }
            let Some((range, act)) = self.edits.pop_front() else { break };
            // Of findings that overlap the first is told, and nothing of the second leaves either.
            if range.start >= self.sent {
                ready.push_str(&self.text[self.sent..range.start]);
                put(&mut ready, &act, json);
            }
            self.sent = self.sent.max(range.end);
        }
        let upto = upto.max(self.sent);
        ready.push_str(&self.text[self.sent..upto]);
        self.sent = upto;
        ready
    }

    /// Forgets what no verdict depends on any more.
    fn forget(&mut self, guards: &[Arc<dyn Guard>]) {
        let needed = guards.iter().zip(&self.sure).map(|(guard, sure)| sure.saturating_sub(guard.behind()));
        let mut cut = needed.min().unwrap_or(self.sent).min(self.sent);
        if cut < FORGET {
            return;
        }
        while !self.text.is_char_boundary(cut) {
            cut -= 1;
        }
        self.text.drain(..cut);
        self.sent -= cut;
        self.sure.iter_mut().for_each(|sure| *sure -= cut);
        for (range, _) in &mut self.edits {
            *range = range.start - cut..range.end - cut;
        }
    }
}

/// Puts what stands in place of a finding.
fn put(text: &mut String, act: &Act, json: bool) {
    match act {
        Act::Replace(other) => text.push_str(other),
        Act::Restore(value) if !json => text.push_str(value),
        Act::Restore(value) => {
            // A text can always be spelled; the quotes around it are there already.
            let spelled = serde_json::to_string(&**value).unwrap_or_default();
            text.push_str(spelled.get(1..spelled.len().saturating_sub(1)).unwrap_or_default());
        }
        Act::Log | Act::Block => {}
    }
}
