//! No bytes make the reader of Anthropic's answers panic, and what it reads can be put together and told on.
#![no_main]
#[path = "support/decoded.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use sluice::provider::anthropic::Anthropic;

fuzz_target!(|bytes: &[u8]| support::told(&Anthropic, bytes));
