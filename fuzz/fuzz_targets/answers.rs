//! What content safety and the guard of the system prompt make of an answer does not depend on its pieces.
#![no_main]
#[path = "support/judged.rs"]
mod support;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sluice::guard::{
    hold::Guard,
    safety::{Answers, Rules, Settings},
    settings::Mode,
};

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let settings = Settings { mode: Mode::Block, ..Settings::default() };
    Arc::new(Rules::new(&settings).expect("the defaults are good"))
});

const FILTERED: &str = "[Output filtered for security]";

fn judged<'a>(pieces: impl Iterator<Item = &'a [char]>) -> String {
    let rule: Arc<dyn Guard> = Arc::new(Answers(RULES.clone()));
    support::judged(Arc::new([rule]), pieces)
}

fuzz_target!(|input: (u8, &str)| {
    let letters: Vec<char> = input.1.chars().collect();
    let size = usize::from(input.0).max(1);
    let (streamed, whole) = (judged(letters.chunks(size)), judged(std::iter::once(&letters[..])));
    // Of a blocked answer a stream may have given the beginning, which nothing was wrong with.
    match streamed.strip_suffix(&whole).filter(|_| whole == FILTERED) {
        Some(before) => assert!(input.1.starts_with(before)),
        None => assert_eq!(streamed, whole),
    }
});
