//! How well personal data and secrets are told from what only looks like them,
//! and that a stream is judged as the whole text is.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails may panic, and says what it saw"
)]
mod hidden;
mod restore;
mod rows;
mod sentences;
mod turns;
mod unseen;
mod values;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sluice::{
    call::Trail,
    chat::{Event, Finish, Request},
    guard::{
        hold::Judging,
        pii::{Answers, Mode, Pii, Settings, settings::Output},
    },
    reply::Rewrite,
};

use sentences::corpus;
use values::Chance;

#[derive(Default)]
struct Score {
    hit: usize,
    missed: usize,
    wrong: usize,
}

#[test]
fn types_are_found_and_what_looks_like_them_is_not() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let all = corpus(42, 14);
    assert!(all.len() >= 2000, "{}", all.len());
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    let (mut negatives, mut flagged) = (0, 0);
    for sentence in &all {
        let mut found = pii.in_question(&sentence.text);
        for (kind, range) in &sentence.spans {
            let score = scores.entry((*kind).to_owned()).or_default();
            let same = |f: &sluice::guard::pii::Finding| {
                pii.name(f.kind) == *kind && f.range.start < range.end && range.start < f.range.end
            };
            if let Some(at) = found.iter().position(same) {
                found.remove(at);
                score.hit += 1;
            } else {
                score.missed += 1;
                println!("missed {kind}: {:?} in {:?}", &sentence.text[range.clone()], sentence.text);
            }
        }
        for other in &found {
            scores.entry(pii.name(other.kind).to_owned()).or_default().wrong += 1;
            println!(
                "wrong {}: {:?} in {:?}",
                pii.name(other.kind),
                &sentence.text[other.range.clone()],
                sentence.text
            );
        }
        if sentence.spans.is_empty() {
            negatives += 1;
            flagged += usize::from(!found.is_empty());
        }
    }
    println!("{} sentences, {flagged} of {negatives} without any flagged", all.len());
    for (kind, Score { hit, missed, wrong }) in &scores {
        let (hit, missed, wrong) = (*hit as f64, *missed as f64, *wrong as f64);
        let f1 = 2.0 * hit / (2.0 * hit + missed + wrong);
        println!("{kind:10} F1 {f1:.3}  of {}", hit + missed);
        assert!(f1 >= if kind == "phone" { 0.93 } else { 0.97 }, "{kind}: {f1}");
    }
    assert_eq!(scores.len(), 12);
    assert!(flagged * 50 <= negatives, "{flagged} of {negatives}");
}

#[test]
fn a_stream_is_judged_as_the_whole_text_wherever_it_is_cut() {
    // Everything is masked: the hardest case, since all of it must be held back.
    let mut settings = Settings { output: masking(), ..Settings::default() };
    settings.custom.clear();
    let pii = Arc::new(Pii::new(&settings).unwrap());
    let c = &mut Chance(7);
    for (at, sentence) in corpus(43, 1).iter().enumerate() {
        let text = format!("{} And so on.", sentence.text);
        let whole = streamed(&pii, &[&text]);
        let borders: Vec<usize> = (1..text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        // Each in two pieces at every place, in single characters, and by chance.
        for cut in borders.iter().step_by(if at % 8 == 0 { 1 } else { 5 }) {
            let (one, two) = text.split_at(*cut);
            assert_eq!(streamed(&pii, &[one, two]), whole, "cut at {cut}: {one:?} | {two:?}");
        }
        let singles: Vec<String> = text.chars().map(String::from).collect();
        let singles: Vec<&str> = singles.iter().map(String::as_str).collect();
        assert_eq!(streamed(&pii, &singles), whole, "in single characters: {text:?}");
        for _ in 0..4 {
            let mut pieces = Vec::new();
            let mut rest = &*text;
            while !rest.is_empty() {
                let mut size = c.from(1, 9).min(rest.len());
                while !rest.is_char_boundary(size) {
                    size += 1;
                }
                let (piece, more) = rest.split_at(size);
                pieces.push(piece);
                rest = more;
            }
            assert_eq!(streamed(&pii, &pieces), whole, "{pieces:?}");
        }
    }
}

/// A long number is over where a space follows it: nothing is written as twelve digits and something more.
#[test]
fn a_long_number_waits_for_nothing() {
    let pii = Arc::new(Pii::new(&Settings::default()).unwrap());
    let rules = Answers::rules(&pii, &Arc::new(Request::default()), &Trail::default()).collect();
    let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
    for number in 0..60 {
        let piece = Event::text(format!(
            " t={} ",
            (900_000_000_000_u64 + 20_000_000 * number) * 10_u64.pow(number as u32 % 3)
        ));
        let mut out = std::collections::VecDeque::new();
        judging.event(piece.clone(), &mut out);
        assert_eq!(out, [piece]);
    }
}

#[test]
fn hostile_texts_are_searched_like_others() {
    let pii = Pii::new(&Settings::default()).unwrap();
    // What looked like the end of a number was the middle of a letter.
    assert!(pii.in_question("GA 36-2018《公民》").is_empty());
    let c = &mut Chance(9);
    let signs = [
        "é", "—", "中", "《", "🙂", "\u{200b}", "\u{a0}", "\"", "\\", "<", ">", ":", "=", "@", "#", "(", "-",
        "\n", " ",
    ];
    for sentence in corpus(44, 8) {
        let mut text: Vec<char> = sentence.text.chars().collect();
        for _ in 0..c.from(1, 4) {
            let at = c.below(text.len() + 1);
            match c.below(3) {
                0 => text.truncate(at.max(1)),
                _ => _ = text.splice(at..at, c.one(&signs).chars()),
            }
        }
        let text: String = text.into_iter().collect();
        for found in pii.in_question(&text) {
            assert!(text.get(found.range.clone()).is_some_and(|value| !value.is_empty()), "{text:?}");
        }
    }
}

#[test]
fn prose_and_code_wait_for_nothing() {
    let pii = Arc::new(Pii::new(&Settings::default()).unwrap());
    let texts = [
        "Tides are the slow rise and fall of the sea. They come because the moon pulls at the water, and because the earth \
         turns beneath it: the side that faces the moon bulges, and so does the side that looks away. I think that is the \
         part people find odd. Spring tides happen when sun and moon pull together; at neap tides they work against each \
         other. A harbour's shape matters too: in a narrow bay the water piles up, as it does in the Bay of Fundy.\n\n",
        "Gern! Hier ist ein kurzer Überblick: Ebbe und Flut entstehen durch die Anziehung des Mondes. Für Kinder hilft ein \
         Bild: Stell dir vor, die Erde trägt einen weichen Gürtel aus Wasser. Er wird auf zwei Seiten dicker.\n",
        "fn greet(name: &str) -> String {\n    let mut all = String::from(\"Hello, \");\n    all.push_str(name);\n    \
         if name.is_empty() {\n        return all;\n    }\n    all + \"!\"\n}\n\n# --- settings ---\nfor key in keys:\n    \
         print(key, sep=' | ')\n| a | b |\n|-----|-----|\n",
        "潮の満ち引きは月の引力によって起こります。簡単に言うと、海の水が月に引っ張られるのです。",
    ];
    for text in texts {
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let words: Vec<String> = text.split_inclusive(' ').map(String::from).collect();
        let tokens: Vec<String> = words
            .iter()
            .flat_map(|word| {
                let middle = word.char_indices().nth(4).map_or(word.len(), |(at, _)| at);
                [word[..middle].to_owned(), word[middle..].to_owned()]
            })
            .filter(|piece| !piece.is_empty())
            .collect();
        for pieces in [letters, words, tokens] {
            let rules = Answers::rules(&pii, &Arc::new(Request::default()), &Trail::default()).collect();
            let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
            let (mut at_once, mut first) = (0, true);
            for piece in &pieces {
                let mut out = std::collections::VecDeque::new();
                judging.event(Event::text(piece.as_str()), &mut out);
                let same = out.pop_front() == Some(Event::text(piece.as_str())) && out.is_empty();
                assert!(same || !first, "the first piece waits: {piece:?} of {text:?}");
                (at_once, first) = (at_once + usize::from(same), false);
            }
            println!("{at_once} of {} pieces at once", pieces.len());
            assert!(
                at_once * 100 >= pieces.len() * 98,
                "{at_once} of {} pieces at once: {text:?}",
                pieces.len()
            );
        }
    }
}

#[test]
fn a_search_takes_little_time() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let plain = "Could you please explain how the tides work, and why there are two of them on most days? I would like to tell it to my children in simple words, with an example from the harbour that we know well.";
    let full = "My name is Jo, mail jo@example.org or call +44 20 7946 0958; the card is 4111 1111 1111 1111, the IBAN GB82 WEST 1234 5698 7654 32, and the server is at 203.0.113.77. Born on 3 May 1985, thanks a lot.";
    for (name, text) in [("plain", plain), ("full", full)] {
        let mut times: Vec<_> = (0..400)
            .map(|_| {
                let began = Instant::now();
                std::hint::black_box(pii.in_question(text));
                began.elapsed()
            })
            .collect();
        times.sort();
        // The tests' build is many times slower than a release.
        println!("{name}: {:?} for {} bytes", times[200], text.len());
    }
}

/// What a word, a number or a key is judged by is near it, however many of them there are.
#[test]
fn a_longer_text_takes_as_much_longer() {
    let input = serde_json::from_value(serde_json::json!({"address": "mask", "person": "mask"})).unwrap();
    let pii = Pii::new(&Settings { input, output: masking(), ..Settings::default() }).map(Arc::new).unwrap();
    let question: &dyn Fn(&str) = &|text| drop(pii.in_question(text));
    let answer: &dyn Fn(&str) = &|text| drop(streamed(&pii, &[text]));
    let asked = [
        "card 4",
        "ya29.",
        "street ",
        "::the sk-a1b2",
        "-----BEGIN PRIVATE KEY-----*",
        "a1",
        "phone (1",
        "dob,1\n",
        "1@tcp(",
    ];
    let answered = ["password=", "password='x ", "card 4", "a1 ", "-----BEGIN PRIVATE KEY-----*", "[at]"];
    let all = asked.map(|unit| (question, unit)).into_iter().chain(answered.map(|unit| (answer, unit)));
    for (judge, unit) in all {
        let time = |size: usize| {
            let text = unit.repeat(size / unit.len());
            let once = || {
                let began = Instant::now();
                judge(&text);
                began.elapsed()
            };
            (0..6).map(|_| once()).min().unwrap()
        };
        let times = || (time(8 << 10), time(64 << 10));
        // Eight times as much, not sixty-four. Where others work on the machine, the longer one is disturbed more often.
        let linear = |(short, long): &(Duration, Duration)| *long < *short * 32;
        let (short, long) = (0..4).map(|_| times()).find(linear).unwrap_or_else(times);
        assert!(linear(&(short, long)), "{unit:?}: {short:?}, {long:?}");
    }
}

/// Nor is a long word of a stream read again for each of the beginnings of keys in it.
#[test]
fn a_word_full_of_beginnings_takes_hardly_longer_than_another() {
    let pii = Arc::new(Pii::new(&Settings { output: masking(), ..Settings::default() }).unwrap());
    let time = |piece: &str| {
        let mut pieces = vec![piece; 1200];
        // Either is held from here on.
        pieces[0] = "LTAI=";
        let once = || {
            let began = Instant::now();
            std::hint::black_box(streamed(&pii, &pieces));
            began.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    let (full, plain) = (time("LTAI="), time("LTAX="));
    assert!(full < plain * 12, "{full:?}, {plain:?}");
}

/// What is found of a text, in its order: each value by its type.
fn found(pii: &Pii, text: &str) -> Vec<String> {
    let found = pii.in_question(text).into_iter();
    found.map(|found| format!("{} {}", pii.name(found.kind), &text[found.range])).collect()
}

/// A stream of a text is judged as the whole is, wherever it is cut in two, and in single characters.
fn same_at_each_cut(pii: &Arc<Pii>, text: &str) {
    let whole = streamed(pii, &[text]);
    for cut in (1..text.len()).filter(|at| text.is_char_boundary(*at)) {
        let (one, two) = text.split_at(cut);
        assert_eq!(streamed(pii, &[one, two]), whole, "cut at {cut}: {one:?} | {two:?}");
    }
    let singles: Vec<String> = text.chars().map(String::from).collect();
    let singles: Vec<&str> = singles.iter().map(String::as_str).collect();
    assert_eq!(streamed(pii, &singles), whole, "in single characters: {text:?}");
}

/// Every type is masked.
fn masking() -> Output {
    let kinds = [
        "email", "phone", "card", "iban", "ssn", "nhs", "nino", "passport", "ip", "birth", "wallet", "secret",
    ];
    let modes: serde_json::Map<_, _> =
        kinds.iter().map(|kind| ((*kind).to_owned(), serde_json::json!(Mode::Mask))).collect();
    serde_json::from_value(modes.into()).unwrap()
}

/// What leaves of a text that comes in pieces.
fn streamed(pii: &Arc<Pii>, pieces: &[&str]) -> String {
    let rules = Answers::rules(pii, &Arc::new(Request::default()), &Trail::default()).collect();
    let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
    let mut out = std::collections::VecDeque::new();
    for piece in pieces {
        judging.event(Event::text(*piece), &mut out);
    }
    judging.event(Event::finish(Finish::Stop), &mut out);
    judging.end(&mut out);
    out.iter()
        .filter_map(|event| if let Event::Text { text, .. } = event { Some(text.as_str()) } else { None })
        .collect()
}
