//! What every test stands on: a gateway as a child process, a provider that
//! follows a script, and a client that sees each byte.
pub mod client;
pub mod gateway;
pub mod records;
pub mod reply;
pub mod servers;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::time::{Duration, Instant};

pub use client::{Answer, Frame, Sse};
pub use gateway::{Gateway, Setup, key};
pub use upstream::{Act, Upstream};
pub use wire::Wire;

/// Waits until `holds`, at most `limit`; says whether it came to hold.
pub async fn soon(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !holds() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}

/// So many milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
