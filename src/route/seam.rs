//! Where an answer that broke off and its continuation meet.
//!
//! Text that was sent is never sent again. A model whose API continues a text
//! is believed; one that was asked in words has to prove that it goes on from
//! the right place, by repeating the last words that were sent. What it
//! repeats is taken away, letter for letter; without the proof nothing passes.
use std::ops::Range;

/// Whole texts up to this length are their own last words, in bytes.
const SHORT: usize = 24;
/// Last words are no longer than this, in bytes.
const LONG: usize = 240;
/// How far back a repetition may begin, other than at the very beginning, in bytes.
const REACH: usize = 16 << 10;

/// How a model was asked to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The text so far was given as the beginning of its own answer.
    Prefill {
        /// White space at the end of the text had to be left out.
        trimmed: bool,
    },
    /// It was told to, in words, and to begin with the [last words](last_words).
    Told,
}

/// A continuation that does not prove that it follows on what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoProof;

/// Reads the beginning of a continuation.
#[derive(Debug)]
pub struct Seam(Phase);

#[derive(Debug)]
enum Phase {
    /// The last words are awaited: the places where the repetition may have
    /// begun, and how much of it has come.
    Proof { places: Vec<usize>, come: usize },
    /// So many bytes from the very beginning have come again.
    Echo { come: usize, end: usize },
    /// White space from here to the text's end may come again.
    Space { from: usize },
    /// The text goes on.
    Open,
}

/// The last words of a text: enough of them that they occur in it but once,
/// where that is possible. Empty where the text says nothing.
pub fn last_words(text: &str) -> Range<usize> {
    let end = text.trim_end().len();
    let text = &text[..end];
    let lead = end - text.trim_start().len();
    if end - lead <= SHORT {
        return lead..end;
    }
    let (nearest, farthest) = (end - SHORT, lead.max(end.saturating_sub(LONG)));
    let begins = |at: usize| {
        text.is_char_boundary(at)
            && text[at..].starts_with(|c: char| !c.is_whitespace())
            && (at == lead || text[..at].ends_with(char::is_whitespace))
    };
    let once = |at: usize| text.find(&text[at..]) == Some(at);
    let mut longest = None;
    for at in (farthest..=nearest).rev().filter(|at| begins(*at)) {
        if once(at) {
            return at..end;
        }
        longest = Some(at);
    }
    // Words without gaps, as in Chinese, begin anywhere.
    let inside =
        |at: &usize| text.is_char_boundary(*at) && text[*at..].starts_with(|c: char| !c.is_whitespace());
    let somewhere = || (farthest..end).find(inside).unwrap_or(lead);
    longest.unwrap_or_else(somewhere)..end
}

impl Seam {
    /// A seam after `text`.
    pub fn new(text: &str, way: Way) -> Self {
        let end = text.trim_end().len();
        Self(match way {
            // Nothing was said: all that comes is new.
            _ if end == 0 => Phase::Space { from: 0 },
            Way::Told => Phase::Proof { places: Vec::new(), come: 0 },
            Way::Prefill { trimmed } => Phase::Echo { come: 0, end: if trimmed { end } else { text.len() } },
        })
    }

    /// Whether what comes now is new.
    pub fn is_open(&self) -> bool {
        matches!(self.0, Phase::Open | Phase::Space { .. })
    }

    /// Reads a piece of the continuation of `text`, which is always the same,
    /// and gives what of it is new.
    pub fn push(&mut self, text: &str, piece: &str) -> Result<String, NoProof> {
        let mut piece = piece.to_owned();
        loop {
            piece = match &mut self.0 {
                _ if piece.is_empty() => return Ok(piece),
                Phase::Open => return Ok(piece),
                Phase::Space { from } => {
                    let known = &text[*from..];
                    let same = same(known, &piece);
                    *from += same;
                    if same < piece.len() || *from == text.len() {
                        self.0 = Phase::Open;
                    }
                    piece.split_off(same)
                }
                Phase::Echo { come, end } => {
                    let (known, end) = (&text[*come..*end], *end);
                    let same = same(known, &piece);
                    *come += same;
                    if *come == end && end > SHORT {
                        // It began anew, as some servers do that do not know better.
                        self.0 = Phase::Space { from: end };
                        piece.split_off(same)
                    } else if same < piece.len() || *come == end {
                        let held = text[..*come].to_owned() + &piece[same..];
                        self.0 = Phase::Space { from: end };
                        held
                    } else {
                        return Ok(String::new());
                    }
                }
                Phase::Proof { places, come } => {
                    let end = text.trim_end().len();
                    match prove(&text[..end], places, come, &piece)? {
                        Some(used) => {
                            self.0 = Phase::Space { from: end };
                            piece.split_off(used)
                        }
                        None => return Ok(String::new()),
                    }
                }
            };
        }
    }

    /// The continuation has ended: gives what was held back of it.
    pub fn end(&mut self, text: &str) -> Result<String, NoProof> {
        match self.0 {
            Phase::Open | Phase::Space { .. } => Ok(String::new()),
            Phase::Echo { come, end } => {
                self.0 = Phase::Space { from: end };
                self.push(text, &text[..come])
            }
            Phase::Proof { .. } => Err(NoProof),
        }
    }
}

/// How many bytes two texts begin with alike, whole characters.
fn same(known: &str, new: &str) -> usize {
    known.chars().zip(new.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// Follows a repetition of the end of `text`. Gives how much of `piece`
/// belongs to it when it is complete.
fn prove(
    text: &str,
    places: &mut Vec<usize>,
    come: &mut usize,
    piece: &str,
) -> Result<Option<usize>, NoProof> {
    // The words themselves begin with none.
    let skipped = if *come == 0 { piece.len() - piece.trim_start().len() } else { 0 };
    let (known, new) = (text.as_bytes(), piece.as_bytes());
    for (at, byte) in new.iter().enumerate().skip(skipped) {
        if *come == 0 {
            // All of it once more, or at least the last words and not much before them.
            let (first, last) = (text.len() - text.trim_start().len(), last_words(text).start);
            let near = last.saturating_sub(REACH)..=last;
            let begins = |place: &usize| known[*place] == *byte;
            places.extend(std::iter::once(first).filter(|first| !near.contains(first)).filter(begins));
            places.extend(near.filter(begins));
        } else {
            places.retain(|place| known[place + *come] == *byte);
        }
        *come += 1;
        if places.iter().any(|place| place + *come == known.len()) {
            return Ok(Some(at + 1));
        }
        if places.is_empty() {
            return Err(NoProof);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What passes of a continuation that comes in pieces of so many characters.
    fn passed(text: &str, way: Way, continuation: &str, size: usize) -> Result<String, NoProof> {
        let mut seam = Seam::new(text, way);
        let letters: Vec<char> = continuation.chars().collect();
        let mut out = String::new();
        for piece in letters.chunks(size.max(1)) {
            out += &seam.push(text, &piece.iter().collect::<String>())?;
        }
        Ok(out + &seam.end(text)?)
    }

    const PREFILL: Way = Way::Prefill { trimmed: false };
    const TRIMMED: Way = Way::Prefill { trimmed: true };
    const POEM: &str =
        "The rain in Spain stays mainly in the plain.\n\nThe rain in Spain, they said, stays on the plain.";

    #[test]
    fn last_words_are_found_once() {
        assert_eq!(&POEM[last_words(POEM)], "said, stays on the plain.");
        assert_eq!(&"  Short. "[last_words("  Short. ")], "Short.");
        assert_eq!(last_words(" \n"), 0..0);
        let twice = "to be or not to be that is it; to be or not to be that is it";
        assert_eq!(&twice[last_words(twice)], "it; to be or not to be that is it");
        let chinese = "雨".repeat(40);
        assert!(last_words(&chinese).len() >= SHORT);
    }

    #[test]
    fn what_is_repeated_is_taken_away_however_much_it_is() {
        for from in [0, POEM.find("stays").unwrap(), POEM.find("they said").unwrap(), last_words(POEM).start]
        {
            for lead in ["", " ", "\n\n"] {
                let continuation = format!("{lead}{} And more.", &POEM[from..]);
                for size in 1..40 {
                    assert_eq!(passed(POEM, Way::Told, &continuation, size).as_deref(), Ok(" And more."));
                }
            }
        }
    }

    #[test]
    fn without_proof_nothing_passes() {
        for continuation in ["", " And more.", "plain. And more.", "Sorry!", "said, stays on the plain"] {
            assert_eq!(passed(POEM, Way::Told, continuation, 3), Err(NoProof), "{continuation}");
        }
    }

    #[test]
    fn an_answer_that_begins_anew_is_not_heard_twice() {
        let anew = format!("{POEM} And more.");
        for way in [PREFILL, TRIMMED, Way::Told] {
            assert_eq!(passed(POEM, way, &anew, 5).as_deref(), Ok(" And more."), "{way:?}");
        }
        assert_eq!(
            passed("ha", PREFILL, "haha", 1).as_deref(),
            Ok("haha"),
            "a short text may go on like that"
        );
    }

    #[test]
    fn white_space_at_the_seam_is_not_doubled() {
        assert_eq!(passed("Hello ", TRIMMED, " world", 1).as_deref(), Ok("world"));
        assert_eq!(passed("Hello ", TRIMMED, "world", 1).as_deref(), Ok("world"));
        assert_eq!(passed("Hello ", PREFILL, " world", 1).as_deref(), Ok(" world"));
        assert_eq!(passed("a\n\n", Way::Told, "a\n\n b", 2).as_deref(), Ok(" b"));
        assert_eq!(passed(" \n", Way::Told, " \n b", 2).as_deref(), Ok(" b"));
    }

    proptest! {
        /// Whatever the answer is and wherever it breaks off, a continuation by
        /// the rules makes it whole: nothing is lost and nothing is doubled.
        #[test]
        fn the_whole_text_once(
            words in prop::collection::vec("[ab]{1,2}|é|雨|\n|  |the|plain", 1..60),
            gap in prop::sample::select(vec!["", " "]),
            at in 0.0..1.0_f64,
            size in 1..9_usize,
        ) {
            let whole = words.join(gap);
            let mut cut = (whole.len() as f64 * at) as usize;
            while !whole.is_char_boundary(cut) {
                cut -= 1;
            }
            let (text, rest) = whole.split_at(cut);
            let end = text.trim_end().len();
            // A text that says nothing is no beginning: the model answers from the start.
            let from = |start: usize| if end == 0 { 0 } else { start };
            let told = passed(text, Way::Told, &whole[from(last_words(text).start)..], size);
            prop_assert_eq!(told.as_deref(), Ok(rest));
            let prefilled = passed(text, TRIMMED, &whole[from(end)..], size);
            // An answer that says all again from its beginning is taken for one that began anew.
            if end <= SHORT || !whole[end..].starts_with(&text[..end]) {
                prop_assert_eq!(prefilled.as_deref(), Ok(rest));
            }
        }

        /// No continuation makes it fall over.
        #[test]
        fn anything_may_come(text in ".{0,80}", continuation in ".{0,80}", size in 1..9_usize) {
            for way in [PREFILL, TRIMMED, Way::Told] {
                let _ = passed(&text, way, &continuation, size);
            }
        }
    }
}
