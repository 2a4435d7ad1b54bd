//! Any bytes are a request or a mistake of the caller's, never a panic; a request can be asked of every provider.
#![no_main]
#[path = "support/asked.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use sluice::{error::Error, http::anthropic::request};

fuzz_target!(|body: &[u8]| match request::parse(body) {
    Ok(chat) => support::written(&chat, body.len()),
    Err(error) => assert!(matches!(error, Error::Invalid(_) | Error::NotJson(_)), "{error:?}"),
});
