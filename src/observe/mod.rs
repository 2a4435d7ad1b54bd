//! What the gateway shows of itself: logs and metrics.
pub mod logs;
mod metrics;

pub use metrics::{Metrics, ProviderMetrics};
