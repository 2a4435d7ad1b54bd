//! `POST /query`: a question in, a whole answer out.
use axum::{body::Body, extract::State, response::Response};
use http::Request as HttpRequest;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{App, Running, answer, error::Shape, fields::Fields, inbound, respond_error};
use crate::{
    call::{Cached, Call, Context, Notes, Priority},
    chat::{Citation, Completion, Cost, Family, Format, Message, Mode, Request, Role},
    error::Result,
    guard,
    reply::{Head, Origin},
};

/// The longest question, in characters.
pub const LONGEST_QUESTION: usize = 2000;
/// The longest `user_id` or `session_id`, in characters.
pub const LONGEST_ID: usize = 256;
/// What a caller says instead of a `session_id`, to get one.
const NEW: &str = "new";
/// How long an answer may be where the caller does not say, in tokens.
const MAX_TOKENS: u32 = 512;

/// What `/query` and `/stream` ask.
#[derive(Debug)]
pub struct Question {
    /// The chat that is asked of the pipeline.
    pub chat: Request,
    /// Who asks.
    pub user: Option<String>,
    /// The conversation that the caller counts the question to.
    pub session: Option<String>,
    /// Whether a stored answer will do.
    pub use_cache: bool,
    /// How urgent it is, where the body says so.
    pub priority: Option<Priority>,
}

impl Question {
    /// Takes a question out of a body's fields.
    pub fn from(mut fields: Fields, user_required: bool, running: &Running) -> Result<Self> {
        let question = fields.required("question", 1, LONGEST_QUESTION);
        if question.trim().is_empty() && !question.is_empty() {
            fields.wrong("question", "must not be blank");
        }
        let user = if user_required {
            Some(fields.required("user_id", 1, LONGEST_ID))
        } else {
            fields.text("user_id", 1, LONGEST_ID)
        };
        let session = fields.text("session_id", 1, LONGEST_ID);
        // Who has no name for a conversation that begins gets one that nobody guesses.
        let session = session.map(|id| if id == NEW { Uuid::now_v7().to_string() } else { id });
        let model = running.model(fields.text("model", 1, LONGEST_ID));
        let mode = match fields.choice("mode", &["auto", "chat", "rag"]) {
            Some("chat") => Mode::Chat,
            Some("rag") => Mode::Rag,
            _ => Mode::Auto,
        };
        let temperature = fields.number("temperature", 0.0, 2.0).unwrap_or(0.0);
        let max_tokens = fields.integer("max_tokens", 1, 1_000_000).unwrap_or(MAX_TOKENS);
        let schema = fields.object("response_schema").map(Value::Object);
        if let Some(Err(why)) = schema.as_ref().map(guard::schema::check) {
            fields.wrong("response_schema", why);
        }
        let use_cache = fields.flag("use_cache").unwrap_or(true);
        let priority = fields.choice("priority", &Priority::NAMES).and_then(Priority::named);
        fields.object("metadata");
        fields.done()?;
        let format = schema.map(|schema| Format::Schema {
            name: "answer".into(),
            schema,
            description: None,
            strict: None,
        });
        let chat = Request {
            model,
            messages: vec![Message::new(Role::User, question)],
            mode,
            temperature: Some(temperature),
            max_tokens: Some(max_tokens),
            format,
            user: user.clone(),
            family: Family::Native,
            ..Request::default()
        };
        Ok(Self { chat, user, session, use_cache, priority })
    }
}

/// What `/query` answers.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Answer {
    /// The answer.
    pub answer: String,
    /// The documents that it rests on.
    pub sources: Vec<String>,
    /// How far it can be relied on, 0 to 1; 0.5 where nothing speaks for or against it.
    pub confidence: f64,
    /// The request's id, as in the header `x-request-id`.
    pub request_id: String,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// Where it comes from: `model`, `rag`, `cache` or `fallback`.
    pub source: &'static str,
    /// What the cache did: `miss`, `exact` or `bypass`.
    pub cache: &'static str,
    /// Whether it is the stated fallback answer.
    pub fallback: bool,
    /// The model that answered.
    pub model: String,
    /// The version of its route.
    pub model_version: Option<String>,
    /// The version of the prompt, where one was used.
    pub prompt_version: Option<String>,
    /// How much context the model was given, in characters.
    pub context_used: usize,
    /// The session: the caller's own word, or, for `new`, the one to go on with.
    pub session_id: Option<String>,
    /// What it took.
    pub usage: QueryUsage,
    /// The places in the documents that support it.
    pub citations: Vec<Citation>,
}

/// What an answer took.
#[derive(Serialize, schemars::JsonSchema)]
pub struct QueryUsage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// US dollars; nothing for an answer from the cache.
    pub cost_usd: f64,
    /// Whether the tokens are counted by us, because the provider did not.
    pub estimated: bool,
}

/// Where nothing speaks for or against an answer.
const NO_EVIDENCE: f64 = 0.5;

impl Answer {
    /// Puts the answer together.
    pub fn new(
        head: &Head,
        done: &Completion,
        session: Option<String>,
        context: &Context,
        notes: &Notes,
    ) -> Self {
        let text = done.text().to_owned();
        let usage = done.usage.unwrap_or_default();
        let (citations, confidence) = match &done.grounded {
            Some((citations, confidence)) => (citations.to_vec(), *confidence),
            None => (Vec::new(), notes.confidence.unwrap_or(NO_EVIDENCE)),
        };
        let mut sources: Vec<String> = Vec::new();
        for citation in &citations {
            if !sources.iter().any(|known| **known == *citation.document) {
                sources.push(citation.document.to_string());
            }
        }
        let cached = notes.cache == Cached::Hit;
        let cost = if cached { Cost(0) } else { notes.cost() };
        let confidence = if notes.filtered.is_some() { 0.0 } else { confidence };
        Self {
            answer: text,
            sources,
            confidence: (confidence * 1e4).round() / 1e4,
            request_id: context.id.to_string(),
            latency_ms: context.began.elapsed().as_millis() as u64,
            source: match head.origin {
                Origin::Model => "model",
                Origin::Rag => "rag",
                Origin::Cache => "cache",
                Origin::Fallback => "fallback",
            },
            cache: cache_word(notes),
            fallback: head.origin == Origin::Fallback,
            model: head.model.to_string(),
            model_version: notes.target.as_ref().map(|target| target.version.to_string()),
            prompt_version: notes.prompt_version.as_deref().map(str::to_owned),
            context_used: notes.context_used,
            session_id: session,
            usage: QueryUsage {
                input_tokens: usage.input,
                output_tokens: usage.output,
                cost_usd: cost.usd(),
                estimated: usage.estimated,
            },
            citations,
        }
    }
}

/// What the cache did, in the native API's words.
pub fn cache_word(notes: &Notes) -> &'static str {
    match notes.cache {
        Cached::Hit => "exact",
        Cached::Miss => "miss",
        Cached::Bypass => "bypass",
    }
}

/// The endpoint.
pub async fn post(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    // Boxed: a large future is copied by every wrapper above.
    match Box::pin(ask(&app, request)).await {
        Ok(response) => response,
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

async fn ask(app: &App, request: HttpRequest<Body>) -> Result<Response> {
    let inbound = inbound::read(app, request).await?;
    let question = Question::from(Fields::read(&inbound.body)?, true, &app.running())?;
    let mut context = inbound.context("/query", question.user.as_deref());
    context.session = question.session.as_deref().map(Into::into);
    context.remember = true;
    context.use_cache &= question.use_cache;
    context.priority = question.priority.unwrap_or(context.priority);
    context.last_resort = true;
    let session = question.session;
    let render = |head: &Head, done: Completion, context: &Context, notes: &Notes| {
        serde_json::to_vec(&Answer::new(head, &done, session, context, notes)).unwrap_or_default()
    };
    Ok(answer::whole(app, Call::new(context, question.chat), Shape::Native, render).await)
}
