//! Any text is searched without a panic, and what is masked whole is masked in pieces.
#![no_main]
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sluice::{
    call::Trail,
    chat::{Event, Finish, Request},
    guard::{
        hold::Judging,
        pii::{Answers, Pii, Settings},
    },
    reply::Rewrite,
};

static PII: LazyLock<Arc<Pii>> =
    LazyLock::new(|| Arc::new(Pii::new(&Settings::default()).expect("the defaults are good")));

fn judged<'a>(pieces: impl Iterator<Item = &'a [char]>) -> String {
    let rules = Answers::rules(&PII, &Arc::new(Request::default()), &Trail::default()).collect();
    let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
    let mut out = std::collections::VecDeque::new();
    for piece in pieces {
        judging.event(Event::text(piece.iter().collect::<String>()), &mut out);
    }
    judging.event(Event::finish(Finish::Stop), &mut out);
    judging.end(&mut out);
    let text = |event: &Event| if let Event::Text { text, .. } = event { text.clone() } else { String::new() };
    out.iter().map(text).collect()
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
