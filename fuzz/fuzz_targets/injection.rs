//! Any text is judged, in bounded time and by a score from 0 to 1; the same text is judged the same.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice::guard::injection::{self, Trust};

fuzz_target!(|input: (bool, &str)| {
    let trust = if input.0 { Trust::Document } else { Trust::User };
    let began = std::time::Instant::now();
    let found = injection::judge(input.1, trust);
    assert!((0.0..=1.0).contains(&found.score));
    assert_eq!(found, injection::judge(input.1, trust));
    assert!(began.elapsed().as_secs() < 2, "{} bytes took {:?}", input.1.len(), began.elapsed());
});
