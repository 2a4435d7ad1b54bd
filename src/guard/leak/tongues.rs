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
        //REST
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
            for size in [1, 2, 3, 7, 61] {
                let cuts = begins.iter().copied().step_by(size).skip(1);
                let (left, found) = in_pieces(&*guard, &text, cuts);
                let found = found.unwrap_or_else(|| panic!("{tongue}: {name} in pieces of {size}"));
                assert!(
                    left <= first && left <= found.range.start,
                    "{tongue}: {name} in pieces of {size}: {left} of {found:?}, {first}"
                );
            }
            for at in begins.iter().step_by(3) {
                let (left, found) = in_pieces(&*guard, &text, [*at].into_iter());
                assert!(found.is_some() && left <= first, "{tongue}: {name} cut at {at}: {left} of {first}");
            }
        }
    }
}
