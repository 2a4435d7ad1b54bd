//! How a record is spelled: an audit line, a request's log line, a model call's log line.
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::Record;
use crate::{
    call::{Cached, Notes},
    chat::{Message, Role},
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
}

#[derive(Serialize)]
struct AttemptLine<'a> {
    provider: &'a str,
    model: &'a str,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
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

/// Writes the line for one request, with its way through the gateway; with
/// its question and answer where they are wanted.
fn request(record: &Record, notes: &Notes, at: &str, line: &mut Line<'_>, content: bool) {
    let usage = notes.usage.unwrap_or_default();
    let caller = &record.context.caller;
    let chat = record.chat.as_deref();
    let target = notes.target.as_deref();
    let cached = notes.cache == Cached::Hit;
    let several = notes.attempts.iter().filter(|attempt| attempt.usage.is_some()).count() > 1;
    let attempts = notes.attempts.iter().map(|attempt| AttemptLine {
        provider: &attempt.target.provider,
        model: &attempt.target.model,
        ms: attempt.took.as_millis() as u64,
        error: attempt.error,
        cost_usd: attempt.usage.filter(|_| several).map(|usage| usage.cost.unwrap_or_default().usd()),
    });
    let attempts: Vec<_> = attempts.collect();
    let question_length = chat.map_or(0, |chat| {
        let asked = chat.messages.iter().rev().find(|message| message.role == Role::User);
        asked.map_or(0, |message| message.text().chars().count())
    });
    line.begin(at, if record.status >= 500 { "WARN" } else { "INFO" }, "request")
        .text("request_id", &record.context.id)
        .text("endpoint", record.context.endpoint)
        .nullable_text("user_id", caller.user.as_deref())
        .text("key", caller.key())
        .text("tenant", caller.tenant())
        .with("latency_ms", record.took.as_millis() as u64)
        .nullable("confidence", notes.confidence)
        .with("question_length", question_length)
        .nullable_text("prompt_version", notes.prompt_version.as_deref())
        .nullable_text("corpus_version", notes.corpus_version.as_deref())
        .with("input_tokens", usage.input)
        .with("output_tokens", usage.output)
        .maybe("usage_estimated", usage.estimated.then_some(true))
        .with("cost_usd", usage.cost.filter(|_| !cached).unwrap_or_default().usd())
        .nullable_text("model", target.map(|target| &*target.model).or(chat.map(|chat| &*chat.model)))
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
        .maybe("filtered", notes.filtered.as_deref())
        .maybe("review", to_review(record, notes).then_some(true))
        .text("trace_id", record.context.trace.id())
        .maybe("error", record.error.as_deref());
    if content {
        let question = chat.map(|chat| {
            let texts: Vec<String> = chat.messages.iter().map(Message::text).collect();
            texts.join("\n")
        });
        line.maybe("question", question).maybe("answer", record.answer.as_deref());
    }
    line.end();
}

fn to_review(record: &Record, notes: &Notes) -> bool {
    record.review || notes.review
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

/// Where the lines of a record go.
pub(super) struct Lines<'a> {
    /// The audit file's lines, where there is one, and whether they hold questions and answers.
    pub audit: Option<(&'a mut Vec<u8>, bool)>,
    /// The log's lines, where there is one, and whether as JSON.
    pub log: Option<(&'a mut Vec<u8>, bool)>,
}

/// Writes all lines of a record: its audit line, the log's for the request,
/// and the log's for each model call.
pub(super) fn write(record: &Record, notes: &Notes, at: &str, lines: Lines<'_>) {
    // Who is promised that a person looks must be able to rely on it: the question is there.
    let review = to_review(record, notes);
    let mut plain = None;
    let audit = lines.audit.map(|(out, content)| {
        let (begin, content) = (out.len(), content || review);
        request(record, notes, at, &mut Line::new(out, true), content);
        plain = (!content).then_some(begin);
        &*out
    });
    let Some((log, json)) = lines.log else { return };
    calls(record, notes, at, json, log);
    match (audit, plain) {
        // The same line: it is spelled once.
        (Some(audit), Some(begin)) if json => log.extend_from_slice(&audit[begin..]),
        _ => request(record, notes, at, &mut Line::new(log, json), false),
    }
}

/// A moment as RFC 3339 has it, to the microsecond.
pub(super) fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|at| format!("{at:.6}")).unwrap_or_default()
}
