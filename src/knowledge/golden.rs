//! The promise of the embedded answers, kept by questions: those that the
//! handbook answers are answered from the right document, the others are not.
use serde::Deserialize;

use super::{Knowledge, extract::Extract};

#[derive(Deserialize)]
struct Item {
    input: String,
    must_contain: Vec<String>,
    must_not_contain: Vec<String>,
    relevant: Vec<String>,
}

fn items() -> Vec<Item> {
    let lines = include_str!("../../config/golden/handbook.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ask(knowledge: &Knowledge, question: &str, passages: usize) -> Extract {
    knowledge.extract(question, &knowledge.search(question, passages))
}

/// Whether the answer is as the item wants it.
fn passes(item: &Item, answer: &Extract) -> bool {
    let text = answer.text().to_lowercase();
    let has = |wanted: &String| text.contains(&wanted.to_lowercase());
    let source = answer.citations.iter().any(|c| item.relevant.iter().any(|r| **r == *c.document));
    let sure =
        if item.relevant.is_empty() { answer.confidence < 0.2 } else { source && answer.confidence > 0.5 };
    sure && item.must_contain.iter().all(has) && !item.must_not_contain.iter().any(has)
}

/// The share of the questions that are answered as they should be, and the others, to be read.
fn share(answerable: bool, chunk_chars: usize, passages: usize) -> (f64, Vec<String>) {
    let knowledge = Knowledge::handbook(chunk_chars);
    let asked: Vec<_> = items().into_iter().filter(|item| item.relevant.is_empty() != answerable).collect();
    assert!(asked.len() >= 40);
    let wrong = asked.iter().filter_map(|item| {
        let answer = ask(&knowledge, &item.input, passages);
        let told = || format!("{:.2} {:?} -> {}", answer.confidence, item.input, answer.text());
        (!passes(item, &answer)).then(told)
    });
    let wrong: Vec<_> = wrong.collect();
    (1.0 - wrong.len() as f64 / asked.len() as f64, wrong)
}

/// Lengths of passages, and how many are looked through: the default first.
const SETTINGS: [(usize, usize); 4] = [(1200, 3), (800, 3), (800, 5), (500, 3)];

#[test]
fn questions_that_the_handbook_answers_are_answered_from_the_right_document() {
    for (chars, passages) in SETTINGS {
        let (share, wrong) = share(true, chars, passages);
        assert!(share >= 0.9, "{chars} characters, {passages} passages: {share:.3}\n{}", wrong.join("\n"));
    }
}

#[test]
fn questions_that_the_handbook_cannot_answer_are_not_answered() {
    for (chars, passages) in SETTINGS {
        let (share, wrong) = share(false, chars, passages);
        assert!(share >= 0.95, "{chars} characters, {passages} passages: {share:.3}\n{}", wrong.join("\n"));
    }
}

#[test]
fn the_first_question_of_a_newcomer_is_answered() {
    let answer = ask(&Knowledge::handbook(800), "How do I limit requests per user?", 3);
    assert!(answer.confidence > 0.5, "{answer:?}");
    assert!(answer.text().contains("limits.requests_per_minute.user"), "{answer:?}");
    assert_eq!(&*answer.citations[0].document, "limits.md");
}

#[test]
fn an_empty_or_odd_question_is_not_answered() {
    let knowledge = Knowledge::handbook(800);
    for odd in ["", " ", "?", "the", "\u{0}", "x".repeat(100_000).as_str(), "the ".repeat(10_000).as_str()] {
        let answer = ask(&knowledge, odd, 3);
        assert!(answer.confidence < 0.2 && answer.citations.is_empty(), "{odd:.20} {answer:?}");
    }
    assert_eq!(Knowledge::of(&[], 800).search("limits", 3), []);
}
