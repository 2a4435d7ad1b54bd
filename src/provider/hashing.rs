//! Vectors for texts with no model: hashed words and pieces of words.
//!
//! Two texts are near each other when they share words, word stems or spelling.
//! There are no learned weights here: "car" and "automobile" are strangers.
use std::sync::Arc;

use crate::knowledge::words;

/// The length of a vector where none is asked for.
pub const DIMENSIONS: usize = 256;
/// The longest vector.
pub const MOST_DIMENSIONS: usize = 4096;
/// A pair of neighbouring words counts less than a word, a piece of a word less still.
const PAIR: f32 = 0.5;
const PIECE: f32 = 0.25;

/// The vector of a text, of length one; all zeros for a text without words.
pub fn embed(text: &str, dimensions: usize) -> Arc<[f32]> {
    let mut vector = vec![0.0_f32; dimensions.clamp(1, MOST_DIMENSIONS)];
    let mut add = |kind: u8, parts: &[&str], weight: f32| {
        let hash =
            parts.iter().fold(fold(SEED, &[kind]), |hash, part| fold(fold(hash, part.as_bytes()), &[0]));
        let hash = mix(hash);
        // The sign lets two features that meet in one place cancel out rather than look alike.
        let sign = if hash >> 63 == 0 { weight } else { -weight };
        let at = (hash % vector.len() as u64) as usize;
        vector[at] += sign;
    };
    let terms = words::terms(text);
    for term in &terms {
        add(1, &[term], 1.0);
        let letters: Vec<char> =
            std::iter::once('^').chain(term.chars()).chain(std::iter::once('$')).collect();
        for piece in letters.windows(3) {
            add(2, &[&piece.iter().collect::<String>()], PIECE);
        }
    }
    for pair in terms.windows(2) {
        add(3, &[&pair[0], &pair[1]], PAIR);
    }
    // Words such as "to be or not to be" have no terms, and still differ from one another.
    if terms.is_empty() {
        words::words(text).for_each(|word| add(4, &[&word.raw], 1.0));
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    }
    vector.into()
}

/// FNV-1a: the same on every machine and in every version, as stored vectors must be.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Spreads the hash over all bits (the finalizer of MurmurHash3).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &str, b: &str) -> f32 {
        embed(a, 256).iter().zip(embed(b, 256).iter()).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn texts_with_shared_words_are_nearer_than_others() {
        let question = "How do I limit requests per user?";
        assert!(near(question, question) > 0.999);
        assert!(
            near(question, "limiting the requests of each user")
                > near(question, "bake sourdough bread at home") + 0.3
        );
        assert!(near("configuration", "configurations") > near("configuration", "breaker"));
    }

    #[test]
    fn vectors_have_length_one_and_never_change() {
        let vector = embed("cache", 8);
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(vector, embed("cache", 8));
        assert!(embed("?!", 8).iter().all(|x| x.abs() < f32::EPSILON));
        assert!(embed("to be", 8).iter().any(|x| x.abs() > 0.0));
    }
}
