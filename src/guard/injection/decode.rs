//! Finds what a text hides: the same words encoded, spelled backwards, shifted, torn apart or dressed up.
//!
//! A [`View`] is another reading of the text. Whatever turns up is folded and
//! looked at again, so that layers come off one by one: at most [`DEEPEST`],
//! at most [`MOST`] readings, at most [`LARGEST`] bytes of them.
mod codes;
mod hidden;
mod leet;
mod torn;
mod words;

use super::{fold, lexicon::Lexicon, tokens};

/// The most layers.
pub(super) const DEEPEST: usize = 4;
/// The most readings of one text.
const MOST: usize = 24;
/// The most bytes of all readings together, besides the text itself.
const LARGEST: usize = 256 << 10;

/// A reading of a text.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Folded.
    pub(super) text: String,
    /// How it was found, outermost layer first; empty for the text itself.
    pub(super) layers: Vec<&'static str>,
}

/// All readings of a text, the text itself first.
pub(super) fn views(text: &str) -> Vec<View> {
    let mut views: Vec<View> = Vec::with_capacity(1);
    let mut left = LARGEST;
    let folded = fold::fold(text);
    let mut queue = std::collections::VecDeque::new();
    let mut layers = Vec::new();
    if folded.hidden > 1 || folded.alike > 2 {
        layers.push(if folded.hidden > 1 { "hidden" } else { "confusables" });
    }
    if !folded.smuggled.is_empty() {
        queue.push_back((folded.smuggled.clone(), vec!["hidden"]));
    }
    let first = View { text: folded.text, layers: layers.clone() };
    let mut add = |found, layer| {
        if queue.len() < MOST {
            queue.push_back((found, layers.iter().copied().chain([layer]).collect()));
        }
    };
    // Codes are sensitive to case: they are looked for in the text as it is.
    codes::find(text, &mut add);
    if folded.hidden > 0 || folded.alike > 0 {
        codes::find(&fold::undressed(text), &mut add);
    }
    words::find(&first.text, Lexicon::get(), &mut add);
    views.push(first);
    while let Some((found, layers)) = queue.pop_front() {
        if views.len() >= MOST || found.len() > left || layers.len() > DEEPEST {
            continue;
        }
        left -= found.len();
        let folded = fold::fold(&found);
        if views.iter().any(|view| view.text == folded.text) {
            continue;
        }
        let mut deeper = |more: String, layer| {
            if queue.len() < MOST {
                let mut all = layers.clone();
                all.push(layer);
                queue.push_back((more, all));
            }
        };
        codes::find(&found, &mut deeper);
        if folded.hidden > 0 || folded.alike > 0 {
            codes::find(&fold::undressed(&found), &mut deeper);
        }
        words::find(&folded.text, Lexicon::get(), &mut deeper);
        if !folded.smuggled.is_empty() {
            deeper(folded.smuggled.clone(), "hidden");
        }
        views.push(View { text: folded.text, layers });
    }
    views
}

/// Whether bytes are text that somebody could have written, not noise.
fn readable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut letters = 0;
    let mut others = 0;
    for letter in text.chars() {
        match letter {
            letter if letter.is_alphabetic() || letter == ' ' => letters += 1,
            '\n' | '\r' | '\t' => {}
            letter if letter.is_control() => return None,
            letter if fold::is_hidden(letter) => {}
            _ => others += 1,
        }
    }
    (letters >= 6 && letters > others * 2).then_some(text)
}

/// The same, or signs that are no text but may be another code: nothing that is only noise is so long and has no
/// byte beyond ASCII.
fn sensible(bytes: &[u8]) -> Option<&str> {
    let sign = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    if bytes.len() >= 12 && bytes.iter().all(sign) {
        return std::str::from_utf8(bytes).ok();
    }
    readable(bytes)
}

/// How many words of a text tell of an attack.
fn telling(text: &str, lexicon: &Lexicon) -> usize {
    tokens::cut(text, lexicon).iter().filter(|token| token.classes.0 != 0).count()
}
