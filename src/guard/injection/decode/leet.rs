//! Leetspeak: digits and signs for letters.
use super::hidden::{HIDDEN, LONGEST_WORD};

/// Whether a word has signs for some of its letters.
pub(super) fn is_leet(word: &[u8]) -> bool {
    let (mut letters, mut signs) = (0, 0);
    for byte in word {
        match byte {
            b'a'..=b'z' => letters += 1,
            b'0' | b'1' | b'3' | b'4' | b'5' | b'7' | b'8' | b'9' | b'@' | b'$' | b'!' | b'|' | b'+' => {
                signs += 1;
            }
            _ => {}
        }
    }
    let last = word.last().is_some_and(u8::is_ascii_lowercase);
    let inner = word.len() - letters > usize::from(!last);
    word.len() >= 3 && letters >= 1 && signs >= 1 && letters * 3 >= word.len() && inner
}

/// What signs stand for in leetspeak: the likelier letter first.
fn spoken(sign: u8) -> &'static [u8] {
    match sign {
        b'0' => b"o",
        b'1' | b'!' | b'|' => b"il",
        b'2' => b"z",
        b'3' => b"e",
        b'4' | b'@' => b"a",
        b'5' | b'$' => b"s",
        b'6' => b"gb",
        b'7' | b'+' => b"t",
        b'8' => b"b",
        b'9' => b"g",
        _ => b"",
    }
}

/// The most signs of a word that may stand for either of two letters.
const MOST_EITHER: usize = 5;

/// A word with letters for its signs: the known one among what it may mean, forwards or backwards.
pub(super) fn unleet(word: &[u8]) -> Option<String> {
    let hidden = &*HIDDEN;
    let either = word.iter().filter(|sign| spoken(**sign).len() > 1).count();
    let (mut letters, mut turned) = ([0; LONGEST_WORD], [0; LONGEST_WORD]);
    if either > MOST_EITHER || word.len() > LONGEST_WORD {
        return None;
    }
    let (plain, turned) = (&mut letters[..word.len()], &mut turned[..word.len()]);
    (0..1_u32 << either).find_map(|mut choice| {
        for (place, sign) in plain.iter_mut().zip(word) {
            *place = match spoken(*sign) {
                [] => *sign,
                [only] => *only,
                both => {
                    let one = both[(choice & 1) as usize];
                    choice >>= 1;
                    one
                }
            };
        }
        turned.copy_from_slice(plain);
        turned.reverse();
        let known = hidden.is_whole(plain) || hidden.is_whole(turned);
        known.then(|| String::from_utf8_lossy(plain).into_owned())
    })
}

/// A word with the likelier letter for each sign.
fn plainly(word: &[u8]) -> Vec<u8> {
    word.iter().map(|byte| spoken(*byte).first().copied().unwrap_or(*byte)).collect()
}

/// The text with letters for the signs of leetspeak. Numbers stay.
pub(super) fn unleeted(text: &str) -> String {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || !spoken(byte).is_empty();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.bytes().position(|byte| !part(byte)).unwrap_or(rest.len());
        if length == 0 {
            let letter = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..letter]);
            rest = &rest[letter..];
            continue;
        }
        let (word, later) = rest.split_at(length);
        rest = later;
        // A sign at the end may end the sentence.
        let bare = word.trim_end_matches(['!', '|', '+']);
        let plain = word.bytes().all(|b| b.is_ascii_lowercase());
        match unleet(bare.as_bytes())
            .map(|known| (known, bare))
            .or_else(|| Some((unleet(word.as_bytes())?, word)))
        {
            _ if plain => out.push_str(word),
            Some((known, read)) => {
                out.push_str(&known);
                out.push_str(&word[read.len()..]);
            }
            None if word.bytes().any(|b| b.is_ascii_lowercase()) => {
                out.push_str(&String::from_utf8_lossy(&plainly(bare.as_bytes())));
                out.push_str(&word[bare.len()..]);
            }
            None => out.push_str(word),
        }
    }
    out
}
