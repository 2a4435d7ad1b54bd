//! `POST /admin/simulate`: what would become of a question, without asking a model.
use axum::{body::Body, extract::State, response::Response};
use http::{HeaderValue, Request as HttpRequest, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    App,
    error::{self, Shape},
    explain,
    fields::Fields,
    inbound,
    openai::chat_request,
    query::Question,
    respond_error,
};
use crate::{call::Call, error::Result};

/// The endpoint's path.
pub const SIMULATE: &str = "/admin/simulate";

/// The endpoint. It takes the body of `/query` or of a chat completion.
pub async fn post(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    match Box::pin(ask(&app, request)).await {
        Ok(response) => response,
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

async fn ask(app: &App, request: HttpRequest<Body>) -> Result<Response> {
    let inbound = inbound::read(app, request).await?;
    let running = app.running();
    let is_chat =
        serde_json::from_slice::<Value>(&inbound.body).is_ok_and(|body| body["messages"].is_array());
    let (chat, user, use_cache, priority) = if is_chat {
        let mut chat = chat_request::parse(&inbound.body)?.chat;
        chat.model = running.model(Some(chat.model));
        let user = chat.asker().map(str::to_owned);
        (chat, user, true, None)
    } else {
        let question = Question::from(Fields::read(&inbound.body)?, false, &running)?;
        (question.chat, question.user, question.use_cache, question.priority)
    };
    let mut context = inbound.context(SIMULATE, user.as_deref());
    context.explain = Some(running.version.clone());
    context.use_cache &= use_cache;
    context.priority = priority.unwrap_or(context.priority);
    let call = Call::new(context, chat);
    let context = call.context.clone();
    let answered = running.simulation.clone().oneshot(call).await;
    let notes = context.trail.notes();
    let refused = notes.decisions.iter().find_map(|(_, what)| what.get("refuses"));
    let outcome = match answered {
        // One that only looked on goes on to tell the rest, too.
        Ok(_) if refused.is_some() => json!(refused),
        Ok(reply) => {
            let (head, _) = reply.collect().await?;
            json!({"status": 200, "model": &*head.model})
        }
        Err(error) => {
            let (facts, status) = (error.facts(), error::status(&error, Shape::Native));
            json!({"status": status.as_u16(), "code": facts.code, "detail": error.to_string()})
        }
    };
    let told = explain::explanation(&context, &notes);
    let body = json!({"simulated": true, "request_id": &*context.id, "outcome": outcome, "explain": told});
    let mut response = Response::new(Body::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
