//! OpenAI's API as we serve it.
pub mod chat;
mod error;

pub use error::error_body;
