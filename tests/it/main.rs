//! The gateway from outside: a child process between a scripted provider and
//! a client that sees each byte. One module a capability.
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails may panic")]

mod support;

mod upstream_works;
