//! Any text is searched without a panic, and what is masked whole is masked in pieces.
#![no_main]
#[path = "support/judged.rs"]
mod support;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sluice::{
    call::Trail,
    chat::Request,
    guard::pii::{Answers, Pii, Settings},
};

static PII: LazyLock<Arc<Pii>> =
    LazyLock::new(|| Arc::new(Pii::new(&Settings::default()).expect("the defaults are good")));

fn judged<'a>(pieces: impl Iterator<Item = &'a [char]>) -> String {
    let (chat, trail) = (Arc::new(Request::default()), Trail::default());
    support::judged(Answers::rules(&PII, &chat, &trail).collect(), pieces)
}

fuzz_target!(|input: (u8, &str)| {
    let (size, text) = (usize::from(input.0).max(1), input.1);
    for found in PII.in_question(text) {
        assert!(!text[found.range].is_empty());
    }
    let letters: Vec<char> = text.chars().collect();
    if !judged(std::iter::once(&letters[..])).contains("[Output filtered") {
        assert_eq!(judged(letters.chunks(size)), judged(std::iter::once(&letters[..])));
    }
});
