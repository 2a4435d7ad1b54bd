//! Where an answer that broke off and its continuation meet.
//!
//! Text that was sent is never sent again. A model that was asked in words has
//! to prove that it goes on from the right place, by repeating the last words
//! that were sent. What it repeats is taken away, letter for letter; without
//! the proof nothing passes. A model whose API continues a text is believed,
//! unless it begins with words that were sent just before: then they are taken
//! away, too, as its server does not know better.
use std::ops::Range;

/// Whole texts up to this length are their own last words, in bytes.
const SHORT: usize = 24;
/// Last words are no longer than this, in bytes.
const LONG: usize = 240;
/// What an API that continues a text says again has to be so long to be taken for a repetition, in
/// characters: from anywhere, and from the very beginning.
const AGAIN: usize = 12;
const ANEW: usize = 6;
/// Repetitions up to this length are looked at for what goes round in circles, in bytes.
const ROUND: usize = 4096;
/// How far back a repetition may begin, other than at the very beginning, in bytes.
const REACH: usize = 16 << 10;

/// How a model was asked to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The text so far was given as the beginning of its own answer, without the white space at its end.
    Prefill,
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
    /// It may be a repetition: the places where that may have begun, and what is held back of it,
    /// the white space before it included.
    Echo { places: Vec<usize>, come: usize, held: String },
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
            Way::Prefill => Phase::Echo { places: Vec::new(), come: 0, held: String::new() },
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
                Phase::Echo { places, come, held } => {
                    let end = text.trim_end().len();
                    match echo(&text[..end], places, come, &piece) {
                        Echo::Perhaps => {
                            held.push_str(&piece);
                            return Ok(String::new());
                        }
                        Echo::Repetition(used) => {
                            self.0 = Phase::Space { from: end };
                            piece.split_off(used)
                        }
                        Echo::News => {
                            let all = std::mem::take(held) + &piece;
                            self.0 = Phase::Space { from: end };
                            all
                        }
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
        match &mut self.0 {
            Phase::Open | Phase::Space { .. } => Ok(String::new()),
            Phase::Echo { held, .. } => {
                let held = std::mem::take(held);
                self.0 = Phase::Space { from: text.trim_end().len() };
                self.push(text, &held)
            }
            Phase::Proof { .. } => Err(NoProof),
        }
    }
}

/// How many bytes two texts begin with alike, whole characters.
fn same(known: &str, new: &str) -> usize {
    known.chars().zip(new.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// What the beginning of a continuation is.
enum Echo {
    /// It is not known yet.
    Perhaps,
    /// So many bytes of the last piece and all before it were sent before.
    Repetition(usize),
    /// What comes is new, all of it.
    News,
}

/// Looks whether a continuation begins with what `text` ends with.
fn echo(text: &str, places: &mut Vec<usize>, come: &mut usize, piece: &str) -> Echo {
    let skipped = if *come == 0 { piece.len() - piece.trim_start().len() } else { 0 };
    let known = text.as_bytes();
    for (at, byte) in piece.bytes().enumerate().skip(skipped) {
        if *come == 0 {
            let first = text.len() - text.trim_start().len();
            let near = first.max(text.len().saturating_sub(REACH))..text.len();
            let anew = std::iter::once(first).filter(|first| !near.contains(first));
            let begins = |place: &usize| known[*place] == byte && begins_word(text, *place);
            places.extend(anew.chain(near.clone()).filter(begins));
        } else {
            places.retain(|place| known[place + *come] == byte);
        }
        *come += 1;
        let whole = places.iter().position(|place| place + *come == known.len());
        if let Some(place) = whole.map(|index| places.swap_remove(index))
            && is_repetition(text, place)
        {
            return Echo::Repetition(at + 1);
        }
        if places.is_empty() {
            return Echo::News;
        }
    }
    Echo::Perhaps
}

/// Whether a word begins there. In scripts without gaps, every letter may begin one.
fn begins_word(text: &str, at: usize) -> bool {
    if !text.is_char_boundary(at) {
        return false;
    }
    let (before, after) = (text[..at].chars().next_back(), text[at..].chars().next());
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    after.is_some_and(|c| !c.is_whitespace()) && !(in_word(before) && in_word(after))
}

/// Whether the end of `text`, from `place` on, is not said twice by intent: it is long enough, comes
/// only once in the text so far, and does not go round in circles itself, as songs and lists do.
fn is_repetition(text: &str, place: usize) -> bool {
    let end = &text[place..];
    let least = if text[..place].trim_start().is_empty() { ANEW } else { AGAIN };
    end.chars().nth(least - 1).is_some() && text.find(end) == Some(place) && !goes_round(end.as_bytes())
}

/// Whether a text is a shorter one, twice or more often, the last time perhaps not to its end.
fn goes_round(text: &[u8]) -> bool {
    if text.len() > ROUND {
        return false;
    }
    // How much of the end of each beginning is its own beginning, too (Knuth, Morris and Pratt).
    let mut borders = vec![0; text.len()];
    let mut border = 0;
    for at in 1..text.len() {
        while border > 0 && text[border] != text[at] {
            border = borders[border - 1];
        }
        border += usize::from(text[border] == text[at]);
        borders[at] = border;
    }
    2 * border >= text.len()
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
        for way in [Way::Prefill, Way::Told] {
            assert_eq!(passed(POEM, way, &anew, 5).as_deref(), Ok(" And more."), "{way:?}");
        }
        for (text, more) in [("ha", "haha"), ("la la la la", " la la la la"), ("Yes,", " Yes, it is")] {
            let way = Way::Prefill;
            assert_eq!(passed(text, way, more, 1).as_deref(), Ok(more), "a text may go on like that");
        }
        for (text, more) in [("The cat", "The cat sat"), ("雨が降っています", "雨が降っています sat")]
        {
            assert_eq!(passed(text, Way::Prefill, more, 1).as_deref(), Ok(" sat"));
        }
    }

    #[test]
    fn last_words_that_come_again_are_not_heard_twice() {
        for (again, is_taken) in [
            ("on the plain.", true),
            ("stays on the plain.", true),
            ("The rain in Spain, they said, stays on the plain.", true),
            ("the plain.", false),
            ("ays on the plain.", false),
            ("on the plain,", false),
        ] {
            for (lead, size) in [("", 1), (" ", 3), ("\n\n", 50)] {
                let continuation = format!("{lead}{again} And more.");
                let expected = if is_taken { " And more." } else { &continuation };
                assert_eq!(
                    passed(POEM, Way::Prefill, &continuation, size).as_deref(),
                    Ok(expected),
                    "{again}"
                );
            }
        }
        // What is said a third time is said by intent.
        let refrain = "Row, row, row your boat. Row, row, row your boat.";
        let more = " Row, row, row your boat.";
        assert_eq!(passed(refrain, Way::Prefill, more, 4).as_deref(), Ok(more));
    }

    #[test]
    fn white_space_at_the_seam_is_not_doubled() {
        assert_eq!(passed("Hello ", Way::Prefill, " world", 1).as_deref(), Ok("world"));
        assert_eq!(passed("Hello ", Way::Prefill, "world", 1).as_deref(), Ok("world"));
        assert_eq!(passed("Hello", Way::Prefill, " world", 1).as_deref(), Ok(" world"));
        assert_eq!(passed("if x:\n  ", Way::Prefill, "\n    y", 2).as_deref(), Ok("  y"));
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
            let prefilled = passed(text, Way::Prefill, &whole[from(end)..], size);
            // Words that were said just before, and come again at once, are taken for a repetition.
            let news = whole[end..].trim_start();
            let again = |at: &usize| text.is_char_boundary(*at) && news.starts_with(&text[*at..end]);
            if !(0..end).filter(again).any(|at| is_repetition(&text[..end], at)) {
                prop_assert_eq!(prefilled.as_deref(), Ok(rest));
            }
        }

    }

    proptest! {
        // Each case is all of its cuts.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Wherever an answer of ordinary words breaks off, a server that goes on with it makes it
        /// whole, and so does one that says the last words again, or all of it.
        #[test]
        fn every_cut_of_ordinary_words(
            words in prop::collection::vec("[a-z]{2,9}", 3..40),
            back in 0..40_usize,
            size in 1..9_usize,
        ) {
            // Numbered, no words come twice.
            let whole: String = words.iter().enumerate().map(|(n, word)| format!("{n}{word} ")).collect();
            for cut in 0..=whole.len() {
                let (text, rest) = whole.split_at(cut);
                let end = text.trim_end().len();
                let on = passed(text, Way::Prefill, &whole[end..], size);
                prop_assert_eq!(on.as_deref(), Ok(rest), "goes on after {:?}", text);
                let starts: Vec<usize> = (0..end).filter(|at| *at == 0 || whole[..*at].ends_with(' ')).collect();
                let Some(from) = starts.iter().rev().nth(back).or(starts.first()) else { continue };
                let least = if *from == 0 { ANEW } else { AGAIN };
                if end - from >= least {
                    let again = passed(text, Way::Prefill, &whole[*from..], size);
                    prop_assert_eq!(again.as_deref(), Ok(rest), "{:?} again", &text[*from..]);
                }
            }
        }

    }

    proptest! {
        /// No continuation makes it fall over.
        #[test]
        fn anything_may_come(text in ".{0,80}", continuation in ".{0,80}", size in 1..9_usize) {
            for way in [Way::Prefill, Way::Told] {
                let _ = passed(&text, way, &continuation, size);
            }
        }
    }
}
