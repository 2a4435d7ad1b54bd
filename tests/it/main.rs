//! The gateway from outside: a child process between a scripted provider and
//! a client that sees each byte. One module a capability.
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]
#![allow(clippy::print_stdout, reason = "a test says what it saw")]
#![allow(clippy::format_push_string, clippy::format_collect, reason = "short beats fast in a test")]

mod support;

mod admission;
mod alerts;
mod audit;
mod audit_once;
mod audit_store;
mod audit_trouble;
mod auth;
mod bad_input;
mod breaker;
mod budget;
mod cache;
mod canary;
mod cancel;
mod chaos;
mod chat_completions;
mod check;
mod confidence;
mod container;
mod content;
mod continuation;
mod cross_wire;
mod docs;
mod drain;
mod embeddings;
mod erasure;
mod errors;
mod explain;
mod failover;
mod guards;
mod hostile_provider;
mod idempotency;
mod injection;
mod keys;
mod limits;
mod limits_shared;
mod matrix;
mod messages;
mod metrics;
mod models;
mod odd_streams;
mod overload;
mod pii;
mod query;
mod real_model;
mod reload;
mod replicas;
mod responses;
mod resume;
mod review;
mod review_cache;
mod review_store;
mod routing;
mod sdk;
mod session;
mod session_store;
mod stores;
mod stream;
mod summary;
mod tls;
mod upstream_works;
