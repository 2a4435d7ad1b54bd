//! The server, as it is written down.
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Size, Span};

/// The server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where it listens. Without any key it listens on loopback only, unless `auth.open` is set.
    #[garde(skip)]
    pub listen: SocketAddr,
    /// A port of their own for `/metrics`, `/livez` and `/readyz`; absent: the main one.
    #[garde(skip)]
    pub metrics_listen: Option<SocketAddr>,
    /// Threads that serve; absent: one a core.
    #[garde(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// Connections at the same time; more wait to be accepted.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_connections: u32,
    /// The largest body that is read.
    #[garde(skip)]
    pub max_body: Size,
    /// How long a body may take to arrive.
    #[garde(skip)]
    pub body_timeout: Span,
    /// How long headers may take to arrive.
    #[garde(skip)]
    pub header_timeout: Span,
    /// How long a client may take nothing off a reply before it is cut.
    #[garde(skip)]
    pub write_timeout: Span,
    /// All the time that a call has, retries and fallbacks included.
    #[garde(skip)]
    pub request_timeout: Span,
    /// The silence after which a stream says that it is alive.
    #[garde(skip)]
    pub keep_alive: Span,
    /// How long calls may go on after SIGTERM.
    #[garde(skip)]
    pub drain: Span,
    /// What pages of other origins may do.
    #[garde(dive)]
    pub cors: Cors,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            metrics_listen: None,
            workers: None,
            max_connections: 10_000,
            max_body: Size(10 << 20),
            body_timeout: Span::secs(30),
            header_timeout: Span::secs(30),
            write_timeout: Span::secs(30),
            request_timeout: Span::secs(600),
            keep_alive: Span::secs(15),
            drain: Span::secs(30),
            cors: Cors::default(),
        }
    }
}

/// What pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// The origins that may call, such as `https://app.example.com`; `*` is all; none is none.
    #[garde(skip)]
    pub origins: Vec<String>,
}
