//! Who answers in the end.
//!
//! A remote provider is a [`Dialect`], which is pure, and the shared
//! transport; an embedded one implements [`Provider`] itself.
pub mod anthropic;
mod bounds;
pub mod catalog;
mod connections;
pub mod continuation;
pub mod extractive;
mod failure;
mod foreign;
pub mod frames;
pub mod hashing;
pub mod openai;
pub mod post;
pub mod sentiment;
mod settings;
mod text;
pub mod transport;

pub use catalog::Kind;
pub(crate) use settings::read_key;
pub use settings::{Settings, build};

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};

use crate::{
    call::{Call, Target},
    chat::{Completion, Event, Request},
    error::{Error, Result},
    reply::{Head, Reply},
};

/// Something that answers calls.
pub trait Provider: Send + Sync + 'static {
    /// Its configured name.
    fn name(&self) -> &str;
    /// Answers, or fails. A reply may still fail before its first content.
    fn answer<'a>(&'a self, call: &'a Call, target: &'a Target) -> BoxFuture<'a, Result<Reply>>;
}

/// How one vendor spells a chat: pure, without I/O or clock.
pub trait Dialect: Send + Sync + 'static {
    /// The request to send for `chat`, asked of `model` (the vendor's own name for it).
    /// Fails where the vendor has no way to say what is asked.
    fn encode(&self, chat: &Request, model: &str) -> Result<Outgoing>;
    /// Reads a whole answer.
    fn decode(&self, chat: &Request, body: &[u8]) -> Result<(Head, Completion)>;
    /// A reader for one streamed answer.
    fn decoder(&self) -> Box<dyn Decoder>;
    /// What a reply with an error status means. `body` may be cut or empty.
    fn error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error;
}

/// A request to a vendor, short of its address and key.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The path after the base URL, such as `/chat/completions`.
    pub path: Cow<'static, str>,
    /// Headers besides those of the transport.
    pub headers: HeaderMap,
    /// The JSON body.
    pub body: Bytes,
}

/// Reads one streamed answer, a server-sent event at a time.
pub trait Decoder: Send {
    /// Reads one event: its `event` name (empty where it has none) and its data.
    fn frame(&mut self, name: &str, data: &[u8], out: &mut Vec<Event>) -> Result<()>;
    /// The answer's id and model as soon as they are known.
    fn head(&self) -> Head;
    /// Whether the answer has ended as the vendor ends it: what follows is not read.
    fn done(&self) -> bool;
    /// The connection has ended. Fails unless the answer had: silence is no end.
    fn close(&mut self, out: &mut Vec<Event>) -> Result<()>;
}
