//! Anthropic's API as we serve it.
mod error;
pub mod models;

pub use error::{error_body, error_object};
