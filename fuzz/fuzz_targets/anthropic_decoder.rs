//! No bytes make the reader of Anthropic's answers panic, and what it reads can be put together.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice::{
    chat::{Completion, Request},
    provider::{Dialect, anthropic::Anthropic, frames::Frames},
};

fuzz_target!(|bytes: &[u8]| {
    let dialect = Anthropic;
    let _ = dialect.decode(&Request::default(), bytes);
    let (mut frames, mut decoder, mut out) = (Frames::new(1 << 16), dialect.decoder(), Vec::new());
    let read = frames.push(bytes, |name, data| decoder.frame(name, data, &mut out));
    if read.is_ok() && !decoder.done() {
        let _ = decoder.close(&mut out);
    }
    let mut completion = Completion::default();
    for event in &out {
        completion.push(event);
    }
});
