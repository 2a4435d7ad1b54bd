//! An embedded classifier for `/predict`: is a text glad or sorry?
//!
//! It weighs words by the VADER lexicon (Hutto and Gilbert, 2014), made for
//! English of everyday life. It is quick and open to inspection, not clever.
use std::sync::OnceLock;

use futures_util::{FutureExt, future::BoxFuture};
use vader_sentimental::SentimentIntensityAnalyzer;

use super::{Provider, extractive::tokens, foreign};
use crate::{
    call::{Call, Target},
    chat::{Completion, Purpose, Usage},
    error::{Error, Result},
    knowledge::words,
    reply::{Head, Reply},
};

/// The labels, as they are answered.
pub const LABELS: [&str; 2] = ["NEGATIVE", "POSITIVE"];
/// Further words are not read.
const MOST_WORDS: usize = 512;
/// Nor are further bytes: a word may be endless.
const MOST_BYTES: usize = 16 << 10;

/// The embedded classifier.
#[derive(Debug)]
pub struct Sentiment {
    name: String,
}

/// A label and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Judgement {
    /// One of [`LABELS`].
    pub label: &'static str,
    /// From 0.5, a guess, to 1.
    pub confidence: f64,
}

impl Sentiment {
    /// The provider of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

impl Provider for Sentiment {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, call: &'a Call, target: &'a Target) -> BoxFuture<'a, Result<Reply>> {
        async move {
            if let Purpose::Embed { .. } = call.chat.purpose {
                let what = "it judges texts and makes no embeddings".into();
                return Err(Error::Unsupported { model: call.chat.model.clone(), what });
            }
            foreign::text_alone(&call.chat)?;
            let question = call.chat.question();
            let work = move || (judge(&question), tokens(&question));
            // The first call reads the lexicon; a long text takes about a millisecond.
            let (judgement, input) = tokio::task::spawn_blocking(work).await.map_err(Error::internal)?;
            let text = serde_json::to_string(&judgement).map_err(Error::internal)?;
            let usage = Usage { input, output: tokens(&text), estimated: true, ..Usage::default() };
            let head = Head { model: target.model.clone(), ..Head::default() };
            Ok(Reply::whole(head, Completion::of_text(text, Some(usage))))
        }
        .boxed()
    }
}

/// Judges the beginning of a text.
pub fn judge(text: &str) -> Judgement {
    static ANALYZER: OnceLock<SentimentIntensityAnalyzer<'static>> = OnceLock::new();
    let analyzer = ANALYZER.get_or_init(SentimentIntensityAnalyzer::new);
    let compound = analyzer.polarity_scores(beginning(text)).compound;
    let compound = if compound.is_finite() { compound.clamp(-1.0, 1.0) } else { 0.0 };
    let label = LABELS[usize::from(compound >= 0.0)];
    Judgement { label, confidence: (500.0 + compound.abs() * 500.0).round() / 1000.0 }
}

/// The first words of a text.
fn beginning(text: &str) -> &str {
    let text = words::beginning(text, MOST_BYTES);
    let mut inside = false;
    let mut words = 0;
    for (at, c) in text.char_indices() {
        if !inside && !c.is_whitespace() {
            words += 1;
            if words > MOST_WORDS {
                return &text[..at];
            }
        }
        inside = !c.is_whitespace();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glad_and_sorry_are_told_apart() {
        for glad in [
            "I love this product, it is wonderful!",
            "Great service and very friendly people",
            "Not bad at all",
        ] {
            assert_eq!(judge(glad).label, "POSITIVE", "{glad}");
        }
        for sorry in
            ["This is terrible and I hate it.", "The worst purchase I ever made, awful", "I do not like it"]
        {
            assert_eq!(judge(sorry).label, "NEGATIVE", "{sorry}");
        }
        assert!(judge("I love it!").confidence > 0.7);
        assert!((judge("The table has four legs").confidence - 0.5).abs() < 0.01);
    }

    #[test]
    fn long_and_odd_texts_are_cut_not_refused() {
        let text = "good ".repeat(512) + &"terrible ".repeat(10_000);
        assert_eq!(judge(&text).label, "POSITIVE");
        assert_eq!(beginning(&text).split_whitespace().count(), 512);
        for odd in
            ["", " ", "\u{0}", "é".repeat(20_000).as_str(), "😀😀", "!!!???", "kind of", "kind", "least"]
        {
            assert!((0.0..=1.0).contains(&judge(odd).confidence));
        }
    }
}
