//! The stages, one a file. `stack.rs` puts them in order; none knows another.
pub mod admit;
pub mod attempt;
pub mod audit;
pub mod authorize;
pub mod breaker;
pub mod bulkhead;
pub mod cache;
pub mod check;
pub mod dispatch;
pub mod fallback;
pub mod ground;
pub mod limit;
pub mod measure;
pub mod resort;
pub mod retry;
pub mod screen;
pub mod settings;
