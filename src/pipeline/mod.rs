//! The stages: what the gateway does to a question and its answer, one a file.
pub mod ground;
