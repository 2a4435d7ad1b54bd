//! Anchors: where the chain ended at a moment, told to places that whoever
//! changes the records does not reach. A tail that is cut off leaves a sound
//! chain; only an anchor tells that there was more.
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{chain::hex, journal::Head};

/// Where a chain ended at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// When, in RFC 3339.
    pub at: String,
    /// The chain.
    pub chain: Uuid,
    /// Its last record.
    pub seq: u64,
    /// That record's link, in hexadecimal digits.
    pub hash: String,
}

/// Hears of anchors. It does not wait.
pub type Anchored = Arc<dyn Fn(Anchor) + Send + Sync>;

impl Anchor {
    /// Where a chain ends now.
    pub(super) fn new(chain: Uuid, head: Head) -> Self {
        let at = jiff::Timestamp::now().to_string();
        Self { at, chain, seq: head.seq, hash: hex(&head.hash) }
    }

    /// The anchors in lines of JSON: of a file of them, or of a log, whose other lines are passed over.
    pub fn all(text: &str) -> impl Iterator<Item = Self> {
        /// In a log the moment has another name.
        #[derive(Deserialize)]
        struct Line {
            #[serde(alias = "timestamp", default)]
            at: String,
            chain: Uuid,
            seq: u64,
            hash: String,
        }
        text.lines().filter_map(|line| {
            let Line { at, chain, seq, hash } = serde_json::from_str(line).ok()?;
            (hash.len() == 64).then_some(Self { at, chain, seq, hash })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_found_among_other_lines() {
        let anchor = Anchor::new(Uuid::nil(), Head { seq: 7, hash: [9; 32] });
        let mut logged = serde_json::json!({"timestamp": "t", "level": "INFO", "message": "audit anchor"});
        for (name, value) in serde_json::to_value(&anchor).unwrap().as_object().unwrap() {
            if name != "at" {
                logged[name] = value.clone();
            }
        }
        let text = format!("{}\nnonsense\n{{}}\n{logged}\n", serde_json::to_string(&anchor).unwrap());
        let found: Vec<_> = Anchor::all(&text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], anchor);
        assert_eq!((found[1].seq, &found[1].hash), (7, &anchor.hash));
    }
}
