//! Finds what a text hides: the same words encoded, spelled backwards, shifted, torn apart or dressed up.
//!
//! A [`View`] is another reading of the text, or of that part of it in which
//! something is hidden. Whatever turns up is folded and looked at again, so that
//! layers come off one by one: at most [`DEEPEST`], at most [`MOST`] readings.
//! Making and judging them is paid for in [`work`], so that no text, whatever it
//! mixes, costs more than so many times its length.
mod codes;
mod finds;
mod hidden;
mod leet;
mod torn;
mod typos;
mod words;

use super::{
    fold,
    lexicon::Lexicon,
    tokens::{self, Token},
};
use finds::Finds;

/// The most layers.
pub(super) const DEEPEST: usize = 4;
/// The most readings of one text.
pub(super) const MOST: usize = 24;
/// What it costs to judge a reading, by its length: as much as making four of them.
const JUDGING: usize = 4;

/// What may be spent on the readings of a text of so many bytes besides the text itself. One is at most a hundred
/// instructions: a byte of a reading is made for 1 to 3, and judged for [`JUDGING`].
pub(super) const fn work(bytes: usize) -> usize {
    (16 << 10) + 28 * bytes
}

/// How much of what is around something hidden is read with it, in bytes: a sentence or two.
const AROUND: usize = 240;

/// A reading of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Folded.
    pub(super) text: String,
    /// How it was found, outermost layer first; empty for the text itself.
    pub(super) layers: Vec<&'static str>,
}

/// Tells all readings of a text, the text itself first, each with its tokens. Gives back the work that it took.
pub(super) fn each_view(text: &str, tokens: &mut Vec<Token>, mut told: impl FnMut(&View, &[Token])) -> usize {
    let lexicon = Lexicon::get();
    let all = work(text.len());
    let mut finds = Finds::new(all);
    let folded = fold::fold(text);
    let mut layers = Vec::new();
    if folded.hidden > 1 || folded.alike > 2 {
        layers.push(if folded.hidden > 1 { "hidden" } else { "confusables" });
    }
    let first = look(text, folded, layers, lexicon, tokens, &mut finds);
    told(&first, tokens);
    if finds.is_empty() {
        return all - finds.left();
    }
    let mut views = vec![first];
    while let Some((found, layers)) = finds.next() {
        if views.len() >= MOST {
            break;
        }
        let folded = fold::fold(&found);
        if views.iter().any(|view| view.text == folded.text) {
            continue;
        }
        let view = look(&found, folded, layers, lexicon, tokens, &mut finds);
        told(&view, tokens);
        views.push(view);
    }
    all - finds.left()
}

/// Cuts a text into tokens, and looks for what is hidden in it.
fn look(
    text: &str,
    folded: fold::Folded,
    layers: Vec<&'static str>,
    lexicon: &Lexicon,
    tokens: &mut Vec<Token>,
    finds: &mut Finds,
) -> View {
    if !folded.smuggled.is_empty() {
        finds.within(if layers == ["hidden"] { &[] } else { &layers });
        finds.tell(folded.smuggled, "hidden");
    }
    finds.within(&layers);
    // Codes are sensitive to case: they are looked for in the text as it is, but without its dress.
    if folded.hidden > 0 || folded.alike > 0 {
        codes::find(&fold::undressed(text), finds);
    } else {
        codes::find(text, finds);
    }
    let quotations = tokens::cut_into(&folded.text, lexicon, tokens);
    words::find(&folded.text, tokens, quotations, lexicon, finds);
    View { text: folded.text, layers }
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
fn telling(tokens: &[Token]) -> usize {
    tokens.iter().filter(|token| token.classes.0 != 0).count()
}

/// The part of a text from one byte to another, with [`AROUND`] bytes on each side: what is around was read before,
/// and need not be read again.
fn around(text: &str, range: std::ops::Range<usize>) -> &str {
    let mut begins = range.start.saturating_sub(AROUND);
    let mut ends = (range.end + AROUND).min(text.len());
    if begins < AROUND / 2 {
        begins = 0;
    }
    if ends + AROUND / 2 > text.len() {
        ends = text.len();
    }
    while !text.is_char_boundary(begins) {
        begins -= 1;
    }
    while !text.is_char_boundary(ends) {
        ends += 1;
    }
    &text[begins..ends]
}
