//! OpenAI's API as we serve it.
mod complaint;
mod content;
mod error;
pub mod reply;
pub mod request;

pub use error::error_body;
