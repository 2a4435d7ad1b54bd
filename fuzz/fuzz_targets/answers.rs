//! What content safety and the guard of the system prompt make of an answer does not depend on its pieces.
#![no_main]
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sluice::{
    chat::{Event, Finish},
    guard::{
        hold::{Guard, Judging},
        safety::{Answers, Rules, Settings},
        settings::Mode,
    },
    reply::Rewrite,
};

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let settings = Settings { mode: Mode::Block, ..Settings::default() };
    Arc::new(Rules::new(&settings).expect("the defaults are good"))
});

fn judged<'a>(pieces: impl Iterator<Item = &'a [char]>) -> String {
    let rules = vec![Arc::new(Answers(RULES.clone())) as Arc<dyn Guard>];
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
    let letters: Vec<char> = input.1.chars().collect();
    let size = usize::from(input.0).max(1);
    assert_eq!(judged(letters.chunks(size)), judged(std::iter::once(&letters[..])));
});
