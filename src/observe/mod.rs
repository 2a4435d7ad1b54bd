//! What the gateway shows of itself: logs and metrics.
pub mod logs;
mod metrics;
pub mod panics;
mod registered;

pub use metrics::{Metrics, ProviderMetrics};
