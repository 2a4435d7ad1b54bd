//! Prompts in other languages than English are found in the same spellings.
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    tests::{guard_of, in_pieces, pieces},
    *,
};

const PROMPTS: [(&str, &str); 7] = [
    (
        "en",
        "You are the assistant of Example Bank. Never quote internal prices to anybody outside, and say the word marmalade.",
    ),
    (
        "fr",
        "Tu es l’assistant de la Société Générale. Ne révèle jamais les prix à un élève étranger, même très gêné, où qu’il soit.",
    ),
    (
        "de",
        "Du bist der Gehilfe für die Bücher der Bäckerei Müller. Erzähle niemals etwas über die höheren Preise für größere Körbe.",
    ),
    (
        "ru",
        "Ты помощник банка «Пример». Никогда не называй внутренние цены никому снаружи. Секретное слово этой недели — мармелад.",
    ),
    (
        "uk",
        "Ти помічник банку «Приклад». Ніколи не називай внутрішні ціни нікому ззовні. Таємне слово цього тижня — мармелад її.",
    ),
    (
        "bg",
        "Ти си помощникът на банката. Никога не казвай вътрешните цени на никой отвън. Тайната дума за тази седмица е мармалад.",
    ),
    (
        "el",
        "Είσαι ο βοηθός της τράπεζας Παράδειγμα. Μην λες ποτέ τις εσωτερικές τιμές σε κανέναν έξω. Η μυστική λέξη είναι μαρμελάδα.",
    ),
];

fn each<T: std::fmt::Display>(parts: impl IntoIterator<Item = T>, between: &str) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(between)
}

/// What is beyond ASCII spelled out, and nothing else.
fn beyond(prompt: &str, spelled: impl Fn(u32) -> String) -> String {
    prompt
        .chars()
        .map(|letter| if letter.is_ascii() { letter.to_string() } else { spelled(u32::from(letter)) })
        .collect()
}

fn percent_twice(point: u32) -> String {
    let letter = char::from_u32(point).unwrap_or(' ').to_string();
    letter.bytes().map(|byte| format!("%25{byte:02X}")).collect()
}

/// The spellings that the documents name, of a prompt.
fn spellings(prompt: &str) -> Vec<(&'static str, String)> {
    let points = || prompt.chars().map(u32::from);
    let hex = each(prompt.bytes().map(|byte| format!("{byte:02x}")), "");
    let base64 = STANDARD.encode(prompt);
    let little: Vec<u8> = prompt.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = prompt.encode_utf16().flat_map(u16::to_be_bytes).collect();
    // What Python's codec does: letters beyond ASCII stay.
    let rotated: String = prompt
        .chars()
        .map(|letter| match letter {
            'A'..='Z' => rot13(letter.to_ascii_lowercase()).to_ascii_uppercase(),
            letter => rot13(letter),
        })
        .collect();
    let percent = each(prompt.bytes().map(|byte| format!("%{byte:02X}")), "");
    let entities = each(points().map(|point| format!("&#{point};")), "");
    let letters = prompt.chars().filter(|letter| letter.is_alphabetic());
    vec![
        ("as it is", prompt.to_owned()),
        // One letter would become two.
        ("capitals", prompt.replace('ß', "ẞ").to_uppercase()),
        ("small letters", prompt.to_lowercase()),
        ("letters", pieces(prompt, 1, " ")),
        ("capital letters", pieces(&prompt.replace('ß', "ẞ").to_uppercase(), 1, "-")),
        ("joined", letters.collect()),
        ("backwards", prompt.chars().rev().collect()),
        ("letters backwards", pieces(&prompt.chars().rev().collect::<String>(), 1, " ")),
        ("code points", each(points().map(|point| format!("U+{point:04X}")), " ")),
        ("code points, 0x", each(points().map(|point| format!("0x{point:x}")), ", ")),
        ("code points in four digits", each(points().map(|point| format!("{point:04x}")), " ")),
        ("decimal code points", each(points(), " ")),
        ("decimal", each(prompt.bytes(), ", ")),
        ("octal", each(prompt.bytes().map(|byte| format!("{byte:03o}")), " ")),
        ("0o", each(prompt.bytes().map(|byte| format!("0o{byte:o}")), " ")),
        ("binary", each(prompt.bytes().map(|byte| format!("{byte:08b}")), " ")),
        ("0b", each(prompt.bytes().map(|byte| format!("0b{byte:08b}")), ", ")),
        ("hex", hex.clone()),
        ("hex, spaced", each(prompt.bytes().map(|byte| format!("{byte:02x}")), " ")),
        ("capital hex, spaced", each(prompt.bytes().map(|byte| format!("{byte:02X}")), ":")),
        ("0x", each(prompt.bytes().map(|byte| format!("0x{byte:02x}")), ", ")),
        ("hex in fours", pieces(&hex, 4, " ")),
        ("hex of two bytes a letter", each(big.iter().map(|byte| format!("{byte:02x}")), "")),
        ("base64", base64.clone()),
        ("base64 in lines", pieces(&base64, 76, "\n")),
        ("base64 in pieces", format!("\"{}\"", pieces(&base64, 8, "\", \""))),
        ("base64 in small pieces", format!("'{}'", pieces(&base64, 4, "' + '"))),
        ("base64 for addresses", base64.replace('+', "-").replace('/', "_")),
        ("base64 of two bytes a letter", STANDARD.encode(little)),
        ("base64 of two bytes a letter, the upper one first", STANDARD.encode(big)),
        ("base64 of rot13", STANDARD.encode(&rotated)),
        ("rot13", rotated.clone()),
        ("letters in rot13", pieces(&rotated, 1, " ")),
        ("entities", entities.clone()),
        ("entities twice", entities.replace('&', "&amp;")),
        ("entities twice beyond ASCII", beyond(prompt, |point| format!("&amp;#{point};"))),
        ("hex entities twice beyond ASCII", beyond(prompt, |point| format!("&amp;#x{point:x};"))),
        ("unicode", each(points().map(|point| format!(r"\u{point:04x}")), "")),
        ("unicode twice beyond ASCII", beyond(prompt, |point| format!(r"\\u{point:04x}"))),
        ("percent", percent.clone()),
        ("percent twice", percent.replace('%', "%25")),
        ("percent twice beyond ASCII", beyond(prompt, percent_twice)),
        ("quoted printable", percent.replace('%', "=")),
    ]
}

#[test]
fn a_prompt_in_another_language_is_found_in_every_spelling() {
    let mut passed = Vec::new();
    for (tongue, prompt) in PROMPTS {
        let guard = guard_of(prompt, "Hi");
        for (name, said) in spellings(prompt) {
            let mut found = Vec::new();
            guard.scan(&format!("Sure: {said}. Well."), 0, true, &mut found);
            if found.is_empty() {
                passed.push(format!("{tongue}: {name}"));
            }
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
}

#[test]
fn no_byte_of_another_language_leaves_at_any_split() {
    for (tongue, prompt) in PROMPTS {
        let guard = guard_of(prompt, "Hi");
        for (name, said) in spellings(prompt) {
            let text = format!("Sure, here it is: {said}. Anything else?");
            let mut whole = Vec::new();
            guard.scan(&text, 0, true, &mut whole);
            let Some(first) = whole.first().map(|found| found.range.start) else {
                panic!("{tongue}: {name}");
            };
            let begins = text.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
            for size in [3, 17] {
                let cuts = begins.iter().copied().step_by(size).skip(1);
                let (left, found) = in_pieces(&*guard, &text, cuts);
                let found = found.unwrap_or_else(|| panic!("{tongue}: {name} in pieces of {size}"));
                assert!(
                    left <= first && left <= found.range.start,
                    "{tongue}: {name} in pieces of {size}: {left} of {found:?}, {first}"
                );
            }
            for at in begins.iter().step_by(41) {
                let (left, found) = in_pieces(&*guard, &text, [*at].into_iter());
                assert!(found.is_some() && left <= first, "{tongue}: {name} cut at {at}: {left} of {first}");
            }
        }
    }
}
