//! Rules that a text must keep: prompt injection, personal data and secrets,
//! content, form, and the mechanism by which rules judge what comes in pieces.
mod encoded;
pub mod hold;
pub mod injection;
mod input;
pub mod leak;
pub mod pii;
pub mod remote;
pub mod safety;
pub mod schema;
pub mod settings;

pub use input::Inspector;
