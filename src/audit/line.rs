//! How a record is spelled: for the audit, the request's log line, a model call's log line.
//!
//! A record is spelled once. Its beginning stays for as long as records are
//! kept; then comes what can be erased: who asked, and the words of the error
//! (the log shows them, too), the question and the answer (it does not).
use std::{borrow::Cow, time::SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use super::{Mask, Record};
use crate::{
    call::{Cached, Notes},
    chat::{Message, Request, Role},
};

/// One line in the making: a JSON object, or `name=value` for a person at a terminal.
///
/// Written field by field rather than by a derived `Serialize`, which would
/// look for something to escape in every name of every line.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    json: bool,
}

impl<'a> Line<'a> {
    fn new(out: &'a mut Vec<u8>, json: bool) -> Self {
        if json {
            out.push(b'{');
        }
        Self { out, json }
    }

    fn name(&mut self, name: &'static str) {
        if self.json {
            self.out.push(b'"');
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"\":");
        } else {
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(b'=');
        }
    }

    fn with(&mut self, name: &'static str, value: impl Serialize) -> &mut Self {
        self.name(name);
        self.value(&value);
        self.out.push(if self.json { b',' } else { b' ' });
        self
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) {
        // A vector takes every byte, and none of these values can fail to be spelled.
        let spelled = serde_json::to_writer(&mut *self.out, value);
        debug_assert!(spelled.is_ok());
    }

    /// A text. Nearly all of them hold nothing to escape, and are copied as they are.
    fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.name(name);
        if is_plain(text) {
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
        } else {
            self.value(text);
        }
        self.out.push(if self.json { b',' } else { b' ' });
        self
    }

    /// A text that JSON shows as `null` where there is none.
    fn nullable_text(&mut self, name: &'static str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None if self.json => self.with(name, ()),
            None => self,
        }
    }

    /// A field that is left out where there is nothing to say.
    fn maybe(&mut self, name: &'static str, value: Option<impl Serialize>) -> &mut Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// A field that JSON shows as `null` where there is nothing to say.
    fn nullable(&mut self, name: &'static str, value: Option<impl Serialize>) -> &mut Self {
        match value {
            None if self.json => self.with(name, ()),
            value => self.maybe(name, value),
        }
    }

    /// When, how grave, and what about: what every line begins with.
    fn begin(&mut self, at: &str, level: &'static str, message: &'static str) -> &mut Self {
        if self.json {
            return self.text("timestamp", at).text("level", level).text("message", message);
        }
        for word in [at, level, message] {
            self.out.extend_from_slice(word.as_bytes());
            self.out.push(b' ');
        }
        self
    }

    fn end(&mut self) {
        if self.json {
            self.out.pop();
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    /// Leaves an object open, with no comma at its end.
    fn leave_open(&mut self) {
        if self.json {
            self.out.pop();
        }
    }
}

#[derive(Serialize)]
struct AttemptLine<'a> {
    provider: &'a str,
    model: &'a str,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// What it took, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    /// Its share of the cost, where several had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

/// Whether JSON shows a text as it is. Every byte is looked at: without a way
/// out of the loop it is done many bytes at a time.
fn is_plain(text: &str) -> bool {
    let special = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    text.bytes().fold(0, |found, byte| found | special(byte)) == 0
}

/// What stays of a record for as long as records are kept: the way of a
/// request through the gateway, in nobody's words but ours.
fn kept(record: &Record, notes: &Notes, at: &str, mask: &mut dyn Mask, line: &mut Line<'_>) {
    let usage = notes.usage.unwrap_or_default();
    let caller = &record.context.caller;
    let chat = record.chat.as_deref();
    let target = notes.target.as_deref();
    // What nobody answered may be no route at all, but anything that the caller wrote.
    let route = chat.map(|chat| match target {
        Some(_) => Cow::Borrowed(&*chat.model),
        None => mask.mask(&chat.model),
    });
    let cached = notes.cache == Cached::Hit;
    let several = notes.attempts.iter().filter(|attempt| attempt.usage.is_some()).count() > 1;
    let attempts = notes.attempts.iter().map(|attempt| AttemptLine {
        provider: &attempt.target.provider,
        model: &attempt.target.model,
        ms: attempt.took.as_millis() as u64,
        error: attempt.error,
        input_tokens: attempt.usage.map(|usage| usage.input),
        output_tokens: attempt.usage.map(|usage| usage.output),
        cost_usd: attempt.usage.filter(|_| several).map(|usage| usage.cost.unwrap_or_default().usd()),
    });
    let attempts: Vec<_> = attempts.collect();
    let question_length = chat.map_or(0, |chat| {
        let asked = chat.messages.iter().rev().find(|message| message.role == Role::User);
        asked.map_or(0, |message| message.text().chars().count())
    });
    let millis = |took: std::time::Duration| took.as_millis() as u64;
    line.begin(at, if record.status >= 500 { "WARN" } else { "INFO" }, "request")
        .text("request_id", &record.context.id)
        .text("endpoint", record.context.endpoint)
        .text("key", caller.key())
        .maybe("key_id", (*caller.rights.id != **caller.key()).then_some(&*caller.rights.id))
        .text("tenant", caller.tenant());
    line.with("latency_ms", millis(record.took))
        .maybe("first_token_ms", record.first_token.map(millis))
        .maybe("queued_ms", (!notes.queued.is_zero()).then(|| millis(notes.queued)))
        .nullable("confidence", notes.confidence)
        .with("question_length", question_length)
        .maybe("answer_length", record.answer.as_ref().map(|answer| answer.length))
        .nullable_text("prompt_version", notes.prompt_version.as_deref())
        .nullable_text("corpus_version", notes.corpus_version.as_deref());
    if let Some(versions) = &record.versions {
        line.text("policy_version", &versions.policy).text("price_version", &versions.prices);
    }
    line.with("input_tokens", usage.input)
        .with("output_tokens", usage.output)
        .maybe("usage_estimated", usage.estimated.then_some(true))
        .with("cost_usd", usage.cost.filter(|_| !cached).unwrap_or_default().usd())
        .maybe("route", route.as_deref())
        .nullable_text("model", target.map(|target| &*target.model).or(route.as_deref()))
        .nullable_text("model_version", target.map(|target| &*target.version))
        .nullable_text("provider", target.map(|target| &*target.provider))
        .text(
            "cache",
            match notes.cache {
                Cached::Bypass => "bypass",
                Cached::Miss => "miss",
                Cached::Hit => "exact",
            },
        )
        .with("status", record.status)
        .text("outcome", record.outcome)
        .with("stream", chat.is_some_and(|chat| chat.stream))
        .with("attempts", attempts)
        .maybe("continued", (notes.continued > 0).then_some(notes.continued))
        .maybe("fell_back", notes.fell_back.then_some(true))
        .maybe("stood_in", notes.stood_in.then_some(true))
        .maybe("cleaned", notes.cleaned.then_some(true))
        .maybe("filtered", notes.filtered.as_deref())
        .maybe("findings", (!notes.findings.is_empty()).then_some(&notes.findings))
        .maybe("judged", (!notes.judged.is_empty()).then_some(&notes.judged))
        .maybe("approved", notes.approved.as_deref())
        .maybe("review", (record.review || notes.review).then_some(true));
    if let Some(sources) = record.sources.as_ref().filter(|sources| !sources.is_empty()) {
        let mut documents: Vec<&str> = sources.iter().map(|source| &*source.document).collect();
        documents.dedup();
        line.with("sources", documents);
    }
    line.maybe("more", (record.more > 0).then_some(record.more))
        .maybe("replay_of", record.replay_of.as_deref())
        .text("trace_id", record.context.trace.id());
}

/// What can be erased, and the log shows.
fn personal(record: &Record, mask: &mut dyn Mask, line: &mut Line<'_>) {
    let caller = &record.context.caller;
    let user = caller.user.as_deref().map(|user| mask.name(caller.tenant(), user));
    line.nullable_text("user_id", user.as_deref());
    if let Some(session) = &record.context.session {
        line.text("session_id", &mask.name(caller.tenant(), session));
    }
    if let Some(error) = &record.error {
        line.text("error", &mask.mask(error));
    }
}

/// What can be erased, and only the audit holds. Who is promised that a person
/// looks must be able to rely on it: the question is there, whatever is set.
fn said(record: &Record, notes: &Notes, how: How, mask: &mut dyn Mask, line: &mut Line<'_>) {
    if !how.content && !record.review && !notes.review {
        return;
    }
    if let Some(detail) = &record.detail {
        line.text("error_detail", &cut(mask.mask(detail), how.most));
    }
    if let Some(chat) = &record.chat {
        line.text("question", &cut(mask.mask(&asked(chat, how.most)), how.most));
    }
    if let Some(answer) = &record.answer {
        let text = mask.mask(&answer.text);
        let longer = answer.length > answer.text.len();
        let text = if longer { Cow::Owned(format!("{text}{}", cut_mark(answer.length))) } else { text };
        line.text("answer", &text);
        if let Some(withheld) = &notes.withheld {
            line.text("withheld", &cut(mask.mask(withheld), how.most));
        }
    }
}

/// The words of a conversation, the last ones where there are too many.
fn asked(chat: &Request, most: usize) -> String {
    let (mut texts, mut length) = (Vec::new(), 0);
    for message in chat.messages.iter().rev() {
        let text = Message::text(message);
        length += text.len() + 1;
        texts.push(text);
        // A little more than fits: what is masked may become shorter.
        if length > 2 * most {
            break;
        }
    }
    texts.reverse();
    texts.join("\n")
}

/// At most so many bytes of a text's end.
fn cut(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text;
    }
    let rest = &text[text.ceil_char_boundary(text.len() - most)..];
    Cow::Owned(format!("{}{rest}", cut_mark(text.len())))
}

fn cut_mark(length: usize) -> String {
    format!("[… cut, of {length} bytes …]")
}

/// Writes the log's line for each model call.
fn calls(record: &Record, notes: &Notes, at: &str, json: bool, out: &mut Vec<u8>) {
    for attempt in &notes.attempts {
        let usage = attempt.usage.unwrap_or_default();
        Line::new(out, json)
            .begin(at, if attempt.error.is_some() { "WARN" } else { "INFO" }, "llm_call")
            .text("request_id", &record.context.id)
            .text("model", &attempt.target.model)
            .text("provider", &attempt.target.provider)
            .with("input_tokens", usage.input)
            .with("output_tokens", usage.output)
            .with("latency_ms", attempt.took.as_millis() as u64)
            .with("cost_usd", usage.cost.unwrap_or_default().usd())
            .nullable_text("prompt_version", notes.prompt_version.as_deref())
            .text("endpoint", record.context.endpoint)
            .with("success", attempt.error.is_none())
            .nullable_text("error", attempt.error)
            .end();
    }
}

/// How a record is to be spelled.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Whether it holds question and answer.
    pub content: bool,
    /// The most of each, in bytes.
    pub most: usize,
    /// Whether there are log lines, and whether as JSON.
    pub log: Option<bool>,
}

/// A record, spelled.
#[derive(Default)]
pub(super) struct Spelled {
    /// What stays: a JSON object without its end.
    pub meta: Vec<u8>,
    /// What can be erased: further fields, each after a comma.
    pub content: Vec<u8>,
    /// The log's lines.
    pub log: Vec<u8>,
}

impl Spelled {
    /// Spells a record, and the log's lines for the request and each model call.
    pub(super) fn spell(&mut self, record: &Record, notes: &Notes, how: How, mask: &mut dyn Mask) {
        let at = time(record.at);
        let (meta, content, log) = (&mut self.meta, &mut self.content, &mut self.log);
        let mut line = Line::new(meta, true);
        kept(record, notes, &at, mask, &mut line);
        line.leave_open();
        content.push(b',');
        // Within the object that `meta` has begun.
        let mut line = Line { out: content, json: true };
        personal(record, mask, &mut line);
        let shown = line.out.len() - 1;
        said(record, notes, how, mask, &mut line);
        line.leave_open();
        match how.log {
            None => {}
            Some(true) => {
                calls(record, notes, &at, true, log);
                for part in [&meta[..], &content[..shown], b"}\n"] {
                    log.extend_from_slice(part);
                }
            }
            Some(false) => {
                calls(record, notes, &at, false, log);
                let mut line = Line::new(log, false);
                kept(record, notes, &at, mask, &mut line);
                personal(record, mask, &mut line);
                line.end();
            }
        }
    }

    /// Makes room for the next one, and keeps little.
    pub(super) fn clear(&mut self) {
        for part in [&mut self.meta, &mut self.content, &mut self.log] {
            part.clear();
            part.shrink_to(LARGE);
        }
    }
}

/// More than this is not kept for the next record, in bytes.
const LARGE: usize = 64 << 10;

/// A moment as RFC 3339 has it, to the microsecond.
pub(super) fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|at| format!("{at:.6}")).unwrap_or_default()
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
