//! What the gateway shows of itself: logs and metrics.
pub mod logs;
mod metrics;
mod registered;

pub use metrics::{Metrics, ProviderMetrics};
