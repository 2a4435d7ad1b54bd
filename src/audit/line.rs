//! How a record is spelled: an audit line, a request's log line, a model call's log line.
use std::{io::Write, time::SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use super::Record;
use crate::{
    call::{Cached, Notes},
    chat::{Message, Role},
};

/// The log's line for one request, with its way through the gateway.
#[derive(Serialize)]
struct RequestLine<'a> {
    timestamp: &'a str,
    level: &'static str,
    message: &'static str,
    request_id: &'a str,
    endpoint: &'static str,
    user_id: Option<&'a str>,
    key: &'a str,
    tenant: &'a str,
    latency_ms: u64,
    confidence: Option<f64>,
    question_length: usize,
    prompt_version: Option<&'a str>,
    corpus_version: Option<&'a str>,
    input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usage_estimated: bool,
    cost_usd: f64,
    model: Option<&'a str>,
    model_version: Option<&'a str>,
    provider: Option<&'a str>,
    cache: &'static str,
    status: u16,
    outcome: &'static str,
    stream: bool,
    attempts: Vec<AttemptLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filtered: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    review: bool,
    trace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
}

#[derive(Serialize)]
struct AttemptLine<'a> {
    provider: &'a str,
    model: &'a str,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// The log's line for one model call.
#[derive(Serialize)]
struct CallLine<'a> {
    timestamp: &'a str,
    level: &'static str,
    message: &'static str,
    request_id: &'a str,
    model: &'a str,
    provider: &'a str,
    input_tokens: u64,
    output_tokens: u64,
    latency_ms: u64,
    cost_usd: f64,
    prompt_version: Option<&'a str>,
    endpoint: &'static str,
    success: bool,
    error: Option<&'static str>,
}

fn request_line<'a>(record: &'a Record, notes: &'a Notes, at: &'a str) -> RequestLine<'a> {
    let usage = notes.usage.unwrap_or_default();
    let caller = &record.context.caller;
    let attempts = notes.attempts.iter().map(|attempt| AttemptLine {
        provider: &attempt.target.provider,
        model: &attempt.target.model,
        ms: attempt.took.as_millis() as u64,
        error: attempt.error,
    });
    let cached = notes.cache == Cached::Hit;
    RequestLine {
        timestamp: at,
        level: if record.status >= 500 { "WARN" } else { "INFO" },
        message: "request",
        request_id: &record.context.id,
        endpoint: record.context.endpoint,
        user_id: caller.user.as_deref(),
        key: &caller.key,
        tenant: &caller.tenant,
        latency_ms: record.took.as_millis() as u64,
        confidence: notes.confidence,
        question_length: record.chat.as_ref().map_or(0, |chat| {
            let asked = chat.messages.iter().rev().find(|m| m.role == Role::User);
            asked.map_or(0, |message| message.text().chars().count())
        }),
        prompt_version: notes.prompt_version.as_deref(),
        corpus_version: notes.corpus_version.as_deref(),
        input_tokens: usage.input,
        output_tokens: usage.output,
        usage_estimated: usage.estimated,
        cost_usd: usage.cost.filter(|_| !cached).unwrap_or_default().usd(),
        model: notes.target.as_ref().map(|t| &*t.model).or(record.chat.as_ref().map(|chat| &*chat.model)),
        model_version: notes.target.as_ref().map(|t| &*t.version),
        provider: notes.target.as_ref().map(|t| &*t.provider),
        cache: match notes.cache {
            Cached::Bypass => "bypass",
            Cached::Miss => "miss",
            Cached::Hit => "exact",
        },
        status: record.status,
        outcome: record.outcome,
        stream: record.chat.as_ref().is_some_and(|chat| chat.stream),
        attempts: attempts.collect(),
        filtered: notes.filtered,
        review: record.review || notes.review,
        trace_id: record.context.trace.id(),
        error: record.error.as_deref(),
        question: None,
        answer: None,
    }
}

/// Writes the audit line.
pub(super) fn audit(record: &Record, notes: &Notes, at: &str, content: bool, out: &mut Vec<u8>) {
    let mut line = request_line(record, notes, at);
    // Who is promised that a person looks must be able to rely on it: the question is there.
    if content || line.review {
        line.question = record.chat.as_ref().map(|chat| {
            let texts: Vec<String> = chat.messages.iter().map(Message::text).collect();
            texts.join("\n")
        });
        line.answer = record.answer.as_deref();
    }
    write_json(&line, out);
}

/// Writes the log's lines: one for the request, one for each model call.
pub(super) fn log(record: &Record, notes: &Notes, at: &str, json: bool, out: &mut Vec<u8>) {
    let last = notes.attempts.len().saturating_sub(1);
    for (index, attempt) in notes.attempts.iter().enumerate() {
        let usage = notes.usage.filter(|_| index == last && attempt.error.is_none()).unwrap_or_default();
        let line = CallLine {
            timestamp: at,
            level: if attempt.error.is_some() { "WARN" } else { "INFO" },
            message: "llm_call",
            request_id: &record.context.id,
            model: &attempt.target.model,
            provider: &attempt.target.provider,
            input_tokens: usage.input,
            output_tokens: usage.output,
            latency_ms: attempt.took.as_millis() as u64,
            cost_usd: usage.cost.unwrap_or_default().usd(),
            prompt_version: notes.prompt_version.as_deref(),
            endpoint: record.context.endpoint,
            success: attempt.error.is_none(),
            error: attempt.error,
        };
        write_line(&line, json, out);
    }
    write_line(&request_line(record, notes, at), json, out);
}

fn write_line(line: &impl Serialize, json: bool, out: &mut Vec<u8>) {
    if json {
        return write_json(line, out);
    }
    // For a person at a terminal: the time, the level, the rest as `name=value`.
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(line) else { return };
    for (name, value) in &fields {
        let written = match (name.as_str(), value) {
            (_, serde_json::Value::Null) => Ok(()),
            ("timestamp" | "level" | "message", serde_json::Value::String(text)) => write!(out, "{text} "),
            (_, value) => write!(out, "{name}={value} "),
        };
        // A vector takes every byte.
        debug_assert!(written.is_ok());
    }
    out.push(b'\n');
}

fn write_json(line: &impl Serialize, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}

/// A moment as RFC 3339 has it, to the microsecond.
pub(super) fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map(|at| format!("{at:.6}")).unwrap_or_default()
}
