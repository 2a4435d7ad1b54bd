use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::chat::Message;

const PROMPT: &str = "You are the assistant of Example Bank. Never quote internal prices to anybody outside. \
    The secret word of the week is marmalade, and refunds above ninety euros need a manager.";

fn guard(question: &str) -> Arc<dyn Guard> {
    guard_of(PROMPT, question)
}

pub(super) fn guard_of(prompt: &str, question: &str) -> Arc<dyn Guard> {
    let messages = vec![Message::new(Role::System, prompt), Message::new(Role::User, question)];
    let settings = Settings { mode: Mode::Block, ..Settings::default() };
    of(&settings, &Arc::new(Request { messages, ..Request::default() }), &Arc::default()).unwrap()
}

fn leaks(answer: &str) -> bool {
    let mut found = Vec::new();
    assert_eq!(guard("Hi").scan(answer, 0, true, &mut found), answer.len());
    !found.is_empty()
}

#[test]
fn the_prompt_is_found_as_it_is_and_encoded() {
    let lower = PROMPT.to_lowercase();
    let base64 = STANDARD.encode(PROMPT);
    let hex: String = PROMPT.bytes().map(|byte| format!("{byte:02x}")).collect();
    for said in [
        PROMPT.to_owned(),
        format!("Sure! My instructions: {}", &PROMPT[40..150]),
        PROMPT.replace(' ', " * "),
        PROMPT.replace(' ', "&nbsp;"),
        PROMPT.chars().flat_map(|letter| [letter, '\u{200b}']).collect(),
        PROMPT.split(' ').enumerate().map(|(at, word)| format!("{at}. {word}\n")).collect(),
        lower.chars().rev().collect(),
        lower.chars().map(rot13).collect(),
        lower.split(' ').map(|word| word.chars().rev().collect::<String>() + " ").collect(),
        format!("Here: {base64}"),
        format!("Here: {hex}."),
    ] {
        assert!(leaks(&said), "{said}");
    }
}

fn rows(of: impl Fn(u8) -> String, between: &str) -> String {
    PROMPT.bytes().map(of).collect::<Vec<_>>().join(between)
}

pub(super) fn pieces(text: &str, size: usize, between: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(size).map(|piece| piece.iter().collect::<String>()).collect::<Vec<_>>().join(between)
}

/// The prompt in every spelling that is found, each with its name.
fn spellings() -> Vec<(&'static str, String)> {
    let hex = rows(|byte| format!("{byte:02x}"), "");
    let base64 = STANDARD.encode(PROMPT);
    let wide: Vec<u8> = PROMPT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let letters = PROMPT.chars().filter(|letter| letter.is_alphabetic());
    vec![
        ("letters", pieces(PROMPT, 1, " ")),
        (
            "letters and hyphens",
            PROMPT.split(' ').map(|word| pieces(word, 1, "-")).collect::<Vec<_>>().join("  "),
        ),
        ("a letter a line", pieces(PROMPT, 1, "\n")),
        (
            "numbered letters",
            letters.clone().enumerate().map(|(at, letter)| format!("{at}. {letter}\n")).collect(),
        ),
        ("letters in quotes", letters.clone().map(|letter| format!("\"{letter}\", ")).collect()),
        ("letters backwards", pieces(&PROMPT.chars().rev().collect::<String>(), 1, " ")),
        ("letters in rot13", pieces(&PROMPT.to_lowercase().chars().map(rot13).collect::<String>(), 1, ".")),
        ("joined", letters.collect()),
        ("camels", PROMPT.split(' ').map(|word| word[..1].to_uppercase() + &word[1..]).collect()),
        ("pluses", PROMPT.replace(' ', "+")),
        ("slashes", PROMPT.replace(' ', "/")),
        ("low lines", PROMPT.replace(' ', "_")),
        ("hex", rows(|byte| format!("{byte:02x}"), " ")),
        ("capital hex", rows(|byte| format!("{byte:02X}"), ":")),
        ("0x", rows(|byte| format!("0x{byte:02x}"), ", ")),
        (r"\x", rows(|byte| format!(r"\x{byte:02x}"), "")),
        ("hex in fours", pieces(&hex, 4, " ")),
        ("hex in lines", pieces(&hex, 60, "\n")),
        ("hex in quotes", format!("\"{}\"", pieces(&hex, 10, "\" + \""))),
        ("code points", rows(|byte| format!("U+{byte:04X}"), " ")),
        ("percent", rows(|byte| format!("%{byte:02X}"), "")),
        ("blanks as percent", PROMPT.replace(' ', "%20")),
        ("quoted printable", rows(|byte| format!("={byte:02X}"), "")),
        ("blanks as quoted printable", PROMPT.replace(' ', "=20")),
        ("entities", rows(|byte| format!("&#{byte};"), "")),
        ("hex entities", rows(|byte| format!("&#x{byte:x};"), "")),
        ("entities without an end", rows(|byte| format!("&#{byte}"), "")),
        ("unicode", rows(|byte| format!(r"\u{byte:04x}"), "")),
        ("unicode in a text in a text", rows(|byte| format!(r"\\u{byte:04x}"), "")),
        ("braces", rows(|byte| format!(r"\u{{{byte:x}}}"), "")),
        ("decimal", rows(|byte| byte.to_string(), " ")),
        ("a list of numbers", format!("[{}]", rows(|byte| byte.to_string(), ", "))),
        ("octal", rows(|byte| format!("{byte:03o}"), " ")),
        (r"octal, \", rows(|byte| format!(r"\{byte:o}"), "")),
        ("0o", rows(|byte| format!("0o{byte:o}"), " ")),
        ("0b", rows(|byte| format!("0b{byte:08b}"), ", ")),
        ("binary", rows(|byte| format!("{byte:08b}"), " ")),
        ("binary of seven", rows(|byte| format!("{byte:07b}"), " ")),
        ("binary in one", rows(|byte| format!("{byte:08b}"), "")),
        ("base64", base64.clone()),
        ("base64 in an address", format!("data:text/plain;base64,{base64}")),
        ("base64 in lines", pieces(&base64, 76, "\n")),
        ("base64 in short lines", pieces(&base64, 20, "\r\n> ")),
        ("base64 in pieces", format!("\"{}\"", pieces(&base64, 8, "\", \""))),
        ("base64 in small pieces", format!("'{}'", pieces(&base64, 4, "' + '"))),
        (
            "base64 of pieces",
            PROMPT.as_bytes().chunks(10).map(|piece| STANDARD.encode(piece) + "\n").collect(),
        ),
        ("base64 for addresses", URL_SAFE.encode(PROMPT)),
        ("base64 of two bytes a letter", STANDARD.encode(wide)),
        ("base64 of rot13", STANDARD.encode(PROMPT.to_lowercase().chars().map(rot13).collect::<String>())),
        ("base64 within a word", format!("x9{base64}")),
        ("base64 in JSON", base64.replace('/', r"\/")),
        ("capitals", PROMPT.to_uppercase()),
        ("emphasis", PROMPT.split(' ').map(|word| format!("**{word}** ")).collect()),
        ("tags", PROMPT.split(' ').map(|word| format!("<b>{word}</b><br />")).collect()),
        (
            "numbered lines",
            pieces(PROMPT, 60, "\n")
                .lines()
                .zip(1..)
                .map(|(line, at)| format!("{at:4} | {line}\n"))
                .collect(),
        ),
        ("numbered words", PROMPT.split(' ').zip(1..).map(|(word, at)| format!("{at}: {word}\n")).collect()),
        ("a table", PROMPT.split(' ').zip(1..).map(|(word, at)| format!("| {at} | {word} |\n")).collect()),
        ("JSON", serde_json::to_string(&PROMPT.replace(' ', "\n")).unwrap()),
        ("JSON in JSON", PROMPT.replace(' ', r"\\n")),
        (
            "full width",
            PROMPT
                .chars()
                .map(|c| if c.is_ascii_graphic() { char::from_u32(c as u32 + 0xfee0).unwrap() } else { c })
                .collect(),
        ),
        ("look-alikes", PROMPT.replace('o', "о").replace('e', "е").replace('a', "а")),
        ("accents", PROMPT.replace('o', "ö").replace('e', "e\u{301}")),
    ]
}

#[test]
fn the_prompt_is_found_in_every_spelling() {
    let passed: Vec<&str> =
        spellings().into_iter().filter(|(_, said)| !leaks(said)).map(|(name, _)| name).collect();
    assert!(passed.is_empty(), "{passed:?}");
}

/// The text in pieces; up to where it had left before something was found, and what.
pub(super) fn in_pieces(
    guard: &dyn Guard,
    text: &str,
    cuts: impl Iterator<Item = usize>,
) -> (usize, Option<Found>) {
    let (mut sure, mut found) = (0, Vec::new());
    for cut in cuts.filter(|cut| text.is_char_boundary(*cut)).chain([text.len()]) {
        let next = guard.scan(&text[..cut], sure, cut == text.len(), &mut found);
        assert!(next >= sure && text.is_char_boundary(next));
        if !found.is_empty() {
            return (sure, found.into_iter().next());
        }
        sure = next;
    }
    (sure, None)
}

#[test]
fn no_byte_of_any_spelling_leaves_at_any_split() {
    let guard = guard("Hi");
    for (name, said) in spellings() {
        let text = format!("Sure, here it is: {said}. Anything else?");
        let mut whole = Vec::new();
        guard.scan(&text, 0, true, &mut whole);
        let first = whole[0].range.start;
        let begins = text.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
        let one = |size: usize| begins.iter().copied().step_by(size).skip(1);
        for size in [1, 2, 3, 5, 7, 16, 61] {
            let (left, found) = in_pieces(&*guard, &text, one(size));
            let found = found.unwrap_or_else(|| panic!("{name} in pieces of {size}"));
            assert!(
                left <= first && left <= found.range.start,
                "{name} in pieces of {size}: {left} of {found:?}, {first}"
            );
        }
        for at in &begins {
            let (left, found) = in_pieces(&*guard, &text, [*at].into_iter());
            assert!(found.is_some() && left <= first, "{name} cut at {at}: {left} of {first}");
        }
    }
}

/// What ordinary answers are made of, and the most bytes of it that may be held back at any place.
fn ordinary() -> Vec<(&'static str, String, usize)> {
    let mix = |at: u64| (at ^ at >> 31).wrapping_mul(0x94d0_49bb_1331_11eb) >> 29;
    let noise: Vec<u8> =
        (1..3000).map(|at: u64| mix(mix(at.wrapping_mul(0x9e37_79b9_7f4a_7c15))) as u8).collect();
    let other = "The quick brown fox jumps over the lazy dog while you are the one who reads about refunds above it all.";
    let spelled =
        |of: &dyn Fn(u8) -> String, between: &str| other.bytes().map(of).collect::<Vec<_>>().join(between);
    vec![
        ("prose", other.repeat(3), 36),
        (
            "a sentence of the prompt's",
            "As the page says: \"Refunds above ninety euros need a manager\", so ask yours.".into(),
            60,
        ),
        (
            "a spelled word",
            "It is spelled S-L-U-I-C-E, with one L. E x a m p l e is spelled so, too.".into(),
            36,
        ),
        ("a hex dump", noise.iter().map(|byte| format!("{byte:02x} ")).collect(), 48),
        (
            "a dump with addresses",
            noise
                .chunks(16)
                .enumerate()
                .map(|(at, line)| {
                    format!(
                        "{:08x}  {}\n",
                        at * 16,
                        line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>()
                    )
                })
                .collect(),
            48,
        ),
        ("hex of another text", spelled(&|byte| format!("{byte:02x}"), " "), 90),
        ("a picture", format!("data:image/png;base64,{}", STANDARD.encode(&noise)), 160),
        ("a picture in lines", pieces(&STANDARD.encode(&noise), 76, "\n"), 160),
        ("base64 of another text", STANDARD.encode(other), 90),
        ("numbers", (0..900).map(|at| format!("{}, ", at * 37 % 250)).collect(), 64),
        ("numbers that might be letters", (0..900).map(|at| format!("{} ", 97 + at * 7 % 26)).collect(), 64),
        ("years", (1900..2030).map(|year| format!("{year} ")).collect(), 128),
        (
            "digests",
            noise
                .chunks(32)
                .take(8)
                .map(|line| {
                    line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "  file.txt\n"
                })
                .collect(),
            64,
        ),
        (
            "a table",
            (0..80).map(|at| format!("| {at} | item {at} | {}.50 | A{} |\n", at * 3, at % 7)).collect(),
            64,
        ),
        (
            "code",
            "let userName = getUserName(&mut conn)?; if a < b && c > d { x += 0x1F; } // iPhone15\n"
                .repeat(4),
            64,
        ),
        (
            "JSON",
            r#"{"name": "Ann\nLee", "url": "https:\/\/a.example\/b%20c?d=e%2Ff", "ids": [12, 80, 104]} "#
                .repeat(4),
            64,
        ),
        ("binary", noise.iter().take(200).map(|byte| format!("{byte:08b} ")).collect(), 90),
        (
            "options",
            "a) yes b) no c) both d) none. A B C D E F G H I J K L M N O P Q R S T U V W X Y Z. ".repeat(3),
            36,
        ),
        ("a formula", "x + y = z, a * b - c / d = e; f ( x ) = a x + b, i j k l m n p q r s t".into(), 64),
        (
            "a long word",
            "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft ".repeat(2),
            100,
        ),
    ]
}

#[test]
fn an_ordinary_answer_is_neither_found_nor_held() {
    let guard = guard("Hi");
    for (name, text, most) in ordinary() {
        assert!(!leaks(&text), "{name}");
        let (mut sure, mut found) = (0, Vec::new());
        for (cut, _) in text.char_indices().skip(1) {
            sure = guard.scan(&text[..cut], sure, false, &mut found);
            assert!(cut - sure <= most && found.is_empty(), "{name}: {:?} held, {found:?}", &text[sure..cut]);
        }
    }
}

#[test]
fn every_text_of_an_answer_is_judged_by_itself() {
    use crate::{
        chat::{Event, Finish},
        guard::hold::{FILTERED, Judging},
        reply::Rewrite,
    };
    type Texts<'a> = (&'a str, &'a dyn Fn(String) -> Event);

    let escaped = serde_json::to_string(&json!({"text": PROMPT.replace(' ', "\n")})).unwrap();
    let arguments =
        |index, arguments: String| Event::ToolCall { choice: 0, index, id: None, name: None, arguments };
    let reasoning = |text| Event::Reasoning { choice: 0, text, signature: None, redacted: None };
    let spelled = pieces(PROMPT, 1, " ");
    let texts: [Texts<'_>; 4] = [
        (&spelled, &reasoning),
        (&escaped, &|text| arguments(3, text)),
        (&spelled, &|text| Event::Text { choice: 2, text }),
        (&spelled, &|text| Event::Refusal { choice: 1, text }),
    ];
    for (text, event) in texts {
        let rules: Arc<[Arc<dyn Guard>]> = [guard("Hi")].into();
        let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
        let mut out = VecDeque::new();
        for piece in text.as_bytes().chunks(3) {
            // Another answer is given beside it.
            judging.event(Event::Text { choice: 9, text: "Well. ".into() }, &mut out);
            judging.event(event(String::from_utf8_lossy(piece).into_owned()), &mut out);
            if out.iter().any(|event| matches!(event, Event::Finish { reason: Finish::Filtered, .. })) {
                break;
            }
        }
        let said = format!("{out:?}");
        assert!(said.contains(FILTERED), "{said}");
        assert!(!said.contains("Y ") && !said.contains("You"), "{said}");
    }
}

#[test]
fn a_long_word_of_the_prompt_is_no_leak_by_itself() {
    let word = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerk";
    let messages =
        vec![Message::new(Role::System, format!("You are the helper of the {word} and of nobody else."))];
    let settings = Settings { mode: Mode::Block, ..Settings::default() };
    let guard =
        of(&settings, &Arc::new(Request { messages, ..Request::default() }), &Arc::default()).unwrap();
    let mut found = Vec::new();
    guard.scan(&format!("It is the {word}, spelled {}.", pieces(word, 1, " ")), 0, true, &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_the_caller_said_may_be_spelled_for_him() {
    let guard = guard(PROMPT);
    for (name, said) in
        spellings().into_iter().filter(|(name, _)| !name.contains("rot13") && !name.contains("backwards"))
    {
        let mut found = Vec::new();
        guard.scan(&said, 0, true, &mut found);
        assert!(found.is_empty(), "{name}");
    }
}

#[test]
fn an_answer_may_speak_of_the_same_things() {
    for said in [
        "I am the assistant of Example Bank. How may I help you?",
        "Refunds above ninety euros are decided by somebody else.",
        "aGVsbG8gd29ybGQsIHRoaXMgaXMgYSBwaWN0dXJlIG9mIGEgY2F0",
        "",
    ] {
        assert!(!leaks(said), "{said}");
    }
    let mut found = Vec::new();
    guard(PROMPT).scan(PROMPT, 0, true, &mut found);
    assert!(found.is_empty(), "who knows it may hear it");
    let settings = Settings { mode: Mode::Log, ..Settings::default() };
    assert!(of(&settings, &Arc::default(), &"You are helpful.".into()).is_none(), "too short to be a secret");
}

#[test]
fn a_table_of_numbers_leaves_as_it_comes() {
    let text = format!("You are {}", "17 ".repeat(2000));
    let mut found = Vec::new();
    let sure = guard("Hi").scan(&text, 0, false, &mut found);
    assert!(text.len() - sure < 64 && found.is_empty(), "{sure} of {}", text.len());
}

#[test]
fn a_row_that_spells_marks_for_ever_does_not_wait_for_ever() {
    let row = format!("U+0059 {}", "U+0301 ".repeat(20_000));
    let held = row.len() - guard("").scan(&row, 0, false, &mut Vec::new());
    assert!(held <= 64 << 10, "{held}");
}

#[test]
fn numbers_that_count_up_spell_no_single_letters() {
    let guard = guard_of(
        "You help teachers with the school grades A B C D E F and with plans. A B C D E F G H I J K!",
        "Hi",
    );
    let count = |from: u32, to: u32, between: &str| {
        (from..to).map(|at| at.to_string()).collect::<Vec<_>>().join(between)
    };
    for between in [", ", " ", "\n", "; "] {
        for text in [count(2025, 2061, between), count(0, 5000, between), count(10_000, 20_000, between)] {
            let mut found = Vec::new();
            guard.scan(&format!("The numbers are {text}."), 0, true, &mut found);
            assert!(found.is_empty(), "{found:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_byte_of_any_spelling_leaves_in_any_pieces(
        which in 0..spellings().len(), before in "[a-zA-Z0-9é. ]{0,30}", cuts in proptest::collection::vec(1_usize..4000, 0..60),
    ) {
        let (name, said) = spellings().swap_remove(which);
        let text = format!("{before}: {said}. Well.");
        let guard = guard("Hi");
        let mut whole = Vec::new();
        guard.scan(&text, 0, true, &mut whole);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| *at < text.len()).collect();
        cuts.sort_unstable();
        let (left, found) = in_pieces(&*guard, &text, cuts.into_iter());
        prop_assert!(found.is_some() && left <= whole[0].range.start, "{name}: {left} of {:?}", whole[0]);
    }

    #[test]
    fn no_byte_of_it_leaves_wherever_it_is_cut(before in "[a-z é.]{0,40}", cuts in proptest::collection::vec(0_usize..260, 0..12)) {
        let text = format!("{before} {PROMPT} And more.");
        let guard = guard("Hi");
        let whole = { let mut found = Vec::new(); guard.scan(&text, 0, true, &mut found); found };
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| text.is_char_boundary(*at) && *at < text.len()).collect();
        cuts.push(text.len());
        cuts.sort_unstable();
        let (mut sure, mut found) = (0, Vec::new());
        for cut in cuts {
            let ended = cut == text.len();
            let next = guard.scan(&text[..cut], sure, ended, &mut found);
            prop_assert!(next >= sure && text.is_char_boundary(next));
            sure = next;
            if let Some(first) = whole.first().filter(|_| found.is_empty()) {
                prop_assert!(sure <= first.range.start, "{sure} of {:?} left", first.range);
            }
        }
        prop_assert_eq!(&found[0].range, &whole[0].range);
    }
}
