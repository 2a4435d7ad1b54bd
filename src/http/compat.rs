//! The endpoints of OpenAI and Anthropic: their JSON in, the one pipeline, their JSON out.
use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use http::{HeaderValue, Request as HttpRequest, header};

use super::{
    App, answer, answer::names, anthropic, error::Shape, inbound, inbound::Inbound, openai,
    openai::models::Row, respond_error,
};
use crate::{
    call::{Call, Caller},
    chat::Request,
    error::{Error, Result},
};

/// `POST /v1/chat/completions`.
pub async fn chat(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    // Boxed once here: a large future is copied by every wrapper above.
    let asked = Box::pin(async {
        let inbound = inbound::read(&app, request).await?;
        let openai::chat_request::Parsed { chat, include_usage } =
            openai::chat_request::parse(&inbound.body)?;
        let (call, asked) = call(&app, &inbound, "/v1/chat/completions", chat);
        let created = answer::unix_seconds();
        Ok(if asked.stream {
            answer::streamed(&app, call, Shape::OpenAi, |head, context, _| {
                openai::chat_stream::ChatStream::new(head, &asked, include_usage, &context.id, created)
            })
            .await
        } else {
            answer::whole(&app, call, Shape::OpenAi, |head, done, context, _| {
                openai::chat_reply::whole(head, &done, &asked, &context.id, created)
            })
            .await
        })
    });
    rendered(&app, asked.await, Shape::OpenAi, &id, path)
}

/// `POST /v1/responses`.
pub async fn responses(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    let asked = Box::pin(async {
        let inbound = inbound::read(&app, request).await?;
        let chat = openai::responses::request::parse(&inbound.body)?;
        let (call, asked) = call(&app, &inbound, "/v1/responses", chat);
        let created = answer::unix_seconds();
        Ok(if asked.stream {
            answer::streamed(&app, call, Shape::OpenAi, |head, context, _| {
                openai::responses::stream::ResponseStream::new(head, &asked, &context.id, created)
            })
            .await
        } else {
            answer::whole(&app, call, Shape::OpenAi, |head, done, context, _| {
                openai::responses::reply::whole(head, &done, &asked, &context.id, created)
            })
            .await
        })
    });
    rendered(&app, asked.await, Shape::OpenAi, &id, path)
}

/// `POST /v1/messages`.
pub async fn messages(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    let asked = Box::pin(async {
        let inbound = inbound::read(&app, request).await?;
        let mut chat = anthropic::request::parse(&inbound.body)?;
        // New features are asked for in a header; the provider of the same API is told of them.
        if let Some(beta) = inbound.parts.headers.get("anthropic-beta").and_then(|beta| beta.to_str().ok()) {
            chat.rest.entry("anthropic_beta").or_insert_with(|| beta.into());
        }
        let (call, asked) = call(&app, &inbound, "/v1/messages", chat);
        Ok(if asked.stream {
            answer::streamed(&app, call, Shape::Anthropic, |head, context, _| {
                anthropic::stream::MessageStream::new(head, &asked, &context.id)
            })
            .await
        } else {
            answer::whole(&app, call, Shape::Anthropic, |head, done, context, _| {
                anthropic::reply::whole(head, &done, &asked, &context.id)
            })
            .await
        })
    });
    rendered(&app, asked.await, Shape::Anthropic, &id, path)
}

/// `POST /v1/embeddings`.
pub async fn embeddings(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    // Boxed once here: a large future is copied by every wrapper above.
    let asked = Box::pin(async {
        let inbound = inbound::read(&app, request).await?;
        let openai::embeddings::Parsed { chat, base64 } = openai::embeddings::parse(&inbound.body)?;
        let (call, asked) = call(&app, &inbound, "/v1/embeddings", chat);
        let render = |head: &_, done, _: &_, _: &_| openai::embeddings::whole(head, &done, &asked, base64);
        Ok(answer::whole(&app, call, Shape::OpenAi, render).await)
    });
    rendered(&app, asked.await, Shape::OpenAi, &id, path)
}

/// The call that a request is, and the chat that its reply is written for.
fn call(app: &App, inbound: &Inbound, endpoint: &'static str, mut chat: Request) -> (Call, Arc<Request>) {
    chat.model = app.running().model(Some(chat.model));
    let context = inbound.context(endpoint, chat.asker());
    let call = Call::new(context, chat);
    let asked = call.chat.clone();
    (call, asked)
}

/// `GET /v1/models`, in the words of whoever asks.
pub async fn models(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    listed(&app, request, |rows, _, anthropic| {
        Ok(if anthropic { anthropic::models::list(rows) } else { openai::models::list(rows) })
    })
}

/// `GET /v1/models/{id}`.
pub async fn model(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    request: HttpRequest<Body>,
) -> Response {
    // A name that is no UTF-8 is none that exists, and who may not ask does not hear even that.
    let name = name.map_or_else(|_| "\u{fffd}".to_owned(), |Path(name)| name);
    listed(&app, request, |rows, caller, anthropic| {
        let running = app.running();
        let table = &running.table;
        let asked = running.model(Some(name.clone()));
        let route = table.canonical(&asked);
        let listed = rows.iter().find(|row| row.id == route).copied();
        // One that no list has, as its provider takes it by a pattern.
        let lent = || {
            let lender = table.lender(route).filter(|_| !table.has(route) && table.allows(caller, route))?;
            Some(Row { id: route, owned_by: lender, created: app.began_at() })
        };
        let unknown = || Error::UnknownModel(running.pii.masker().mask(&name).into_owned());
        let row = listed.or_else(lent).ok_or_else(unknown)?;
        Ok(if anthropic { anthropic::models::model(&row) } else { openai::models::model(&row) })
    })
}

fn listed(
    app: &App,
    request: HttpRequest<Body>,
    render: impl FnOnce(&[Row<'_>], &Caller, bool) -> Result<Vec<u8>>,
) -> Response {
    let (id, path) = super::identity(&request);
    let anthropic = request.headers().contains_key(&names::ANTHROPIC_VERSION);
    let shape = if anthropic { Shape::Anthropic } else { Shape::OpenAi };
    let listed = || {
        let caller = inbound::caller(app, &request.into_parts().0)?;
        let running = app.running();
        let created = app.began_at();
        let names = running.table.names();
        let rows = names.into_iter().filter(|(name, _)| running.table.allows(&caller, name));
        let rows: Vec<Row<'_>> = rows.map(|(id, owned_by)| Row { id, owned_by, created }).collect();
        render(&rows, &caller, anthropic)
    };
    let response = listed().map(|body| {
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    });
    rendered(app, response, shape, &id, path)
}

fn rendered(
    app: &App,
    response: Result<Response>,
    shape: Shape,
    id: &super::Asked,
    path: &'static str,
) -> Response {
    response.unwrap_or_else(|error| respond_error(app, &error, shape, id, path))
}
