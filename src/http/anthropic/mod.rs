//! Anthropic's API as we serve it.
mod blocks;
mod error;
pub mod models;
pub mod reply;
pub mod request;
pub mod stream;

pub use error::{error_body, error_object};
