//! Names of persons and street addresses, as far as rules can tell them: off
//! unless the configuration asks for them.
use super::{
    kind::Kind,
    text::{Found, Text, floor},
    words::Hit,
};

/// The most words of a name.
const MOST_WORDS: usize = 4;

/// The name behind the word that announces one.
pub(super) fn person(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let rest = &text.str[hit.end..];
    let skipped = rest.len() - rest.trim_start_matches([' ', ':', '.', ',', '"', '\n', '=', '\'']).len();
    if skipped == 0 || skipped > 6 {
        return None;
    }
    let start = hit.end + skipped;
    let (mut end, mut words) = (start, 0);
    while words < MOST_WORDS {
        let at = end + usize::from(words > 0);
        let Some(rest) = text.str.get(at..) else { break };
        if words > 0 && text.byte(end) != b' ' {
            break;
        }
        let Some(length) = name(rest) else { break };
        (end, words) = (at + length, words + 1);
    }
    // A title stands before one word, other announcements before a first and a last name.
    let title = text.str[hit.start..hit.end].ends_with('.') || text.str[hit.start..hit.end].len() <= 4;
    (words >= 2 || (words == 1 && title)).then_some(Found { kind: Kind::Person, start, end })
}

/// The length of a word that looks like a part of a name: a capital, then small letters; or an initial; with up
/// to two particles before it, such as `van der`.
fn name(rest: &str) -> Option<usize> {
    let particles = ["von ", "van ", "de ", "der ", "la ", "del ", "da ", "bin ", "al-", "O'", "Mc", "Mac"];
    let mut word = rest;
    for _ in 0..2 {
        word = particles.iter().find_map(|particle| word.strip_prefix(particle)).unwrap_or(word);
    }
    capital(word).map(|length| rest.len() - word.len() + length)
}

fn capital(rest: &str) -> Option<usize> {
    let first = rest.chars().next().filter(|c| c.is_uppercase())?;
    let length: usize = rest
        .chars()
        .skip(1)
        .take(24)
        .take_while(|c| c.is_lowercase() || *c == '-' || *c == '\'')
        .map(char::len_utf8)
        .sum();
    let next = rest[first.len_utf8() + length..].chars().next();
    match length {
        0 => (next == Some('.')).then_some(first.len_utf8() + 1),
        _ => (!next.is_some_and(char::is_alphanumeric)).then_some(first.len_utf8() + length),
    }
}

/// The address around a kind of street: `12 Long Acre Road, London`, `Hauptstraße 5, 10115 Berlin`, `12 rue de la Paix`.
pub(super) fn address(text: &Text<'_>, hit: &Hit) -> Option<Found> {
    let near = floor(text.str, hit.start.saturating_sub(LONGEST_LINE));
    let line = text.str[near..hit.start].rfind('\n').map_or(near, |at| near + at + 1);
    let before = &text.str[line..hit.start];
    // The number first, then at most four words.
    let mut start = hit.start;
    for (words, piece) in before.rsplit(' ').enumerate().take(6) {
        let piece_start = start - piece.len();
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        if (1..=5).contains(&digits) && piece.len() <= digits + 2 && text.begins(piece_start) && words > 0 {
            let street = &text.str[piece_start + piece.len()..hit.start];
            let named = street.trim().is_empty()
                || street.trim().chars().next().is_some_and(|c| c.is_uppercase() || c.is_ascii_digit());
            return named.then(|| Found {
                kind: Kind::Address,
                start: piece_start,
                end: place(text, hit.end),
            });
        }
        if piece_start == line || piece.contains([',', '.', ';', ':']) {
            break;
        }
        start = piece_start - 1;
    }
    // The number last.
    let rest = &text.str[hit.end..];
    let name = word(rest).len();
    let mut at = hit.end + if rest.starts_with(' ') { 0 } else { name };
    for _ in 0..4 {
        if text.byte(at) != b' ' {
            return None;
        }
        let digits = text.bytes[at + 1..].iter().take(5).take_while(|b| b.is_ascii_digit()).count();
        if (1..=4).contains(&digits) {
            let word = before.rfind(' ').map_or(0, |at| at + 1);
            return Some(Found {
                kind: Kind::Address,
                start: line + word,
                end: place(text, at + 1 + digits),
            });
        }
        let word = word(&text.str[at + 1..]);
        if word.is_empty() || !word.chars().all(|c| c.is_alphabetic() || c == '\'') {
            return None;
        }
        at += 1 + word.len();
    }
    None
}

/// How far before a kind of street its number is looked for, and no word around it is longer, in bytes.
const LONGEST_LINE: usize = 256;

/// The word that a text begins with.
fn word(rest: &str) -> &str {
    rest[..floor(rest, LONGEST_LINE)].split([' ', '\n']).next().unwrap_or_default()
}

/// The end of town, state and postal code that follow a street.
fn place(text: &Text<'_>, from: usize) -> usize {
    let mut end = from + usize::from(text.byte(from) == b'.');
    for _ in 0..4 {
        let Some(rest) = text.str.get(end..) else { break };
        let Some(part) = rest.strip_prefix(", ") else { break };
        let length: usize = part
            .chars()
            .take(40)
            .take_while(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '#'))
            .map(char::len_utf8)
            .sum();
        let part = part[..length].trim_end();
        // A place begins with a capital or a number; what is no place is a sentence.
        let words = part.split(' ');
        let place = part.len() >= 2
            && words.clone().count() <= 4
            && words.clone().all(|word| word.chars().next().is_some_and(|c| !c.is_lowercase()));
        if !place {
            break;
        }
        end += 2 + part.len();
    }
    end
}
