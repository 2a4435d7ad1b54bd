//! Answers made of the documents' own sentences, with a confidence that means something.
//!
//! The confidence is a logistic function of what can be seen: how much of the
//! question's weight the chosen sentences cover, how much the passage, and how
//! much of the question no document knows. Its weights were fitted on
//! `config/golden/handbook.jsonl`; the test beside it keeps them honest.
use std::collections::HashMap;

use super::{
    index::Index,
    sentence::{self, Kind, Piece},
    words,
};
use crate::chat::{Citation, Passage};

/// Below this confidence nothing is said.
pub const THRESHOLD: f64 = 0.35;
/// What is said then.
pub const UNKNOWN: &str = "I don't know: the documents do not say anything about this.";
/// The most sentences in an answer.
const MOST_PIECES: usize = 4;
/// Longer code is a document of its own.
const LONGEST_CODE: usize = 1200;
/// A question's word found only in the headings above a sentence counts so much.
const HEADING_SHARE: f64 = 0.8;

/// An answer taken from documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Extract {
    /// The answer's pieces, in order; joined they are the answer.
    pub pieces: Vec<String>,
    /// The places they come from, best first; none where nothing supports an answer.
    pub citations: Vec<Citation>,
    /// How far the answer can be relied on.
    pub confidence: f64,
}

impl Extract {
    /// The answer's text.
    pub fn text(&self) -> String {
        self.pieces.concat()
    }

    /// Whether the documents support an answer.
    pub fn is_supported(&self) -> bool {
        !self.citations.is_empty()
    }

    fn unknown(confidence: f64) -> Self {
        Self { pieces: vec![UNKNOWN.into()], citations: Vec::new(), confidence }
    }
}

/// What can be seen of an answer's support, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features {
    /// The share of the question's weight in the chosen sentences and their headings.
    pub answer: f64,
    /// The same in the best sentence alone.
    pub best: f64,
    /// The same in the best passage.
    pub passage: f64,
    /// The same in the best passage's headings.
    pub heading: f64,
    /// The share of the question's weight in words that no document has.
    pub unknown: f64,
    /// The best passage's score, of the highest that the question allows.
    pub score: f64,
}

impl Features {
    /// The probability that the answer is right.
    pub fn confidence(self) -> f64 {
        let sum = BIAS
            + 3.0 * self.answer
            + 2.5 * self.best
            + 3.5 * self.passage
            + 2.5 * self.heading
            + 2.5 * self.score
            - 6.0 * self.unknown;
        1.0 / (1.0 + (-sum).exp())
    }
}

/// Nothing seen is nothing known.
const BIAS: f64 = -5.8;

/// The question's terms and what each weighs.
struct Question<'a> {
    terms: Vec<(&'a str, f64)>,
    total: f64,
}

impl Question<'_> {
    /// The share of the question's weight for which `has` is given, each term by its own degree.
    fn share(&self, has: impl Fn(usize) -> f64) -> f64 {
        let sum: f64 = self.terms.iter().enumerate().map(|(at, (_, weight))| weight * has(at)).sum();
        if self.total > 0.0 { sum / self.total } else { 0.0 }
    }

    /// Which of the question's terms are in `text`, as bits.
    fn bits(&self, text: &str) -> u64 {
        let found = words::terms(text);
        let has = |term: &str| found.iter().any(|other| other == term);
        self.terms
            .iter()
            .enumerate()
            .filter(|(_, (term, _))| has(term))
            .fold(0, |bits, (at, _)| bits | 1 << at)
    }
}

/// What kind of words the question waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A number: "how many", "how long".
    Number,
    /// Something to do: "how do I".
    Deed,
    /// Anything.
    Words,
}

impl Wanted {
    fn by(question: &str) -> Self {
        let mut words = words::words(question);
        while let Some(word) = words.next() {
            match &*word.raw {
                "how" => match words.next().as_ref().map(|word| &*word.raw) {
                    Some("many" | "much" | "long" | "often" | "large" | "big") => return Self::Number,
                    Some("do" | "can" | "to" | "could" | "should") => return Self::Deed,
                    _ => {}
                },
                "maximum" | "largest" | "default" => return Self::Number,
                _ => {}
            }
        }
        Self::Words
    }

    /// Whether a sentence has such words: a digit, or the name of a setting, command or path.
    fn fits(self, text: &str) -> bool {
        match self {
            Self::Number => text.bytes().any(|byte| byte.is_ascii_digit()),
            Self::Deed => text.contains('`'),
            Self::Words => false,
        }
    }
}

/// A sentence of the answer: its passage, its place in it, and how much of the question it covers.
type Chosen = (usize, usize, f64);

/// A sentence that may become part of the answer.
struct Candidate {
    passage: usize,
    at: usize,
    bits: u64,
    score: f64,
}

/// Answers from `passages`, of which the best comes first.
pub fn extract(index: &Index, question: &str, terms: &[String], passages: &[Passage]) -> Extract {
    let (features, chosen, read) = weigh(index, Wanted::by(question), terms, passages);
    let confidence = features.confidence();
    if chosen.is_empty() || confidence < THRESHOLD {
        // A guess that is not good enough to be told is not worth more than this.
        return Extract::unknown(confidence.min(0.5) * 0.4);
    }
    compose(passages, &read, &chosen, confidence)
}

/// The features of the best answer, its sentences by passage and place, and the passages' pieces.
fn weigh(
    index: &Index,
    wanted: Wanted,
    terms: &[String],
    passages: &[Passage],
) -> (Features, Vec<Chosen>, Vec<Vec<Piece>>) {
    // Bits of a `u64` stand for terms below.
    let terms: Vec<_> = terms.iter().take(64).map(|term| (term.as_str(), index.idf(term))).collect();
    let question = Question { total: terms.iter().map(|(_, weight)| weight).sum(), terms };
    let read: Vec<_> = passages.iter().map(|passage| sentence::pieces(&passage.text)).collect();
    let headings: Vec<u64> = passages.iter().map(|passage| question.bits(&passage.heading)).collect();
    let top = passages.first().map_or(0.0, |p| p.score).max(f64::MIN_POSITIVE);
    let with_heading = |bits: u64, passage: usize| {
        question.share(|at| {
            let in_heading = if headings[passage] >> at & 1 == 1 { HEADING_SHARE } else { 0.0 };
            if bits >> at & 1 == 1 { 1.0 } else { in_heading }
        })
    };

    let mut candidates = Vec::new();
    let mut whole: HashMap<usize, u64> = HashMap::new();
    for (passage, pieces) in read.iter().enumerate() {
        for (at, piece) in pieces.iter().enumerate() {
            let text = &passages[passage].text[piece.range.clone()];
            let bits = question.bits(text);
            *whole.entry(passage).or_default() |= bits;
            if piece.kind == Kind::Code {
                continue;
            }
            let words = text.split_whitespace().count();
            // A fragment says little by itself, and the first sentence of a section says what it is about.
            let brief = if words < 5 { 0.15 } else { 0.0 };
            let first = if at == 0 { 0.04 } else { 0.0 };
            let long = (words as f64 - 45.0).max(0.0) * 0.004;
            let rank = 0.25 * passages[passage].score / top;
            let fit = if wanted.fits(text) { 0.12 } else { 0.0 };
            let score = with_heading(bits, passage) + rank + first + fit - brief - long;
            candidates.push(Candidate { passage, at, bits, score });
        }
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then((a.passage, a.at).cmp(&(b.passage, b.at))));
    let Some(best) = candidates.first() else { return (Features::default(), Vec::new(), read) };

    // What other passages add makes an answer fuller, not surer: words that never
    // stand together seldom speak of the question's matter.
    let mut covered = best.bits | headings[best.passage];
    let mut here = covered;
    let mut chosen = vec![(best.passage, best.at, with_heading(best.bits, best.passage))];
    for candidate in &candidates[1..] {
        if chosen.len() >= MOST_PIECES {
            break;
        }
        let gain = question.share(|at| f64::from(u8::from((candidate.bits & !covered) >> at & 1 == 1)));
        let bound = if candidate.passage == best.passage { 0.7 } else { 0.85 };
        let near = candidate.score >= best.score * bound;
        if gain >= 0.12 || near && chosen.len() < 3 {
            covered |= candidate.bits;
            if candidate.passage == best.passage {
                here |= candidate.bits;
            }
            chosen.push((candidate.passage, candidate.at, with_heading(candidate.bits, candidate.passage)));
        }
    }

    // One sentence is seldom the whole answer: the one that follows goes on about the same.
    let follows = read[best.passage].get(best.at + 1).filter(|next| next.kind == Kind::Sentence);
    if chosen.len() == 1 && follows.is_some() && read[best.passage][best.at].kind == Kind::Sentence {
        chosen.push((best.passage, best.at + 1, chosen[0].2 / 2.0));
    }

    let unknown = question.share(|at| f64::from(u8::from(!index.knows(question.terms[at].0))));
    let around = whole.get(&best.passage).copied().unwrap_or_default();
    let features = Features {
        answer: question.share(|at| f64::from(u8::from(here >> at & 1 == 1))),
        best: with_heading(best.bits, best.passage),
        passage: with_heading(around, best.passage),
        heading: question.share(|at| f64::from(u8::from(headings[best.passage] >> at & 1 == 1))),
        unknown,
        score: (passages[best.passage].score / (question.total * 2.2).max(f64::MIN_POSITIVE)).min(1.0),
    };
    (features, chosen, read)
}

/// Puts the chosen sentences together, in the documents' order, with what belongs to them.
fn compose(passages: &[Passage], read: &[Vec<Piece>], chosen: &[Chosen], confidence: f64) -> Extract {
    let mut places: Vec<(usize, usize)> = Vec::new();
    let mut order: Vec<usize> = Vec::new();
    for (passage, at, _) in chosen {
        if !order.contains(passage) {
            order.push(*passage);
        }
        let pieces = &read[*passage];
        let text = |at: usize| &passages[*passage].text[pieces[at].range.clone()];
        let mut add = |at: usize| {
            if !places.contains(&(*passage, at)) {
                places.push((*passage, at));
            }
        };
        // "It is …" says nothing without the sentence before it.
        if *at > 0
            && pieces[*at].kind == Kind::Sentence
            && leans(text(*at))
            && pieces[*at - 1].kind == Kind::Sentence
        {
            add(*at - 1);
        }
        add(*at);
        let next = at + 1;
        let Some(following) = pieces.get(next) else { continue };
        if following.kind == Kind::Code && following.range.len() <= LONGEST_CODE {
            add(next);
        } else if text(*at).ends_with(':') {
            let list =
                pieces[next..].iter().take_while(|p| p.kind == following.kind && p.kind != Kind::Sentence);
            (next..next + list.count().min(6)).for_each(&mut add);
        }
    }
    let rank = |passage: usize| order.iter().position(|p| *p == passage);
    places.sort_by_key(|(passage, at)| (rank(*passage), *at));

    let mut out = Vec::with_capacity(places.len());
    let mut before: Option<Kind> = None;
    for (passage, at) in places {
        let piece = &read[passage][at];
        let joint = match (before, piece.kind) {
            (None, _) => "",
            (Some(Kind::Sentence), Kind::Sentence) => " ",
            (Some(Kind::Item), Kind::Item) | (Some(Kind::Row), Kind::Row) => "\n",
            _ => "\n\n",
        };
        out.push(format!("{joint}{}", tidy(&passages[passage].text[piece.range.clone()], piece.kind)));
        before = Some(piece.kind);
    }
    let citations = chosen.iter().map(|(passage, at, score)| {
        let (source, piece) = (&passages[*passage], &read[*passage][*at]);
        let span = tidy(&source.text[piece.range.clone()], piece.kind);
        Citation {
            document: source.document.clone(),
            heading: source.heading.clone(),
            span,
            score: round(*score),
        }
    });
    Extract { pieces: out, citations: citations.collect(), confidence }
}

/// Whether a sentence points back at the one before it.
fn leans(sentence: &str) -> bool {
    let first = sentence.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    [
        "It",
        "They",
        "This",
        "That",
        "These",
        "Those",
        "Both",
        "Then",
        "Otherwise",
        "Each",
        "He",
        "She",
        "Its",
        "Such",
    ]
    .contains(&first)
}

/// A piece as it is said: running text on one line, code as it stands.
fn tidy(text: &str, kind: Kind) -> String {
    match kind {
        Kind::Code | Kind::Row => text.to_owned(),
        Kind::Sentence | Kind::Item => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn round(score: f64) -> f64 {
    (score * 1000.0).round() / 1000.0
}
