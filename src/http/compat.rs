//! The endpoints of OpenAI and Anthropic: their JSON in, the one pipeline, their JSON out.
use axum::{
    body::Body,
    extract::State,
    response::Response,
};
use http::Request as HttpRequest;

use super::{App, answer, error::Shape, inbound, openai, respond_error};
use crate::{
    call::Call,
    chat::Completion,
    error::Result,
    reply::Head,
};

/// `POST /v1/chat/completions`.
pub async fn chat(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    let asked = async {
        let inbound = inbound::read(&app, request).await?;
        let parsed = openai::request::parse(&inbound.body)?;
        let context = inbound.context(&app, "/v1/chat/completions", parsed.request.user.as_deref());
        let (stream, include_usage) = (parsed.request.stream, parsed.include_usage);
        let model = parsed.request.model.clone();
        let call = Call::new(context, named(&app, parsed.request));
        let created = answer::unix_seconds();
        Ok(if stream {
            answer::streamed(&app, call, Shape::OpenAi, |head, context, _| {
                openai::reply::Stream::new(head, &model, &context.id, created, include_usage)
            })
            .await
        } else {
            answer::whole(&app, call, Shape::OpenAi, |head: &Head, done: Completion, context, _| {
                openai::reply::whole(head, &done, &model, &context.id, created)
            })
            .await
        })
    };
    rendered(&app, asked.await, Shape::OpenAi, &id, path)
}

fn named(app: &App, mut request: crate::chat::Request) -> crate::chat::Request {
    if request.model == "default" {
        request.model.clone_from(&app.running().default_model);
    }
    request
}

fn rendered(
    app: &App,
    response: Result<Response>,
    shape: Shape,
    id: &std::sync::Arc<str>,
    path: &'static str,
) -> Response {
    response.unwrap_or_else(|error| respond_error(app, &error, shape, id, path))
}
