//! An inverted index with BM25: which passages speak of a question's terms.
//!
//! Immutable once built and flat in memory: a table of terms and one list of postings.
use std::{cmp::Ordering, collections::HashMap};

/// How soon repeats of a term stop counting.
const K1: f64 = 1.2;
/// How far long passages are held back.
const B: f64 = 0.75;

/// The index of a set of passages, numbered from zero.
#[derive(Debug, Default)]
pub struct Index {
    terms: HashMap<Box<str>, Range>,
    postings: Vec<Posting>,
    lengths: Vec<f32>,
    mean: f64,
}

/// Where a term's postings are.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    count: u32,
}

/// A passage that has a term, and how much of it.
#[derive(Clone, Copy, Debug)]
struct Posting {
    passage: u32,
    weight: f32,
}

impl Index {
    /// Indexes passages, each given as its terms with their weights.
    pub fn build(passages: impl Iterator<Item = Vec<(String, f32)>>) -> Self {
        let mut lists: HashMap<String, Vec<Posting>> = HashMap::new();
        let mut lengths = Vec::new();
        for (passage, terms) in passages.enumerate() {
            let passage = passage as u32;
            let mut length = 0.0;
            for (term, weight) in terms {
                length += weight;
                let list = lists.entry(term).or_default();
                match list.last_mut() {
                    Some(same) if same.passage == passage => same.weight += weight,
                    _ => list.push(Posting { passage, weight }),
                }
            }
            lengths.push(length);
        }
        let mut index = Self { terms: HashMap::with_capacity(lists.len()), ..Self::default() };
        index.postings.reserve_exact(lists.values().map(Vec::len).sum());
        for (term, list) in lists {
            let range = Range { start: index.postings.len() as u32, count: list.len() as u32 };
            index.postings.extend(list);
            index.terms.insert(term.into_boxed_str(), range);
        }
        index.mean =
            (lengths.iter().map(|l| f64::from(*l)).sum::<f64>() / lengths.len().max(1) as f64).max(1.0);
        index.lengths = lengths;
        index
    }

    /// The number of passages.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is no passage.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Whether any passage has the term.
    pub fn knows(&self, term: &str) -> bool {
        self.terms.contains_key(term)
    }

    /// How rare a term is. One that no passage has is the rarest of all.
    pub fn idf(&self, term: &str) -> f64 {
        let with = self.terms.get(term).map_or(0.0, |range| f64::from(range.count));
        ((self.len() as f64 - with + 0.5) / (with + 0.5)).ln_1p()
    }

    /// The `count` best passages for the terms, best first.
    pub fn search(&self, terms: &[String], count: usize) -> Vec<(usize, f64)> {
        let mut scores: HashMap<u32, f64> = HashMap::new();
        for term in terms {
            let Some(range) = self.terms.get(term.as_str()) else { continue };
            let idf = self.idf(term);
            for posting in &self.postings[range.start as usize..][..range.count as usize] {
                let weight = f64::from(posting.weight);
                let length = f64::from(self.lengths[posting.passage as usize]) / self.mean;
                let part = weight * (K1 + 1.0) / (weight + K1 * (1.0 - B + B * length));
                *scores.entry(posting.passage).or_default() += idf * part;
            }
        }
        let mut best: Vec<_> = scores.into_iter().map(|(passage, score)| (passage as usize, score)).collect();
        // Equal scores stand in the documents' order, so that an answer can be repeated.
        let order = |a: &(usize, f64), b: &(usize, f64)| {
            b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
        };
        if best.len() > count && count > 0 {
            best.select_nth_unstable_by(count - 1, order);
        }
        best.truncate(count);
        best.sort_unstable_by(order);
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(passages: &[&str]) -> Index {
        Index::build(passages.iter().map(|p| p.split(' ').map(|t| (t.to_owned(), 1.0)).collect()))
    }

    #[test]
    fn the_rarer_term_decides() {
        let index = index(&["a b", "a a a a", "a c", "a d"]);
        let found = index.search(&["a".into(), "c".into()], 2);
        assert_eq!(found[0].0, 2);
        assert_eq!(found.len(), 2);
        assert!(index.idf("z") > index.idf("c") && index.idf("c") > index.idf("a"));
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert!(index(&[]).search(&["a".into()], 3).is_empty());
        assert!(index(&["a"]).search(&["b".into()], 3).is_empty());
        assert!(index(&["a"]).search(&["a".into()], 0).is_empty());
    }
}
