//! What each stage decided, for those who run the gateway: `x-sluice-explain: 1`.
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{answer::names, error::Shape};
use crate::{
    call::{Attempt, Caller, Context, Notes, Target},
    caller::Role,
    error::{Error, Result},
};

/// Whether the caller asks for an explanation, and may have it.
pub fn asked(headers: &HeaderMap, caller: &Caller) -> Result<bool> {
    match headers.get(&names::X_SLUICE_EXPLAIN).map(http::HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(false),
        Some(b"1") if caller.rights.roles.has(Role::Admin) => Ok(true),
        Some(b"1") => Err(Error::Forbidden("`x-sluice-explain` needs a key with the role `admin`".into())),
        Some(_) => Err(Error::invalid("x-sluice-explain", "must be 0 or 1")),
    }
}

/// What became of a call, and what each stage decided, in their order.
pub fn explanation(context: &Context, notes: &Notes) -> Value {
    let stages = notes.decisions.iter().map(|(stage, what)| {
        let mut told = Map::new();
        told.insert("stage".into(), (*stage).into());
        match what {
            Value::Object(what) => told.extend(what.clone()),
            what => drop(told.insert("decision".into(), what.clone())),
        }
        Value::Object(told)
    });
    json!({
        "stages": stages.collect::<Vec<_>>(),
        "attempts": notes.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "answered_by": notes.target.as_deref().map(named),
        "fell_back": notes.fell_back,
        "filtered_by": notes.filtered,
        "queued_ms": millis(notes.queued),
        "took_ms": millis(context.began.elapsed()),
        "cost_usd": notes.usage.and_then(|usage| usage.cost).map(crate::chat::Cost::usd),
        "versions": {
            "sluice": env!("CARGO_PKG_VERSION"),
            "config": context.explain.as_deref(),
            "model": notes.target.as_ref().map(|target| &*target.version),
            "prompt": notes.prompt_version.as_deref(),
            "corpus": notes.corpus_version.as_deref(),
        },
    })
}

/// Puts an explanation into a reply's JSON object: as `explain`, or, where the
/// reply has the shape of somebody else's API, as `sluice`.
pub fn add(body: Vec<u8>, shape: Shape, explanation: &Value) -> Vec<u8> {
    let name = if shape == Shape::Native { "explain" } else { "sluice" };
    match serde_json::from_slice(&body) {
        Ok(Value::Object(mut fields)) => {
            fields.insert(name.into(), explanation.clone());
            serde_json::to_vec(&fields).unwrap_or(body)
        }
        _ => body,
    }
}

fn attempt(attempt: &Attempt) -> Value {
    json!({"target": named(&attempt.target), "took_ms": millis(attempt.took), "error": attempt.error})
}

fn named(target: &Target) -> String {
    format!("{}/{}", target.provider, target.model)
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_keeps_its_fields_and_gets_one_more() {
        let told =
            |shape| String::from_utf8(add(br#"{"b":1,"a":2.50}"#.to_vec(), shape, &json!({}))).unwrap();
        assert_eq!(told(Shape::Native), r#"{"b":1,"a":2.5,"explain":{}}"#);
        assert_eq!(told(Shape::OpenAi), r#"{"b":1,"a":2.5,"sluice":{}}"#);
        assert_eq!(add(b"no object".to_vec(), Shape::Native, &json!({})), b"no object");
    }
}
