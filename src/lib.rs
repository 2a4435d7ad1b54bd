//! Sluice, an LLM gateway.
//!
//! In reading order, from the inside out.
//!
//! - [`chat`]: the conversation, in no provider's words: a request in, events out.
//! - [`call`] (with its [`caller`] and [`purse`]), [`reply`], [`error`], [`stage`]: the four ideas that everything else is
//!   made of. A question on its way in, an answer on its way back, what can go
//!   wrong, and a step of the pipeline.
//! - [`stack`]: **start here**: the steps, in the order in which a question meets them.
//! - [`pipeline`]: the steps, one a file.
//! - [`provider`] and [`wire`]: who answers, and the vendors' JSON.
//! - [`knowledge`] and [`prompt`]: the documents that answers rest on, and how models are asked.
//! - [`auth`], [`guard`], [`limit`], [`budget`], [`admit`], [`cache`], [`route`], [`session`], [`review`], [`audit`], [`summary`], [`price`], [`tokens`]: the
//!   mechanisms that steps use.
//! - [`store`]: Redis and the database, for what is shared or must last.
//! - [`replay`]: what is said twice without asking a model twice: repeats of a request, readers who come back.
//! - [`http`]: bytes to types and back, one API family a folder.
//! - [`observe`]: logs and metrics. [`turn`]: when a connection writes.
//! - [`config`] and [`settings`]: what can be set.
//! - [`app`] and [`cli`]: puts the parts together and runs them.
// The stack of stages is one nested future.
#![recursion_limit = "256"]

pub mod admit;
pub mod app;
pub mod audit;
pub mod auth;
pub mod budget;
pub mod cache;
pub mod call;
pub mod caller;
pub mod chat;
pub mod cli;
pub mod config;
pub mod error;
pub mod guard;
pub mod http;
pub mod knowledge;
pub mod limit;
pub mod observe;
pub mod pipeline;
pub mod price;
pub mod prompt;
pub mod provider;
pub mod purse;
pub mod replay;
pub mod reply;
pub mod review;
pub mod route;
pub mod session;
pub mod settings;
pub mod stack;
pub mod stage;
pub mod store;
pub mod summary;
pub mod tokens;
pub mod turn;
pub mod wire;
