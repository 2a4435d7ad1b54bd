//! Anthropic's API as we serve it.
mod error;

pub use error::{error_body, error_object};
