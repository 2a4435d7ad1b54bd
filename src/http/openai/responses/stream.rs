//! A streamed answer of Responses:
//! <https://platform.openai.com/docs/api-reference/responses-streaming>.
use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::shell::{Item, ItemJson, PartJson, Shell, State, failure_code};
use crate::{
    chat::{self, Event, Finish, Request},
    error::Error,
    http::{json, sse::Encoder},
    reply::Head,
};

/// Writes an answer as items, one open at a time, and keeps them for the last
/// event, which has the whole answer.
pub struct ResponseStream {
    shell: Shell,
    items: Vec<Item>,
    /// What is being written of the last item.
    open: Option<Open>,
    /// The calls' items, by the index of the call.
    calls: Vec<(u32, usize)>,
    /// The number of the next event.
    sequence: u64,
    usage: Option<chat::Usage>,
    finish: Option<Finish>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Thought,
    Text,
    Refusal,
    Call,
}

/// The fields of an event that most of them have.
#[derive(Default, Serialize)]
struct Fields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<ItemJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    fields: Fields<'a>,
}

impl ResponseStream {
    /// A stream. `id` is the request's, `created` in seconds since 1970.
    pub fn new(head: &Head, chat: &Request, id: &str, created: u64) -> Self {
        Self {
            shell: Shell::new(head, chat, id, created),
            items: Vec::new(),
            open: None,
            calls: Vec::new(),
            sequence: 0,
            usage: None,
            finish: None,
        }
    }

    /// An event that has the whole response.
    fn tell(&mut self, kind: &str, state: State<'_>, out: &mut BytesMut) {
        // Formatting into memory does not fail.
        let _ = write!(
            out,
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{},\"response\":",
            self.sequence
        );
        self.shell.put(&self.items, state, self.usage, out);
        out.put_slice(b"}\n\n");
        self.sequence += 1;
    }

    /// Begins an item, or another part of the one that is open.
    fn begin(&mut self, open: Open, out: &mut BytesMut) {
        if self.open == Some(open) && open != Open::Call {
            return;
        }
        let same_message = matches!((self.open, open), (Some(Open::Text), Open::Refusal));
        if same_message {
            self.end_part(out);
        } else {
            self.end_item(out);
            let id = |kind| self.shell.item_id(kind, self.items.len());
            match open {
                Open::Thought => {
                    self.items.push(Item::Reasoning { id: id("rs"), text: String::new(), proof: None });
                }
                Open::Text | Open::Refusal => {
                    let (id, text, refusal) = (id("msg"), String::new(), String::new());
                    self.items.push(Item::Message { id, text, refusal });
                }
                // Its caller has made it: only there the name is known.
                Open::Call => {}
            }
            if open != Open::Call {
                self.item_added(out);
            }
        }
        self.open = Some(open);
        self.part_event(true, out);
    }

    fn item_added(&mut self, out: &mut BytesMut) {
        let Some(item) = self.items.last() else { return };
        let item = Some(ItemJson { item, status: "in_progress" });
        let fields = Fields { output_index: Some(self.items.len() - 1), item, ..Fields::default() };
        numbered(&mut self.sequence, "response.output_item.added", fields, out);
    }

    /// Tells that a part of the open item begins, or what has become of it.
    fn part_event(&mut self, added: bool, out: &mut BytesMut) {
        let (Some(open), Some(item)) = (self.open, self.items.last()) else { return };
        let output_index = Some(self.items.len() - 1);
        let said = |text| if added { "" } else { text };
        let (kind, fields) = match (open, item) {
            (Open::Thought, Item::Reasoning { id, text, .. }) => {
                let part = Some(PartJson::SummaryText { text: said(text) });
                let kind = ["response.reasoning_summary_part.done", "response.reasoning_summary_part.added"]
                    [usize::from(added)];
                (kind, Fields { item_id: Some(id), summary_index: Some(0), part, ..Fields::default() })
            }
            (Open::Text | Open::Refusal, Item::Message { id, text, refusal }) => {
                let kind = ["response.content_part.done", "response.content_part.added"][usize::from(added)];
                let (index, part) = if open == Open::Text {
                    (0, PartJson::text(said(text)))
                } else {
                    (usize::from(!text.is_empty()), PartJson::Refusal { refusal: said(refusal) })
                };
                let (content_index, part) = (Some(index), Some(part));
                (kind, Fields { item_id: Some(id), content_index, part, ..Fields::default() })
            }
            _ => return,
        };
        numbered(&mut self.sequence, kind, Fields { output_index, ..fields }, out);
    }

    /// Ends the part that is being written.
    fn end_part(&mut self, out: &mut BytesMut) {
        let (Some(open), Some(item)) = (self.open, self.items.last()) else { return };
        let output_index = Some(self.items.len() - 1);
        let (kind, fields) = match (open, item) {
            (Open::Thought, Item::Reasoning { id, text, .. }) => {
                let fields = Fields {
                    item_id: Some(id),
                    summary_index: Some(0),
                    text: Some(text),
                    ..Fields::default()
                };
                ("response.reasoning_summary_text.done", fields)
            }
            (Open::Text, Item::Message { id, text, .. }) => {
                let (content_index, text, logprobs) = (Some(0), Some(text.as_str()), Some([]));
                let fields = Fields { item_id: Some(id), content_index, text, logprobs, ..Fields::default() };
                ("response.output_text.done", fields)
            }
            (Open::Refusal, Item::Message { id, text, refusal }) => {
                let content_index = Some(usize::from(!text.is_empty()));
                let fields =
                    Fields { item_id: Some(id), content_index, refusal: Some(refusal), ..Fields::default() };
                ("response.refusal.done", fields)
            }
            (Open::Call, Item::Call { id, name, arguments, .. }) => {
                let (name, arguments) = (Some(name.as_str()), Some(arguments.as_str()));
                (
                    "response.function_call_arguments.done",
                    Fields { item_id: Some(id), name, arguments, ..Fields::default() },
                )
            }
            _ => return,
        };
        numbered(&mut self.sequence, kind, Fields { output_index, ..fields }, out);
        self.part_event(false, out);
    }

    /// Ends the item that is being written.
    fn end_item(&mut self, out: &mut BytesMut) {
        self.end_part(out);
        if self.open.take().is_some() {
            self.item_done(out);
        }
    }

    fn item_done(&mut self, out: &mut BytesMut) {
        let Some(item) = self.items.last() else { return };
        let item = Some(ItemJson { item, status: "completed" });
        let fields = Fields { output_index: Some(self.items.len() - 1), item, ..Fields::default() };
        numbered(&mut self.sequence, "response.output_item.done", fields, out);
    }

    fn text(&mut self, piece: &str, open: Open, out: &mut BytesMut) {
        if piece.is_empty() {
            return;
        }
        // In one message the refusal follows the text; a text after it is a message of its own.
        self.begin(open, out);
        let index = self.items.len() - 1;
        let Some(item) = self.items.last_mut() else { return };
        let (kind, fields) = match item {
            Item::Reasoning { id, text, .. } => {
                text.push_str(piece);
                let fields = Fields { item_id: Some(id), summary_index: Some(0), ..Fields::default() };
                ("response.reasoning_summary_text.delta", fields)
            }
            Item::Message { id, text, .. } if open == Open::Text => {
                text.push_str(piece);
                let (content_index, logprobs) = (Some(0), Some([]));
                let fields = Fields { item_id: Some(id), content_index, logprobs, ..Fields::default() };
                ("response.output_text.delta", fields)
            }
            Item::Message { id, text, refusal } => {
                refusal.push_str(piece);
                let content_index = Some(usize::from(!text.is_empty()));
                ("response.refusal.delta", Fields { item_id: Some(id), content_index, ..Fields::default() })
            }
            Item::Call { .. } => return,
        };
        let fields = Fields { output_index: Some(index), delta: Some(piece), ..fields };
        numbered(&mut self.sequence, kind, fields, out);
    }

    /// A thought's proof of authorship ends the thought.
    fn sign(&mut self, signature: String, out: &mut BytesMut) {
        if self.open != Some(Open::Thought) {
            return;
        }
        if let Some(Item::Reasoning { proof, .. }) = self.items.last_mut() {
            *proof = Some(signature);
        }
        self.end_item(out);
    }

    /// A thought that is encrypted comes and goes at once.
    fn redact(&mut self, data: String, out: &mut BytesMut) {
        self.end_item(out);
        let id = self.shell.item_id("rs", self.items.len());
        self.items.push(Item::Reasoning { id, text: String::new(), proof: Some(data) });
        self.item_added(out);
        self.item_done(out);
    }

    fn call(&mut self, call: u32, id: Option<String>, name: Option<String>, piece: &str, out: &mut BytesMut) {
        let known = self.calls.iter().find(|(index, _)| *index == call).map(|(_, item)| *item);
        let index = known.unwrap_or_else(|| {
            self.end_item(out);
            let index = self.items.len();
            let own = self.shell.item_id("fc", index);
            let call_id = id.unwrap_or_else(|| self.shell.item_id("call", index));
            let (name, arguments) = (name.unwrap_or_default(), String::new());
            self.items.push(Item::Call { id: own, call_id, name, arguments });
            self.calls.push((call, index));
            self.item_added(out);
            self.open = Some(Open::Call);
            index
        });
        // A piece may come after the next item has begun: it still names its own.
        if piece.is_empty() {
            return;
        }
        if let Some(Item::Call { id, arguments, .. }) = self.items.get_mut(index) {
            arguments.push_str(piece);
            let (item_id, output_index, delta) = (Some(id.as_str()), Some(index), Some(piece));
            let fields = Fields { item_id, output_index, delta, ..Fields::default() };
            numbered(&mut self.sequence, "response.function_call_arguments.delta", fields, out);
        }
    }
}

fn numbered(sequence: &mut u64, kind: &str, fields: Fields<'_>, out: &mut BytesMut) {
    json::event(out, kind, &Numbered { kind, sequence_number: *sequence, fields });
    *sequence += 1;
}

impl Encoder for ResponseStream {
    fn begin(&mut self, out: &mut BytesMut) {
        self.tell("response.created", State::Running, out);
        self.tell("response.in_progress", State::Running, out);
    }

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            // The API gives one answer at a time.
            Event::Text { choice: 1.., .. }
            | Event::Refusal { choice: 1.., .. }
            | Event::Reasoning { choice: 1.., .. }
            | Event::ToolCall { choice: 1.., .. }
            | Event::Finish { choice: 1.., .. }
            | Event::Embedding { .. }
            | Event::Grounded { .. }
            | Event::Continued { .. } => {}
            Event::Text { text, .. } => self.text(&text, Open::Text, out),
            Event::Refusal { text, .. } => self.text(&text, Open::Refusal, out),
            Event::Reasoning { text, signature, redacted, .. } => {
                self.text(&text, Open::Thought, out);
                if let Some(signature) = signature {
                    self.sign(signature, out);
                }
                if let Some(data) = redacted {
                    self.redact(data, out);
                }
            }
            Event::ToolCall { index, id, name, arguments, .. } => self.call(index, id, name, &arguments, out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish { reason, .. } => self.finish = Some(reason),
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.end_item(out);
        self.usage.get_or_insert_default();
        let finish = self.finish.take().unwrap_or(Finish::Stop);
        let state = State::Ended(&finish);
        let kind = if state.name() == "completed" { "response.completed" } else { "response.incomplete" };
        self.tell(kind, state, out);
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        let _ = write!(
            out,
            "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{},\"code\":",
            self.sequence
        );
        json::put(out, failure_code(error));
        out.put_slice(b",\"message\":");
        json::put(out, &error.to_string());
        out.put_slice(b",\"param\":null}\n\n");
        self.sequence += 1;
        self.tell("response.failed", State::Failed(error), out);
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
