//! Anthropic's Messages.
mod blocks;
mod decode;
mod encode;
mod model;
mod stream;
mod thinking;

use http::{HeaderMap, StatusCode};

use super::{Decoder, Dialect, Outgoing, failure};
use crate::{
    chat::{Completion, Request},
    error::{Error, Result},
    reply::Head,
};

/// Whether a model goes on with a beginning of its answer that it is given.
pub(super) fn takes_prefill(model: &str) -> bool {
    model::Abilities::of(model).prefill
}

/// Anthropic's dialect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anthropic;

/// The tool that stands for a form of answer where a model has no other way
/// to be held to one. What it is called with is the answer's text.
const ANSWER_TOOL: &str = "structured_answer";

impl Dialect for Anthropic {
    fn encode(&self, chat: &Request, model: &str) -> Result<Outgoing> {
        encode::encode(chat, model)
    }

    fn decode(&self, _: &Request, body: &[u8]) -> Result<(Head, Completion)> {
        decode::message(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::Stream::default())
    }

    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        failure::of_reply(status, headers, body)
    }
}
