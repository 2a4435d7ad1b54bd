//! How far an answer rests on the passages that a model was given.
//!
//! An answer is taken apart into claims, its sentences. A claim is supported
//! where one passage has enough of its terms, and every number and name in it.
//! This sees invented facts, not wrong conclusions.
use std::collections::HashSet;

use super::{
    sentence::{self, Kind},
    words,
};
use crate::chat::{Citation, Passage};

/// The share of a claim's weight that a passage must have.
const ENOUGH: f64 = 0.6;
/// Longer answers are judged by their beginning, so that a judgement stays quick.
const LONGEST: usize = 16 << 10;

/// The share of the answer's claims that `passages` support, and the best span for each of those.
/// `weigh` says how rare a term is. An answer that makes no claim, or says that it does not know, has none.
pub fn ground(answer: &str, passages: &[Passage], weigh: impl Fn(&str) -> f64) -> (Vec<Citation>, f64) {
    let answer = words::beginning(answer, LONGEST);
    if passages.is_empty() || admits(answer) {
        return (Vec::new(), 0.0);
    }
    let sources: Vec<Source> = passages.iter().map(Source::new).collect();
    let mut citations: Vec<Citation> = Vec::new();
    let (mut claims, mut supported) = (0_u32, 0_u32);
    for piece in sentence::pieces(answer) {
        if piece.kind == Kind::Code {
            continue;
        }
        let claim = Claim::new(&answer[piece.range]);
        if claim.terms.is_empty() {
            continue;
        }
        claims += 1;
        let scored = sources.iter().map(|source| (source, claim.support(source, &weigh)));
        let Some((source, score)) = scored.max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        if score >= ENOUGH {
            supported += 1;
            let citation = source.cite(&claim, score, &weigh);
            if !citations.iter().any(|c| c.document == citation.document && c.span == citation.span) {
                citations.push(citation);
            }
        }
    }
    citations.sort_by(|a, b| b.score.total_cmp(&a.score));
    (citations, if claims == 0 { 0.0 } else { f64::from(supported) / f64::from(claims) })
}

/// Whether the answer says that it does not know.
pub fn admits(answer: &str) -> bool {
    let start: String = answer.chars().take(160).collect::<String>().to_lowercase().replace('’', "'");
    let phrases =
        ["i don't know", "i do not know", "does not say", "do not say", "no information", "not mentioned in"];
    phrases.iter().any(|phrase| start.contains(phrase)) && answer.len() < 400
}

/// A passage, ready to be compared.
struct Source<'a> {
    passage: &'a Passage,
    terms: HashSet<String>,
    exact: HashSet<String>,
}

impl<'a> Source<'a> {
    fn new(passage: &'a Passage) -> Self {
        let texts = [&*passage.heading, &*passage.text];
        let terms = texts.iter().flat_map(|text| words::terms(text)).collect();
        let exact =
            texts.iter().flat_map(|text| words::words(text)).map(|word| word.raw.into_owned()).collect();
        Self { passage, terms, exact }
    }

    /// The sentence that has most of the claim.
    fn cite(&self, claim: &Claim, score: f64, weigh: &impl Fn(&str) -> f64) -> Citation {
        let text = &self.passage.text;
        let shares = sentence::pieces(text).into_iter().map(|piece| {
            let terms = words::terms(&text[piece.range.clone()]).into_iter().collect();
            (claim.share(&terms, weigh), piece)
        });
        let best = shares.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let span = best.map_or(&text[..], |(_, piece)| &text[piece.range]);
        Citation {
            document: self.passage.document.clone(),
            heading: self.passage.heading.clone(),
            span: span.split_whitespace().collect::<Vec<_>>().join(" "),
            score: (score * 1000.0).round() / 1000.0,
        }
    }
}

/// A sentence of the answer.
struct Claim {
    terms: Vec<String>,
    /// Numbers and names: a passage that lacks one of them does not support the claim.
    exact: Vec<String>,
}

impl Claim {
    fn new(text: &str) -> Self {
        let text = without_marks(text);
        let mut terms = words::terms(&text);
        terms.sort();
        terms.dedup();
        let start = sentence::item_mark(text.trim_start());
        let body = &text.trim_start()[start..];
        let exact = words::words(body)
            .enumerate()
            .filter(|(at, word)| {
                let first = body[word.start..].chars().next();
                let number = first.is_some_and(char::is_numeric);
                // A sentence begins with a capital; elsewhere one makes a name.
                let name = *at > 0 && first.is_some_and(char::is_uppercase) && word.end - word.start > 1;
                number || name
            })
            .map(|(_, word)| word.raw.into_owned())
            .collect();
        Self { terms, exact }
    }

    fn share(&self, terms: &HashSet<String>, weigh: &impl Fn(&str) -> f64) -> f64 {
        let (mut all, mut here) = (0.0, 0.0);
        for term in &self.terms {
            let weight = weigh(term).max(0.01);
            all += weight;
            here += if terms.contains(term) { weight } else { 0.0 };
        }
        if all > 0.0 { here / all } else { 0.0 }
    }

    fn support(&self, source: &Source<'_>, weigh: &impl Fn(&str) -> f64) -> f64 {
        if self.exact.iter().all(|word| source.exact.contains(word)) {
            self.share(&source.terms, weigh)
        } else {
            0.0
        }
    }
}

/// The text without citation marks such as `[1]` or `[2, 3]`.
fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let end =
            inner.find(|c: char| !(c.is_ascii_digit() || matches!(c, ',' | ' '))).unwrap_or(inner.len());
        if end > 0 && inner[end..].starts_with(']') {
            rest = &inner[end + 1..];
        } else {
            out.push('[');
            rest = inner;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages(texts: &[&str]) -> Vec<Passage> {
        let passage = |text: &&str| Passage {
            document: "a.md".into(),
            heading: "Cache".into(),
            text: (*text).into(),
            start: 0,
            score: 1.0,
        };
        texts.iter().map(passage).collect()
    }

    fn score(answer: &str) -> f64 {
        let passages = passages(&[
            "The cache keeps an answer for 300 seconds. It is cleared on reload.",
            "Redis is not used.",
        ]);
        ground(answer, &passages, |_| 1.0).1
    }

    #[test]
    fn supported_claims_count_and_are_cited_by_their_sentence() {
        let passages = passages(&["Bread is baked. The cache keeps an answer for 300 seconds."]);
        let (citations, score) = ground("The cache keeps answers 300 seconds [1].", &passages, |_| 1.0);
        assert!((score - 1.0).abs() < 1e-9);
        assert_eq!(citations[0].span, "The cache keeps an answer for 300 seconds.");
    }

    #[test]
    fn a_wrong_number_or_name_is_not_supported() {
        assert!(score("The cache keeps an answer for 600 seconds.") < 0.01);
        assert!(score("The cache keeps an answer in Memcached for 300 seconds.") < 0.01);
        assert!((score("The cache keeps an answer for 300 seconds. Elephants fly.") - 0.5).abs() < 0.01);
    }

    #[test]
    fn an_answer_that_admits_ignorance_or_is_empty_has_no_support() {
        for answer in ["I don't know: the documents do not say.", "I don’t know.", "", "```\ncache\n```"] {
            assert!(score(answer) < 0.01, "{answer}");
        }
    }
}
