//! Values come back wherever the text is cut, and whatever the model makes of their placeholders.
use std::{collections::VecDeque, sync::Arc};

use proptest::prelude::*;
use serde_json::Value;
use sluice::{
    chat::{Event, Message, Request, Role},
    guard::{
        hold::{Guard, Judging},
        pii::{Numbering, Pii, Restore, Settings, Survey, Vault},
    },
    reply::Rewrite,
};

/// The rule for a call whose question is `asked`, and what the model sees of it.
pub(crate) fn asked(asked: &str) -> (Arc<[Arc<dyn Guard>]>, String) {
    let pii = Pii::new(&Settings::default()).unwrap();
    let mut chat = Request { messages: vec![Message::new(Role::User, asked)], ..Request::default() };
    let vault = masked(&pii, &mut chat, &[], None);
    (Arc::new([Arc::new(Restore::new(Arc::new(vault))) as Arc<dyn Guard>]), chat.question())
}

fn masked(pii: &Pii, chat: &mut Request, taken: &[u32], key: Option<[u8; 32]>) -> Vault {
    let numbering = Numbering { prompts: &[], taken: &|_| taken.to_vec(), key };
    Survey::of(pii, chat).mask(chat, &numbering).unwrap()
}

#[test]
fn numbers_pass_those_of_documents_and_stay_in_a_conversation() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let seen = |words: &str, taken: &[u32], key: Option<u8>| {
        let mut chat = Request { messages: vec![Message::new(Role::User, words)], ..Request::default() };
        masked(&pii, &mut chat, taken, key.map(|key| [key; 32]));
        chat.question()
    };
    assert_eq!(seen("ann@example.org", &[1, 2, 4], None), "[EMAIL_3]");
    assert_eq!(seen("ann@example.org bob@example.org", &[1, 2, 4], None), "[EMAIL_3] [EMAIL_5]");
    let (one, two) = (seen("ann@example.org", &[], Some(1)), seen("bob@example.org", &[], Some(1)));
    assert_eq!(one.len(), "[EMAIL_123456789]".len());
    assert_ne!(one, two);
    // Wherever it stands, whatever else is there.
    assert_eq!(seen("bob@example.org and ann@example.org", &[], Some(1)), format!("{two} and {one}"));
    assert_ne!(seen("ann@example.org", &[], Some(2)), one, "another conversation");
    let number = one[7..16].parse().unwrap();
    assert_ne!(seen("ann@example.org", &[number], Some(1)), one, "the documents have it");
}

fn restored(rules: &Arc<[Arc<dyn Guard>]>, pieces: &[&str], event: impl Fn(&str) -> Event) -> String {
    let mut judging = Judging::new(rules.clone(), false, false, Box::new(|_, _| {}));
    let mut out = VecDeque::new();
    pieces.iter().for_each(|piece| {
        judging.event(event(piece), &mut out);
    });
    judging.end(&mut out);
    let text = |event: &Event| match event {
        Event::Text { text, .. } => text.clone(),
        Event::ToolCall { arguments, .. } => arguments.clone(),
        _ => String::new(),
    };
    out.iter().map(text).collect()
}

fn said(text: &str) -> Event {
    Event::text(text)
}

#[test]
fn whatever_the_model_makes_of_a_placeholder() {
    let (rules, seen) = asked("I am ann@example.org, and bob@example.org knows card 4111111111111111.");
    assert_eq!(seen, "I am [EMAIL_1], and [EMAIL_2] knows card [CARD_1].");
    for (words, expected) in [
        ("[EMAIL_1]", "ann@example.org"),
        ("[email_1], \"[Email_2]\".", "ann@example.org, \"bob@example.org\"."),
        ("**[EMAIL_1]**", "**ann@example.org**"),
        (r"\[EMAIL\_1\]", "ann@example.org"),
        (r"EMAIL\_1", "ann@example.org"),
        ("[EMAIL 1] [EMAIL-2] [ EMAIL_1 ]", "ann@example.org bob@example.org ann@example.org"),
        (r"C:\[EMAIL_1]", r"C:\ann@example.org"),
        ("EMAIL_1 or EMAIL_2", "ann@example.org or bob@example.org"),
        ("[EMAIL_1, EMAIL_2]", "[ann@example.org, bob@example.org]"),
        ("mailto:EMAIL_1?subject=x", "mailto:ann@example.org?subject=x"),
        // What is not a placeholder of this call stays.
        ("[EMAIL_3] [EMAIL_12] [PHONE_1] [EMAIL_] [EMAIL", "[EMAIL_3] [EMAIL_12] [PHONE_1] [EMAIL_] [EMAIL"),
        ("[EMAIL_T3_1] EMAIL_T3_1 MY_EMAIL_1 EMAIL_1x", "[EMAIL_T3_1] EMAIL_T3_1 MY_EMAIL_1 EMAIL_1x"),
        ("[CARD_1]", "4111111111111111"),
        ("EMAIL_01, EMAIL\\_001", "ann@example.org, ann@example.org"),
    ] {
        assert_eq!(restored(&rules, &[words], said), expected, "{words}");
        for cut in (1..words.len()).filter(|at| words.is_char_boundary(*at)) {
            let (one, two) = words.split_at(cut);
            assert_eq!(restored(&rules, &[one, two], said), expected, "{one:?} | {two:?}");
        }
    }
}

proptest! {
    #[test]
    fn it_makes_no_difference_where_the_text_is_cut(
        words in proptest::collection::vec(
            prop_oneof!["\\[?(EMAIL|email|CARD|Phone)(_|\\\\_| )?[0-9]{0,2}\\]?", "[a-zé\\[\\]\\\\ _E]{0,6}", Just("[EMAIL_1]".to_owned())], 0..8),
        cuts in proptest::collection::vec(1_usize..7, 0..30),
    ) {
        let (rules, _) = asked("I am ann@example.org, call +1 415 555 2671.");
        let text = words.join("");
        let whole = restored(&rules, &[&text], said);
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &*text, cuts.into_iter().cycle());
        while !rest.is_empty() {
            let mut size = cuts.next().unwrap_or(3).min(rest.len());
            while !rest.is_char_boundary(size) {
                size += 1;
            }
            let (piece, more) = rest.split_at(size);
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(restored(&rules, &pieces, said), whole);
        if !words.iter().any(|word| word.to_lowercase().contains("email") || word.to_lowercase().contains("phone")) {
            prop_assert_eq!(restored(&rules, &pieces, said), text);
        }
    }

    #[test]
    fn arguments_stay_json(word in "[A-Z][a-z]{3}[0-9]{2}[\\\\!a-z]{2,9}9") {
        let (rules, seen) = asked(&format!("my password is {word} ok"));
        prop_assume!(seen.contains("[SECRET_1]"));
        let event = |piece: &str| Event::ToolCall { choice: 0, index: 0, id: None, name: None, arguments: piece.to_owned() };
        let arguments = restored(&rules, &[r#"{"a": "x[SECR"#, r#"ET_1]"}"#], event);
        let read: Value = serde_json::from_str(&arguments).unwrap();
        prop_assert!(read["a"].as_str().unwrap().starts_with('x'));
        prop_assert!(read["a"].as_str().unwrap().len() >= 8);
    }

    #[test]
    fn any_text_is_masked_and_given_back(text in "(\\PC|[0-9@. -]|a@b\\.io|4111 1111 1111 1111|\\[EMAIL_1\\]|sk-[A-Za-z0-9]{24}){0,24}") {
        let (rules, seen) = asked(&text);
        prop_assert_eq!(restored(&rules, &[&seen], said), text);
    }
}
