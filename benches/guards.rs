//! What the search for personal data costs a question and an answer, and what judging a question does.
use std::{collections::VecDeque, sync::Arc};

use divan::Bencher;
use sluice::{
    call::Trail,
    chat::{Event, Finish, Message, Request, Role},
    guard::{
        hold::{Guard, Judging},
        injection::{self, Trust},
        leak,
        pii::{Answers, Pii, Settings},
        safety,
        settings::Mode,
    },
    reply::Rewrite,
};

fn main() {
    divan::main();
}

/// About 200 bytes each: nothing to find, numbers that are nothing, and much to find.
const TEXTS: [&str; 3] = [
    "Could you please explain how the tides work, and why there are two of them on most days? I would like to tell it to my children in simple words, with an example from the harbour that we know well.",
    "In 2024 the team shipped 14 releases; version 3.2 was the 7th of them, and 85% of 1,200 users had moved by May. Could you compare that with the 11 releases of 2023, in a table of 5 rows, please? Thx",
    "My name is Jo, mail jo@example.org or call +44 20 7946 0958; the card is 4111 1111 1111 1111, the IBAN GB82 WEST 1234 5698 7654 32, and the server is at 203.0.113.77. Born on 3 May 1985, thanks a lot.",
];

fn pii() -> Arc<Pii> {
    Arc::new(Pii::new(&Settings::default()).expect("the defaults are good"))
}

#[divan::bench(args = [0, 1, 2])]
fn a_question(bencher: Bencher<'_, '_>, text: usize) {
    let pii = pii();
    bencher.bench_local(|| pii.in_question(TEXTS[text]));
}

fn judged(pii: &Arc<Pii>, chat: &Arc<Request>, whole: bool, pieces: &[&str]) -> usize {
    let rules = Answers::rules(pii, chat, &Trail::default()).collect();
    let mut judging = Judging::new(rules, whole, false, Box::new(|_, _| {}));
    let mut out = VecDeque::new();
    for piece in pieces {
        judging.event(Event::text(*piece), &mut out);
    }
    judging.event(Event::finish(Finish::Stop), &mut out);
    judging.end(&mut out);
    out.len()
}

#[divan::bench(args = [0, 1, 2])]
fn an_answer(bencher: Bencher<'_, '_>, text: usize) {
    let (pii, chat) = (pii(), Arc::default());
    bencher.bench_local(|| judged(&pii, &chat, true, &[TEXTS[text]]));
}

/// As a stream, a word at a time; for some 38 events.
#[divan::bench(args = [0, 1, 2])]
fn a_stream(bencher: Bencher<'_, '_>, text: usize) {
    let (pii, chat) = (pii(), Arc::default());
    let pieces: Vec<&str> = TEXTS[text].split_inclusive(' ').collect();
    bencher.bench_local(|| judged(&pii, &chat, false, &pieces));
}

/// What looks for a system prompt of some 400 words in an answer.
fn leak() -> Option<Arc<dyn Guard>> {
    let prompt: String = (0..400_u32).map(|n| format!("word{} ", n * n % 97)).collect();
    let messages = vec![Message::new(Role::System, prompt + TEXTS[2]), Message::new(Role::User, TEXTS[0])];
    let settings = leak::Settings { mode: Mode::Block, ..leak::Settings::default() };
    leak::of(&settings, &Arc::new(Request { messages, ..Request::default() }), &Arc::default())
}

#[divan::bench]
fn a_leak_is_prepared(bencher: Bencher<'_, '_>) {
    bencher.bench_local(leak);
}

/// In pieces of a word each, and as a whole.
#[divan::bench(args = [(0, false), (1, false), (0, true), (1, true)])]
fn an_answer_without_a_leak(bencher: Bencher<'_, '_>, (text, whole): (usize, bool)) {
    let rules: Arc<[Arc<dyn Guard>]> = leak().into_iter().collect();
    let pieces: Vec<&str> =
        if whole { vec![TEXTS[text]] } else { TEXTS[text].split_inclusive(' ').collect() };
    bencher.bench_local(|| {
        let mut judging = Judging::new(rules.clone(), whole, false, Box::new(|_, _| {}));
        let mut out = VecDeque::new();
        for piece in &pieces {
            judging.event(Event::text(*piece), &mut out);
        }
        judging.event(Event::finish(Finish::Stop), &mut out);
        out.len()
    });
}

/// A short question, a longer one, 2 kB of prose, 2 kB of what looks like codes, and 2 kB that mix a dozen of them.
fn questions() -> [String; 5] {
    let noise = (0..2048_u32).map(|n| {
        char::from(b"0rjcGJvUanmmvV7KPwWTg2bG/ysxVFLg iKRK4ew3yVp4Q+b"[(n * n * 7 + n) as usize % 48])
    });
    let short = "How do I reset my password, and how long does it take? Thx";
    let mixed = "The code: QSBoYXJtbGVzcyB0ZXh0Li4u is 41206861726d6c657373 %61%20%68%61%72%6d 65 32 104 97 114 109 108 \
                 101 gur tneqra ybbxf terra, S.h.e b.o.u.g.h.t i-t, n0 b1cycl3 h3r3, retaw dna daerb, &#104;&#97;&#114;\
                 thetrainleavesatnine 'br'+'ead' waaater aaand saaand .- -... -.-. -.. . ..-. --. .... а \u{200b}";
    [
        short.to_owned(),
        TEXTS[0].to_owned(),
        TEXTS[0].repeat(11)[..2048].to_owned(),
        noise.collect(),
        mixed.repeat(8).chars().take(2000).collect(),
    ]
}

#[divan::bench(args = [0, 1, 2, 3, 4])]
fn prompt_injection(bencher: Bencher<'_, '_>, text: usize) {
    let text = &questions()[text];
    bencher.bench_local(|| injection::judge(text, Trust::User));
}

#[divan::bench(args = [0, 1, 2, 3, 4])]
fn unsafe_content(bencher: Bencher<'_, '_>, text: usize) {
    let rules = safety::Rules::new(&safety::Settings::default()).expect("the defaults are good");
    let text = &questions()[text];
    bencher.bench_local(|| rules.find_hidden(text, &injection::folded(text)));
}
