//! Any bytes are a request or a mistake of the caller's, never a panic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice::{error::Error, http::openai::responses::request};

fuzz_target!(|body: &[u8]| {
    if let Err(error) = request::parse(body) {
        assert!(matches!(error, Error::Invalid(_) | Error::NotJson(_)), "{error:?}");
    }
});
