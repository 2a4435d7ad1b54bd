//! Sluice, an LLM gateway.
pub mod call;
pub mod chat;
pub mod config;
pub mod error;
pub mod http;
pub mod knowledge;
pub mod pipeline;
pub mod prompt;
pub mod provider;
pub mod reply;
pub mod settings;
pub mod stage;
pub mod wire;
