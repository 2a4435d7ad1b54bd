//! Several texts of one answer, the pieces of which come in turns.
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use proptest::prelude::*;
use sluice::{
    call::Trail,
    chat::{Event, Finish, Request},
    guard::{
        hold::{Guard, Judging},
        pii::{Answers, Pii, Settings},
    },
    reply::Rewrite,
};

use crate::masking;

/// Which of an answer's texts a piece is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Thought,
    Said,
    Call(u32),
}

const KINDS: [Kind; 4] = [Kind::Thought, Kind::Said, Kind::Call(0), Kind::Call(1)];

fn event(choice: u32, kind: Kind, text: &str) -> Event {
    let text = text.to_owned();
    match kind {
        Kind::Thought => Event::Reasoning { choice, text, signature: None, redacted: None },
        Kind::Said => Event::Text { choice, text },
        Kind::Call(index) => Event::ToolCall { choice, index, id: None, name: None, arguments: text },
    }
}

fn rules() -> Arc<[Arc<dyn Guard>]> {
    let pii = Arc::new(Pii::new(&Settings { output: masking(), ..Settings::default() }).unwrap());
    Answers::rules(&pii, &Arc::new(Request::default()), &Trail::default()).collect()
}

/// What leaves, in order.
fn judged(rules: &Arc<[Arc<dyn Guard>]>, events: &[Event]) -> Vec<Event> {
    let mut judging = Judging::new(rules.clone(), false, false, Box::new(|_, _| {}));
    let mut out = VecDeque::new();
    for event in events {
        judging.event(event.clone(), &mut out);
    }
    for choice in [0, 1] {
        judging.event(Event::Finish { choice, reason: Finish::Stop }, &mut out);
    }
    judging.end(&mut out);
    out.into()
}

/// The texts of each choice and kind.
fn pieces(events: &[Event]) -> BTreeMap<(u32, Kind), String> {
    let mut texts = BTreeMap::new();
    for event in events {
        let (choice, kind, piece) = match event {
            Event::Text { choice, text } => (*choice, Kind::Said, text),
            Event::Reasoning { choice, text, .. } => (*choice, Kind::Thought, text),
            Event::ToolCall { choice, index, arguments, .. } => (*choice, Kind::Call(*index), arguments),
            _ => continue,
        };
        *texts.entry((choice, kind)).or_insert_with(String::new) += piece;
    }
    texts.retain(|_, text| !text.is_empty());
    texts
}

fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("4539 1488 0343 6467".to_owned()),
        Just("4539148803436467".to_owned()),
        Just("DE89370400440532013000".to_owned()),
        Just("zara.quill@example.org".to_owned()),
        Just("219-09-8765".to_owned()),
        Just("203.0.113.77".to_owned()),
        "[a-z]{1,8}",
        "[0-9]{1,6}",
    ];
    proptest::collection::vec(word, 1..6).prop_map(|words| words.join(" "))
}

#[test]
fn a_placeholder_is_given_back_however_much_comes_between_its_pieces() {
    let (rules, _) = crate::restore::asked("I am ann@example.org.");
    let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {})).each_by_itself();
    let mut out = VecDeque::new();
    for piece in ["To [EMA", "IL_1], or EMAIL", "_1"] {
        judging.event(event(0, Kind::Said, piece), &mut out);
        for _ in 0..100 {
            judging.event(event(0, Kind::Thought, "a word "), &mut out);
        }
    }
    judging.event(Event::finish(Finish::Stop), &mut out);
    judging.end(&mut out);
    let said = &pieces(out.make_contiguous())[&(0, Kind::Said)];
    assert_eq!(said, "To ann@example.org, or ann@example.org");
}

proptest! {
    #[test]
    fn each_text_is_judged_by_itself_however_their_pieces_come(
        said in proptest::collection::vec((0_u32..2, 0_usize..4, words()), 1..6),
        turns in proptest::collection::vec((0_usize..6, 1_usize..9), 1..60),
    ) {
        let rules = rules();
        let mut left: BTreeMap<(u32, Kind), String> = BTreeMap::new();
        for (choice, kind, words) in said {
            left.entry((choice, KINDS[kind])).or_insert(words);
        }
        let whole: Vec<_> = left.iter().map(|((choice, kind), text)| event(*choice, *kind, text)).collect();
        // The pieces: so many bytes of one, then of another; none that has begun waits for long.
        let (mut events, mut waits) = (Vec::new(), BTreeMap::<(u32, Kind), usize>::new());
        let mut turns = turns.into_iter().cycle();
        while !left.is_empty() {
            let (which, size) = turns.next().unwrap();
            let late = waits.iter().find(|(key, waits)| **waits > 120 && left.contains_key(key));
            let key = late.map_or_else(|| *left.keys().nth(which % left.len()).unwrap(), |(key, _)| *key);
            let text = &left[&key];
            let (piece, rest) = text.split_at(size.min(text.len()));
            events.push(event(key.0, key.1, piece));
            waits.iter_mut().filter(|(other, _)| other.0 == key.0).for_each(|(_, waits)| *waits += 8 + piece.len());
            waits.insert(key, 0);
            match rest.is_empty() {
                true => drop(left.remove(&key)),
                false => drop(left.insert(key, rest.to_owned())),
            }
        }
        let expected: BTreeMap<_, _> = whole
            .iter()
            .flat_map(|event| pieces(&judged(&rules, std::slice::from_ref(event))))
            .collect();
        prop_assert_eq!(pieces(&judged(&rules, &events)), expected, "{:?}", events);
    }

    #[test]
    fn texts_that_follow_each_other_leave_in_their_order(
        texts in proptest::collection::vec("[a-z]{1,9}( [a-z]{1,9}[.,]?){0,12}", 4),
        size in 1_usize..9,
    ) {
        let mut events = Vec::new();
        for (kind, text) in KINDS.iter().zip(&texts) {
            let cut = text.as_bytes().chunks(size);
            events.extend(cut.map(|piece| event(0, *kind, std::str::from_utf8(piece).unwrap())));
        }
        // One after the other, nothing between them.
        let order = |events: &[Event]| -> Vec<(Kind, String)> {
            let mut runs: Vec<(Kind, String)> = Vec::new();
            for event in events {
                let Some(((_, kind), text)) = pieces(std::slice::from_ref(event)).into_iter().next() else { continue };
                match runs.last_mut() {
                    Some((last, said)) if *last == kind => said.push_str(&text),
                    _ => runs.push((kind, text)),
                }
            }
            runs
        };
        prop_assert_eq!(order(&judged(&rules(), &events)), order(&events));
    }
}
