//! Words that are still words, but turned, shifted, torn or scrambled: found
//! by what they would be, so that plain text costs a few lookups.
use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use super::{
    super::{
        lexicon::Lexicon,
        tokens::{hash, mix},
    },
    telling,
};

/// Plain words, for cutting text without spaces apart; with the telling ones of the lexicon.
const COMMON: &str = include_str!("common.txt");

/// What telling words look like when they are hidden, each to the word itself.
struct Hidden {
    /// Spelled backwards.
    reversed: HashMap<u64, usize>,
    /// In any alphabet shift: the distances between letters stay.
    shifted: HashMap<u64, usize>,
    /// With `a` for `z`, `b` for `y`.
    mirrored: HashSet<u64>,
    /// The inner letters in any order.
    scrambled: HashMap<u64, usize>,
    /// All words that text without spaces may be made of.
    whole: HashSet<u64>,
    words: Vec<String>,
    /// Where in `words` the telling ones begin.
    telling: usize,
}

static HIDDEN: LazyLock<Hidden> = LazyLock::new(|| {
    let telling = &Lexicon::get().telling;
    let mut words: Vec<String> =
        COMMON.split_whitespace().filter(|word| word.len() >= 4).map(String::from).collect();
    words.extend(telling.iter().cloned());
    // The telling ones come last, and so win where two look the same.
    let each = |words: &[String], spell: &dyn Fn(&[u8]) -> u64| -> HashMap<u64, usize> {
        words.iter().enumerate().map(|(at, word)| (spell(word.as_bytes()), at)).collect()
    };
    let first = words.len() - telling.len();
    let told = |spell: &dyn Fn(&[u8]) -> u64| -> HashMap<u64, usize> {
        telling.iter().enumerate().map(|(at, word)| (spell(word.as_bytes()), first + at)).collect()
    };
    Hidden {
        reversed: told(&|word| hash(&backwards(word))),
        shifted: each(&words, &shape),
        mirrored: telling.iter().map(|word| hash(&mirror(word.as_bytes()))).collect(),
        scrambled: each(&words, &mess),
        whole: COMMON
            .split_whitespace()
            .chain(words.iter().map(String::as_str))
            .map(|word| hash(word.as_bytes()))
            .collect(),
        telling: first,
        words,
    }
});

fn backwards(word: &[u8]) -> Vec<u8> {
    word.iter().rev().copied().collect()
}

fn mirror(word: &[u8]) -> Vec<u8> {
    word.iter().map(|byte| if byte.is_ascii_lowercase() { b'a' + b'z' - byte } else { *byte }).collect()
}

/// A hash of the distances between neighbours: the same for every shift of the alphabet.
fn shape(word: &[u8]) -> u64 {
    word.windows(2)
        .fold(word.len() as u64, |all, two| mix(all.rotate_left(9) ^ u64::from((two[1] + 26 - two[0]) % 26)))
}

/// A hash of the first and last letter, and of those between in any order.
fn mess(word: &[u8]) -> u64 {
    let inner = &word[1..word.len() - 1];
    let sum: u64 = inner.iter().map(|byte| mix(u64::from(*byte) + 1)).fold(0, u64::wrapping_add);
    mix(sum ^ u64::from(word[0]) << 8 ^ u64::from(word[word.len() - 1]) << 16 ^ (word.len() as u64) << 24)
}

/// Tells each other reading of a folded text.
pub(super) fn find(text: &str, lexicon: &Lexicon, told: &mut dyn FnMut(String, &'static str)) {
    let seen = Seen::of(text, lexicon);
    if seen.reversed >= 2 || seen.reversed == 1 && seen.words < 5 {
        told(text.chars().rev().collect(), "reversed");
        told(each_word(text, |word| String::from_utf8_lossy(&backwards(word)).into_owned()), "reversed");
    }
    if let Some(shift) = seen.shift() {
        let turn =
            |byte: u8| if byte.is_ascii_lowercase() { (byte - b'a' + shift) % 26 + b'a' } else { byte };
        told(
            text.bytes().map(|byte| if byte.is_ascii() { turn(byte) as char } else { ' ' }).collect(),
            "rotated",
        );
    }
    if seen.mirrored >= 2 {
        told(
            text.bytes().map(|byte| if byte.is_ascii() { mirror(&[byte])[0] as char } else { ' ' }).collect(),
            "rotated",
        );
    }
    if seen.scrambled >= 2 {
        let hidden = &*HIDDEN;
        let right = |word: &[u8]| {
            let strange = word.len() >= 4
                && word.iter().all(u8::is_ascii_lowercase)
                && !hidden.whole.contains(&hash(word));
            let found = strange.then(|| hidden.scrambled.get(&mess(word))).flatten();
            found.map_or_else(|| String::from_utf8_lossy(word).into_owned(), |at| hidden.words[*at].clone())
        };
        told(each_word(text, right), "scrambled");
    }
    if seen.leet >= 2 {
        for one in ['i', 'l'] {
            told(text.chars().map(|c| unleet(c, one)).collect(), "leetspeak");
        }
    }
    if seen.singles >= 8 {
        if let Some(plain) = gathered(text, 8) {
            told(plain, "spaced");
        }
    } else if seen.torn >= 5 {
        told(untorn(text), "torn");
    }
    if seen.longest >= 18
        && let Some(plain) = apart(text)
    {
        told(plain, "torn");
    }
    if seen.stretched >= 2 {
        told(squeezed(text), "torn");
    }
    if seen.quotes >= 4 && text.len() < LONGEST_JOINED {
        joined(text, told);
    }
}

/// What a text has of the signs of hidden words.
#[derive(Default)]
struct Seen {
    words: usize,
    reversed: usize,
    mirrored: usize,
    scrambled: usize,
    leet: usize,
    /// The longest row of single letters.
    singles: usize,
    /// The most pieces of words near each other.
    torn: usize,
    longest: usize,
    stretched: usize,
    quotes: usize,
    /// Words that are telling ones in another shift of the alphabet.
    shifted: usize,
    shifts: [u8; 26],
}

impl Seen {
    fn of(text: &str, lexicon: &Lexicon) -> Self {
        let hidden = &*HIDDEN;
        let mut seen = Self::default();
        let bytes = text.as_bytes();
        let mut row = 0;
        let (mut pieces, mut whole) = (0, 0);
        let part = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'$' | b'!' | b'|' | b'+') || byte >= 0x80
        };
        let mut at = 0;
        while at < bytes.len() {
            if !part(bytes[at]) {
                seen.quotes += usize::from(matches!(bytes[at], b'"' | b'\''));
                at += 1;
                continue;
            }
            let begins = at;
            at += bytes[at..].iter().position(|byte| !part(*byte)).unwrap_or(bytes.len() - at);
            let word = &bytes[begins..at];
            seen.words += 1;
            if word.len() == 1 {
                row += 1;
                seen.singles = seen.singles.max(row);
                continue;
            }
            row = 0;
            seen.longest = seen.longest.max(word.len());
            // `ig-no-re`: pieces with a sign between, no space.
            let tied = |byte: Option<&u8>| {
                byte.is_some_and(|byte| matches!(byte, b'-' | b'.' | b'_' | b'*' | b'~' | b'^' | b'/'))
            };
            if word.len() <= 4
                && tied(bytes.get(at))
                && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
            {
                (pieces, whole) = (pieces + 1, 0);
                seen.torn = seen.torn.max(pieces);
            } else {
                // A few hyphens in a long text are hyphens.
                whole += 1;
                pieces = if whole > 3 { 0 } else { pieces };
            }
            if !word.iter().all(u8::is_ascii_lowercase) {
                seen.leet += usize::from(is_leet(word));
                continue;
            }
            seen.stretched +=
                usize::from(word.windows(3).any(|three| three[0] == three[1] && three[1] == three[2]));
            if word.len() < 5 || lexicon.classes(hash(word)).0 != 0 || hidden.whole.contains(&hash(word)) {
                continue;
            }
            seen.reversed += usize::from(hidden.reversed.contains_key(&hash(word)));
            seen.scrambled += usize::from(hidden.scrambled.contains_key(&mess(word)));
            if word.len() >= 5 {
                seen.mirrored += usize::from(hidden.mirrored.contains(&hash(word)));
                if let Some(known) = hidden.shifted.get(&shape(word)) {
                    seen.shifted += usize::from(*known >= hidden.telling);
                    let shift = (hidden.words[*known].as_bytes()[0] + 26 - word[0]) % 26;
                    seen.shifts[shift as usize] = seen.shifts[shift as usize].saturating_add(1);
                }
            }
        }
        seen
    }

    /// The shift of the alphabet that turns at least two words, or one of few, into telling ones.
    fn shift(&self) -> Option<u8> {
        let (shift, many) = self.shifts.iter().enumerate().skip(1).max_by_key(|(_, many)| **many)?;
        (*many >= 2 || *many == 1 && self.shifted > 0 && self.words < 8).then_some(shift as u8)
    }
}

fn is_leet(word: &[u8]) -> bool {
    let letters = word.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    let signs = word.iter().filter(|byte| {
        matches!(
            byte,
            b'0' | b'1' | b'3' | b'4' | b'5' | b'7' | b'8' | b'9' | b'@' | b'$' | b'!' | b'|' | b'+'
        )
    });
    let inner = word[..word.len() - 1].iter().any(|byte| !byte.is_ascii_lowercase());
    word.len() >= 3 && letters >= 1 && signs.count() >= 1 && letters * 3 >= word.len() && inner
}

fn unleet(letter: char, one: char) -> char {
    match letter {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        '8' => 'b',
        '9' | '6' => 'g',
        '2' => 'z',
        letter => letter,
    }
}

/// The text with each word of letters changed.
fn each_word(text: &str, change: impl Fn(&[u8]) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphabetic() {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            out.push_str(&change(word.as_bytes()));
            word.clear();
        }
        out.push(letter);
    }
    if !word.is_empty() {
        out.push_str(&change(word.as_bytes()));
    }
    out
}

/// Rows of single letters put together: `i g n o r e`. Wider gaps are spaces; where there are none, words are cut apart.
fn gathered(text: &str, least: usize) -> Option<String> {
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
        let (mut row, mut many) = (String::new(), 0);
        while at < letters.len() {
            if alone(at) {
                row.push(letters[at]);
                many += 1;
                at += 1;
                continue;
            }
            let gap = letters[at..].iter().take_while(|c| !c.is_alphanumeric()).count();
            if gap == 0 || gap > 4 || at + gap >= letters.len() || !alone(at + gap) {
                break;
            }
            // More than the one sign between two letters: another word begins.
            if gap >= 2
                || letters[at] == '/'
                    && letters.get(at + 1) != Some(&' ')
                    && many > 0
                    && letters[begins + 1] != '/'
            {
                row.push(' ');
            }
            at += gap;
        }
        if many >= least {
            found = true;
            match row.contains(' ') {
                true => out.push_str(&row),
                false => out.push_str(&segmented(&row)),
            }
            out.push(' ');
        } else {
            out.extend(&letters[begins..at]);
        }
    }
    found.then_some(out)
}

/// Pieces tied by signs put together: `ig-no-re`.
fn untorn(text: &str) -> String {
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

/// Long words that are several, cut apart: `ignoreallpreviousinstructions`.
fn apart(text: &str) -> Option<String> {
    let out = each_word(text, |word| {
        let word = String::from_utf8_lossy(word);
        if word.len() >= 14 { segmented(&word) } else { word.into_owned() }
    });
    (out != text).then_some(out)
}

/// Longer texts quote so much that their quotations put together say anything.
const LONGEST_JOINED: usize = 4_000;
/// The longest row of letters that is cut apart.
const LONGEST_ROW: usize = 600;
/// The longest word.
const LONGEST_WORD: usize = 18;

/// Cuts a row of letters into known words, as few as possible; what is no word stays together.
fn segmented(row: &str) -> String {
    let bytes = row.as_bytes();
    if !row.is_ascii() || bytes.len() > LONGEST_ROW {
        return row.to_owned();
    }
    let hidden = &*HIDDEN;
    // The cheapest way to each place: an unknown letter costs more than a word.
    let mut cost: Vec<(u32, usize)> = vec![(0, 0)];
    for end in 1..=bytes.len() {
        let mut best = (cost[end - 1].0 + 5, end - 1);
        for begin in end.saturating_sub(LONGEST_WORD)..end {
            let word = &bytes[begin..end];
            let price = match word.len() {
                1 => 6,
                2 => 4,
                _ => 3,
            };
            if cost[begin].0 + price < best.0 && hidden.whole.contains(&hash(word)) {
                best = (cost[begin].0 + price, begin);
            }
        }
        cost.push(best);
    }
    let mut cuts = vec![bytes.len()];
    while let Some(end) = cuts.last().copied().filter(|end| *end > 0) {
        cuts.push(cost[end].1);
    }
    cuts.reverse();
    let mut out = String::with_capacity(row.len() * 2);
    let mut unknown = false;
    for pair in cuts.windows(2) {
        let word = &row[pair[0]..pair[1]];
        let known = hidden.whole.contains(&hash(word.as_bytes()));
        // Unknown letters are one word together.
        if !out.is_empty() && (known || !unknown) {
            out.push(' ');
        }
        out.push_str(word);
        unknown = !known;
    }
    out
}

/// Letters that are said again and again, once: `iiignooore`.
fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let letters: Vec<char> = text.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let run = letters[..at].iter().rev().take_while(|c| *c == letter).count();
        let ahead = letters[at..].iter().take_while(|c| *c == letter).take(3).count();
        if run == 0 || run + ahead < 3 || !letter.is_alphabetic() {
            out.push(*letter);
        }
    }
    out
}

/// Pieces between quotation marks put together, where that makes more of them than they are alone.
fn joined(text: &str, told: &mut dyn FnMut(String, &'static str)) {
    let pieces: Vec<&str> = text.split(['"', '\'', '`']).skip(1).step_by(2).collect();
    if pieces.len() < 2 {
        return;
    }
    let whole: String = pieces.concat();
    let spaced = pieces.join(" ");
    let lexicon = Lexicon::get();
    let split = telling(&spaced, lexicon);
    for (number, text) in [whole, spaced].into_iter().enumerate() {
        // Quotations of whole words are a text that quotes; a word that was torn in two hides something.
        if number == 1 && split >= 2 || telling(&text, lexicon) > split {
            told(text, "joined");
        }
    }
}
