//! `/openapi.json` and `/docs`: what there is, to read and to try, offline.
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    admin, audit, budgets::Budgets, error::Problem, feedback, predict::Prediction, query::Answer, review,
    routes, sessions, summary::Summary,
};
use crate::{call::Priority, review::Reason};

/// The document; made once, when it is first asked for.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string_pretty(&document()).unwrap_or_default());

/// What `POST /query` reads; `/stream` reads the same, and needs no `user_id`.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; `Fields` reads the body and tells every mistake at once"
)]
struct QueryBody {
    /// The question, 1 to 2000 characters.
    #[schemars(length(min = 1, max = 2000))]
    question: String,
    /// Who asks, in the application's own words.
    #[schemars(length(min = 1, max = 256))]
    user_id: String,
    /// The conversation that the question goes on with: a word of the application's own, or `new` for one that is made up.
    #[schemars(length(min = 1, max = 256))]
    session_id: Option<String>,
    /// The model; absent: the configured default.
    model: Option<String>,
    /// How the question is worked on: `auto` (default), `chat` or `rag`.
    mode: Option<String>,
    /// Randomness, 0 (default) to 2.
    #[schemars(range(min = 0, max = 2))]
    temperature: Option<f64>,
    /// The longest answer, in tokens; 512 by default.
    max_tokens: Option<u32>,
    /// A JSON Schema that the answer follows.
    response_schema: Option<Map<String, Value>>,
    /// Whether a stored answer will do; true by default.
    use_cache: Option<bool>,
    /// Of `/stream`: whether the answer is written on while its reader is away.
    resume: Option<bool>,
    /// `low`, `normal` (default) or `high`.
    priority: Option<String>,
    /// The application's own notes.
    metadata: Option<Map<String, Value>>,
}

/// What `POST /predict` reads.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct PredictBody {
    /// The text; past 512 words it is cut.
    text: String,
}

/// The document.
#[expect(clippy::too_many_lines, reason = "a list of paths has no second idea")]
pub fn document() -> Value {
    let mut schemas = SchemaSettings::openapi3().into_generator();
    let query = reference::<QueryBody>(&mut schemas);
    let answer = reference::<Answer>(&mut schemas);
    let predict = reference::<PredictBody>(&mut schemas);
    let prediction = reference::<Prediction>(&mut schemas);
    let summary = reference::<Summary>(&mut schemas);
    let hours = json!([{"name": "hours", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 744, "default": 24},
        "description": "How many hours back."}]);
    let rating = reference::<feedback::Wanted>(&mut schemas);
    let rated = reference::<feedback::Shown>(&mut schemas);
    let item = reference::<review::Shown>(&mut schemas);
    let items = reference::<review::Listed>(&mut schemas);
    let decision = reference::<review::Wanted>(&mut schemas);
    let waiting = json!([
        {"name": "status", "in": "query", "schema": {"type": "string", "enum": review::STATUS}, "description": "Left out: all."},
        {"name": "reason", "in": "query", "schema": {"type": "string", "enum": Reason::NAMES}, "description": "Left out: all."},
        {"name": "since", "in": "query", "schema": {"type": "string"}, "description": "Those that came at this time or later: a date, or a time."},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200}, "description": "50 if left out."},
        {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "`next` of the page before."},
    ]);
    let conversation = reference::<sessions::Shown>(&mut schemas);
    let whose = json!([{"name": "user_id", "in": "query", "schema": {"type": "string"},
        "description": "Whose session it is, as its questions said; left out: they named nobody."}]);
    let budgets = reference::<Budgets>(&mut schemas);
    let problem = reference::<Problem>(&mut schemas);
    let record = reference::<audit::Shown>(&mut schemas);
    let erasure = reference::<audit::Wanted>(&mut schemas);
    let erased = reference::<audit::Done>(&mut schemas);
    let wanted = reference::<admin::Wanted>(&mut schemas);
    let shown = reference::<admin::Shown>(&mut schemas);
    let listed = reference::<admin::Listed>(&mut schemas);
    let page = json!([
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200}, "description": "50 if left out."},
        {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "`next` of the page before."},
        {"name": "tenant", "in": "query", "schema": {"type": "string"}, "description": "For those who look after all tenants: one of them."},
    ]);
    let object = json!({"type": "object"});
    let prompt = json!([
        {"name": "prompt", "in": "query", "schema": {"type": "string"}, "description": "The question."},
        {"name": "resume", "in": "query", "schema": {"type": "boolean"},
            "description": "Whether the answer is written on while its reader is away; also as the header `x-sluice-resume: 1`."},
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
            "description": "The last event that the reader has: what follows it is sent, and nothing is asked."},
        {"name": "last_event_id", "in": "query", "schema": {"type": "string"}, "description": "The same, for who cannot send headers."},
    ]);
    let user = json!([{"name": "x-user-id", "in": "header", "schema": {"type": "string"},
        "description": "Keeps a user with one version of the model."}]);
    let id = json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]);
    let request_id = json!([{"name": "request_id", "in": "path", "required": true, "schema": {"type": "string"},
        "description": "`x-request-id` of the reply. Where several had the same, the newest is told."}]);
    let p = Some(&problem);
    let paths = json!({
        "/query": {"post": operation("Ask a question", Some(&query), ("application/json", &answer), p)},
        "/stream": {
            "post": resumable(operation("Ask a question, read the answer as it is written", Some(&query), SSE, p), &prompt),
            "get": resumable(operation("The same for a browser's EventSource", None, SSE, p), &prompt),
        },
        "/predict": {"post": with(operation("Label a text", Some(&predict), ("application/json", &prediction), p), &user)},
        "/v1/chat/completions": {"post": operation("OpenAI Chat Completions", Some(&object), ("application/json", &object), None)},
        "/v1/embeddings": {"post": operation("OpenAI Embeddings", Some(&object), ("application/json", &object), None)},
        "/v1/responses": {"post": operation("OpenAI Responses", Some(&object), ("application/json", &object), None)},
        "/v1/messages": {"post": operation("Anthropic Messages", Some(&object), ("application/json", &object), None)},
        "/v1/models": {"get": operation("The models that the key may use", None, ("application/json", &object), None)},
        "/v1/models/{id}": {"get": with(operation("One model", None, ("application/json", &object), None), &id)},
        "/admin/keys": {
            "get": with(operation("The keys made at run time, of the tenant", None, ("application/json", &listed), p), &page),
            "post": created(operation("Make a key; it is shown this once", Some(&wanted), ("application/json", &shown), p)),
        },
        "/admin/keys/{id}": {
            "get": with(operation("One key", None, ("application/json", &shown), p), &id),
            "patch": with(operation("Change a key; what is left out stays, null takes it away", Some(&wanted), ("application/json", &shown), p), &id),
            "delete": with(operation("Revoke a key", None, ("application/json", &shown), p), &id),
        },
        "/admin/simulate": {"post": operation(
            "What would become of a question (the body of `/query`, or of a chat completion), without asking a model",
            Some(&object), ("application/json", &object), p)},
        "/audit/{request_id}": {"get": with(operation("What became of a call of the tenant", None, ("application/json", &record), p), &request_id)},
        "/admin/erasures": {"post": operation("Erase what a user of the tenant asked and was answered; the records stay",
            Some(&erasure), ("application/json", &erased), p)},
        "/feedback": {"post": created(operation("Say how good an answer was", Some(&rating), ("application/json", &rated), p))},
        "/review": {"get": with(operation("Answers of the tenant that wait for a person, or were judged", None, ("application/json", &items), p), &waiting)},
        "/review/{id}": {
            "get": with(operation("One of them", None, ("application/json", &item), p), &id),
            "post": with(operation("Claim, release, approve, edit or reject it; 409 where another reviewer has it, or it is decided",
                Some(&decision), ("application/json", &item), p), &id),
        },
        "/sessions/{id}": {
            "get": with(with(operation("What was said in a session of the key's", None, ("application/json", &conversation), p), &id), &whose),
            "delete": with(with(emptied(operation("Delete a session, for good", None, ("application/json", &Value::Null), p)), &id), &whose),
        },
        "/summary": {"get": with(operation("How the calls of the tenant went", None, ("application/json", &summary), p), &hours)},
        "/admin/budgets": {"get": operation("What is spent, set aside and left of each budget", None, ("application/json", &budgets), p)},
        "/health": {"get": open("How the gateway is", "application/json")},
        "/livez": {"get": open("Whether the process answers", "application/json")},
        "/readyz": {"get": open("Whether requests are taken; 503 if not", "application/json")},
        "/metrics": {"get": open("Prometheus metrics", "text/plain")},
        "/openapi.json": {"get": open("This document", "application/json")},
        "/docs": {"get": open("This document, to read and try", "text/html")},
    });
    let mut paths = paths;
    for (path, operations) in paths.as_object_mut().into_iter().flatten() {
        let role = routes::find(path).and_then(|route| route.role);
        for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
            match role {
                Some(role) => {
                    operation["x-sluice-role"] = role.name().into();
                    operation["responses"]["403"] =
                        json!({"description": "The key lacks the role, or may not use this endpoint"});
                }
                None => operation["security"] = json!([]),
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An LLM gateway. The `/v1` endpoints are those of OpenAI and Anthropic: their SDKs work with a changed base URL.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"header": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    })
}

const SSE: (&str, &Value) = ("text/event-stream", &Value::Null);

fn reference<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn operation(summary: &str, body: Option<&Value>, reply: (&str, &Value), problem: Option<&Value>) -> Value {
    let object = json!({"type": "object"});
    let (kind, problem) = match problem {
        Some(problem) => ("application/problem+json", problem),
        None => ("application/json", &object),
    };
    let failed = |what: &str| json!({"description": what, "content": {kind: {"schema": problem}}});
    let schema = if reply.1.is_null() { json!({"type": "string"}) } else { reply.1.clone() };
    let mut operation = json!({
        "summary": summary,
        "responses": {
            "200": {"description": "The answer", "content": {reply.0: {"schema": schema}}},
            "401": failed("No key, or one that is not known"),
        },
    });
    if let Some(body) = body {
        operation["parameters"] = json!([{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "A repeat with the same key gets the first reply, and `idempotency-replayed: true`."}]);
        operation["responses"]["409"] =
            failed("The first request with this `Idempotency-Key` is still being answered");
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": body}}});
        operation["responses"]["422"] =
            failed("The request makes no sense; `errors` names each field (400 on /v1)");
        operation["responses"]["429"] = failed("A limit is reached; `Retry-After` says when to come back");
        operation["responses"]["503"] = failed("No place is left, or no model can answer");
        operation["responses"]["504"] = failed("The model was too slow, or the client's own time is over");
        operation["parameters"] = json!([
            {"name": "x-priority", "in": "header", "schema": {"type": "string", "enum": Priority::NAMES},
                "description": "Who comes first where there are more calls than places; `normal` by default."},
            {"name": "x-request-timeout-ms", "in": "header", "schema": {"type": "integer", "minimum": 1},
                "description": "How long the client waits, in milliseconds; never longer than the gateway does."},
            {"name": "x-sluice-explain", "in": "header", "schema": {"type": "integer", "enum": [0, 1]},
                "description": "1 adds what each stage decided; needs the role `admin`."},
        ]);
    }
    operation
}

/// Adds parameters to those that the operation has.
fn with(mut operation: Value, parameters: &Value) -> Value {
    match (&mut operation["parameters"], parameters) {
        (Value::Array(there), Value::Array(more)) => there.extend(more.iter().cloned()),
        (none, more) => *none = more.clone(),
    }
    operation
}

/// An operation that goes on with an answer, where it is told the last event that its reader has.
fn resumable(mut operation: Value, parameters: &Value) -> Value {
    operation["responses"]["204"] =
        json!({"description": "The stream has ended, and its reader has all of it"});
    operation["responses"]["404"] = json!({"description": "There is no stream to go on with"});
    with(operation, parameters)
}

/// Answers with 201.
fn created(mut operation: Value) -> Value {
    operation["responses"]["201"] = operation["responses"]["200"].take();
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.shift_remove("200");
    }
    operation
}

/// Answers with 204.
fn emptied(mut operation: Value) -> Value {
    if let Some(responses) = operation["responses"].as_object_mut() {
        responses.shift_remove("200");
    }
    operation["responses"]["204"] = json!({"description": "It is gone"});
    operation
}

fn open(summary: &str, kind: &str) -> Value {
    json!({"summary": summary, "responses": {"200": {"description": summary, "content": {kind: {}}}}})
}

/// The document.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// A page that shows the document and sends requests; it loads nothing from elsewhere.
pub async fn page() -> Response {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)];
    (headers, include_str!("docs.html")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let targets: Vec<&str> =
            text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(!targets.is_empty());
        for target in targets {
            let pointer = target.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}
