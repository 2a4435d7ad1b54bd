//! OpenAI's Chat Completions and Embeddings, and the many servers that speak them.
mod calls;
mod content;
mod decode;
mod encode;
mod stream;

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};

use super::{Decoder, Dialect, Outgoing, failure};
use crate::{
    chat::{Completion, Purpose, Request},
    error::{Error, Result},
    reply::Head,
};

/// OpenAI's dialect.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAi {
    /// The server refuses parameters that it does not know (Mistral): those
    /// that not everybody has are left out.
    pub strict: bool,
}

impl Dialect for OpenAi {
    fn encode(&self, chat: &Request, model: &str) -> Result<Outgoing> {
        encode::check(chat)?;
        // Most questions fit: a buffer that need not grow is not copied.
        let mut body = Vec::with_capacity(1024);
        let (path, written) = match chat.purpose {
            Purpose::Chat => {
                let chat = encode::ChatBody { chat, model, strict: self.strict };
                ("/chat/completions", serde_json::to_writer(&mut body, &chat))
            }
            Purpose::Embed { dimensions } => {
                let embed = encode::EmbedBody { chat, model, dimensions, strict: self.strict };
                ("/embeddings", serde_json::to_writer(&mut body, &embed))
            }
        };
        written.map_err(Error::internal)?;
        Ok(Outgoing { path: Cow::Borrowed(path), headers: HeaderMap::new(), body: body.into() })
    }

    fn decode(&self, chat: &Request, body: &[u8]) -> Result<(Head, Completion)> {
        match chat.purpose {
            Purpose::Chat => decode::chat(body),
            Purpose::Embed { .. } => decode::embeddings(body, chat.messages.len()),
        }
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::Stream::default())
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        failure::of_reply(status, headers, body)
    }
}
