//! Words torn apart, letters alone, words without spaces, pieces between quotation marks.
use super::{
    super::{
        lexicon::Lexicon,
        tokens::{cut, hash, quotations},
    },
    finds::Finds,
    hidden::HIDDEN,
    telling,
    words::{LONG, each_word},
};

/// Rows of single letters put together: `i g n o r e`. Wider gaps are spaces; where there are none, words are cut apart.
pub(super) fn gathered(text: &str, least: usize) -> Option<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    let mut at = 0;
    while at < letters.len() {
        let alone = |at: usize| {
            letters[at].is_alphanumeric()
                && (at == 0 || !letters[at - 1].is_alphanumeric())
                && !letters.get(at + 1).is_some_and(|next| next.is_alphanumeric())
        };
        if !alone(at) {
            out.push(letters[at]);
            at += 1;
            continue;
        }
        let begins = at;
        let (mut row, mut many) = (Vec::new(), 0);
        while at < letters.len() && alone(at) {
            many += 1;
            let gap = letters[at + 1..].iter().take_while(|c| !c.is_alphanumeric()).count();
            let goes_on = (1..=9).contains(&gap) && at + 1 + gap < letters.len() && alone(at + 1 + gap);
            row.push((letters[at], if goes_on { &letters[at + 1..=at + gap] } else { &[] }));
            at += 1;
            if !goes_on {
                break;
            }
            at += gap;
        }
        if many >= least {
            found = true;
            let joined = put_together(&row);
            match joined.trim_end().contains(' ') {
                true => out.push_str(&joined),
                false => out.push_str(&segmented(joined.trim_end()).0),
            }
            out.push(' ');
        } else {
            out.extend(&letters[begins..at]);
        }
    }
    found.then_some(out)
}

/// So many gaps of a row are told apart.
const MOST_GAPS: usize = 16;

/// A row of single letters, each with what stands before the next. The commonest gap is the one between letters;
/// after a wider one, or a space instead of a sign, another word begins.
fn put_together(row: &[(char, &[char])]) -> String {
    let mut gaps: Vec<(usize, &[char])> = Vec::new();
    for (_, gap) in row.iter().filter(|(_, gap)| !gap.is_empty()) {
        match gaps.iter().position(|(_, known)| known == gap) {
            Some(at) => gaps[at].0 += 1,
            None if gaps.len() < MOST_GAPS => gaps.push((1, *gap)),
            None => {}
        }
    }
    let within =
        gaps.iter().max_by_key(|(many, gap)| (*many, 99 - gap.len())).map_or(&[][..], |(_, gap)| *gap);
    let mut out = String::with_capacity(row.len() + 8);
    for (letter, gap) in row {
        out.push(*letter);
        if *gap == within || gap.is_empty() {
            continue;
        }
        // Signs that say something: not those that only keep letters apart.
        let says = |c: char| {
            matches!(c, '.' | ',' | '?' | '!' | ':' | ';' | '@' | '\'' | '"') && !within.contains(&c)
        };
        let before = out.len();
        out.extend(gap.iter().filter(|c| says(**c)));
        let signs = out.len() - before;
        let wide = gap.len() - signs > within.len() * if signs > 0 { 2 } else { 1 };
        if wide || gap.len() == within.len() && gap.contains(&' ') {
            out.push(' ');
        }
    }
    out
}

/// Pieces tied by signs put together: `ig-no-re`.
pub(super) fn untorn(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let tie = |c: char| matches!(c, '-' | '.' | '_' | '*' | '~' | '^' | '/');
    let within = |at: usize| {
        at > 0
            && letters[at - 1].is_alphabetic()
            && letters.get(at + 1).is_some_and(|next| next.is_alphabetic())
    };
    let kept = letters.iter().enumerate().filter(|(at, c)| !(tie(**c) && within(*at)));
    let joined: String = kept.map(|(_, c)| *c).collect();
    apart(&joined).unwrap_or(joined)
}

/// Long words that are several, cut apart: `ignoreallpreviousinstructions`. `None` where no telling word comes out.
pub(super) fn apart(text: &str) -> Option<String> {
    let mut found = false;
    let out = each_word(text, |word, out| {
        let word = std::str::from_utf8(word).unwrap_or_default();
        if word.len() < LONG {
            return out.push_str(word);
        }
        let (cut, telling) = segmented(word);
        found |= telling;
        out.push_str(&cut);
    });
    found.then_some(out)
}

/// The longest row of letters that is cut apart.
const LONGEST_ROW: usize = 600;

/// Cuts a row of letters into known words, as few as possible; what is no word stays together. And whether one of
/// them, of several, is a telling one.
fn segmented(row: &str) -> (String, bool) {
    let bytes = row.as_bytes();
    if !bytes.iter().all(u8::is_ascii_lowercase) || bytes.len() > LONGEST_ROW {
        return (row.to_owned(), false);
    }
    let hidden = &*HIDDEN;
    // The cheapest way to each place: an unknown letter costs more than a word.
    let mut cost: Vec<(u32, usize)> = vec![(u32::MAX, 0); bytes.len() + 1];
    cost[0] = (0, 0);
    for begin in 0..bytes.len() {
        let so_far = cost[begin].0;
        let mut reach = |length: usize, price: u32| {
            // Of two ways that cost the same, the one with the longer word first.
            if let Some(end) = cost.get_mut(begin + length).filter(|end| so_far + price <= end.0) {
                *end = (so_far + price, begin);
            }
        };
        reach(1, 5);
        let mut lengths = hidden.lengths(&bytes[begin..]);
        while lengths != 0 {
            let length = lengths.trailing_zeros() as usize;
            lengths &= lengths - 1;
            let word = bytes.get(begin..begin + length);
            if word.is_some_and(|word| hidden.whole.contains(hash(word))) {
                reach(length, if length == 2 { 4 } else { 3 });
            }
        }
    }
    let mut cuts = vec![bytes.len()];
    while let Some(end) = cuts.last().copied().filter(|end| *end > 0) {
        cuts.push(cost[end].1);
    }
    cuts.reverse();
    let mut out = String::with_capacity(row.len() * 2);
    let (mut unknown, mut telling) = (false, false);
    for pair in cuts.windows(2) {
        let word = &row[pair[0]..pair[1]];
        let known = word.len() > 1 && hidden.whole.contains(hash(word.as_bytes()));
        telling |= known && word.len() < row.len() && hidden.tells.contains(hash(word.as_bytes()));
        // Unknown letters are one word together.
        if !out.is_empty() && (known || !unknown) {
            out.push(' ');
        }
        out.push_str(word);
        unknown = !known;
    }
    (out, telling)
}

/// Letters that are said again and again, once: `iiignooore`.
pub(super) fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let letters: Vec<char> = text.chars().collect();
    for run in letters.chunk_by(|one, next| one == next) {
        let kept = if run.len() >= 3 && run[0].is_alphabetic() { 1 } else { run.len() };
        out.extend(&run[..kept]);
    }
    out
}

/// Pieces between quotation marks put together, where that makes more of them than they are alone.
pub(super) fn joined(text: &str, lexicon: &Lexicon, finds: &mut Finds) {
    let pieces = quotations(text);
    let (whole, spaced) = (pieces.concat(), pieces.join(" "));
    let tells = |text: &str| telling(&cut(text, lexicon));
    let split = tells(&spaced);
    if tells(&whole) > split {
        finds.tell(whole, "joined");
    }
    // Quotations of whole words are a text that quotes; a word that was torn in two hides something.
    if split >= 2 {
        finds.tell(spaced, "joined");
    }
}
