//! Bytes to types and back: the only folder that knows HTTP's server side.
pub mod anthropic;
pub mod openai;
pub mod sse;
