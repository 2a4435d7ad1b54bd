//! OpenAI's API as we serve it.
pub mod chat_reply;
pub mod chat_request;
pub mod chat_stream;
mod content;
pub mod embeddings;
mod error;
pub mod models;
pub mod responses;
mod tools;

pub use error::error_body;
