//! Which end of a text may be the beginning of something that is still to come.
use super::{
    email,
    find::Wanted,
    iban, key,
    kind::Kind,
    login, phone, secret,
    settings::Custom,
    text::{LONGEST_GROUP, REACH, Text, floor},
    words::Class,
};

/// No number is longer than this with all its signs, in bytes.
const NUMBER: usize = 120;
/// No name or street address is held back longer than this, in bytes.
const PEOPLE: usize = 96;

/// The place from which on a finding may still be under way.
pub(super) fn open(text: &Text<'_>, wanted: Wanted, customs: &[Custom]) -> usize {
    let length = text.bytes.len();
    let mut open = length;
    let mut hold = |from: usize| open = open.min(from);
    let any = |kinds: &[Kind]| kinds.iter().any(|kind| wanted.has(*kind));
    hold(numbers(text, wanted));
    let word = length
        - text.bytes.iter().rev().take(email::LONGEST).take_while(|b| !b.is_ascii_whitespace()).count();
    if any(&[Kind::Email]) {
        hold(word);
        hold(spelled_at(text, word));
    }
    if any(&[Kind::Wallet]) {
        hold(text.token(length).0);
    }
    if any(&[Kind::Iban]) {
        iban::unfinished(text).into_iter().for_each(&mut hold);
    }
    if any(&[Kind::Ip]) {
        let sign = |b: &&u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        hold(length - text.bytes.iter().rev().take(64).take_while(sign).count());
    }
    if any(&[Kind::Birth]) {
        after_announcement(text, Class::BIRTH.or(Class::BORN), 48).into_iter().for_each(&mut hold);
    }
    if any(&[Kind::Secret]) {
        hold(secrets(text));
    }
    if any(&[Kind::Person, Kind::Address]) {
        hold(length.saturating_sub(PEOPLE));
    }
    for (at, custom) in customs.iter().enumerate() {
        if any(&[Kind::Custom(at as u8)]) {
            hold(length.saturating_sub(custom.longest));
        }
    }
    floor(text.str, open)
}

/// Where to look for numbers on in a text that was judged up to `from`: at the beginning of the words with
/// digits that `from` is behind of or within. What was under way there was held back.
pub(super) fn resume(bytes: &[u8], from: usize) -> usize {
    let word = |end: usize| {
        let letters = bytes[..end].iter().rev().take(NUMBER).take_while(|b| !b.is_ascii_whitespace());
        end - letters.count()
    };
    let mut at = word(from);
    loop {
        let spaces = bytes[..at].iter().rev().take(NUMBER).take_while(|b| matches!(b, b' ' | b'\t')).count();
        let end = at - spaces;
        let begin = word(end);
        let row = bytes[begin..end].iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let other = !bytes[begin..end].iter().any(u8::is_ascii_digit);
        if spaces == 0 || begin == end || other || row > LONGEST_GROUP || from - begin > NUMBER {
            return at;
        }
        at = begin;
    }
}

/// Where a number may begin that is under way: at the first digit of the words
/// at the end that have digits or signs only. The letters that some numbers begin
/// with are no part of a finding in an answer: any word could be such letters.
fn numbers(text: &Text<'_>, wanted: Wanted) -> usize {
    let bytes = text.bytes;
    let phones = wanted.has(Kind::Phone);
    let sign = |b: &u8| b.is_ascii_alphanumeric() || b" \t+().-/#_:".contains(b);
    let least = bytes.len() - bytes.iter().rev().take(NUMBER).take_while(|b| sign(b)).count();
    let space = |b: &&u8| matches!(b, b' ' | b'\t');
    let over = bytes.len() - bytes.iter().rev().take(NUMBER).take_while(space).count();
    let row = bytes[..over].iter().rev().take(NUMBER).take_while(|b| b.is_ascii_digit()).count();
    if over < bytes.len() && row > LONGEST_GROUP && (!phones || phone::is_over(text, over - row, over)) {
        return bytes.len();
    }
    let mut at = bytes.len();
    loop {
        let end = at - bytes[least..at].iter().rev().take_while(space).count();
        let start = end - bytes[least..end].iter().rev().take_while(|b| !space(b)).count();
        let word = &bytes[start..end];
        let letters = word.iter().filter(|b| b.is_ascii_alphabetic()).count();
        // A letter may end a number; `ext.` goes on with one.
        let goes_on = (end == bytes.len() && letters == 1) || (phones && extends(word));
        if word.is_empty() || (letters > 0 && !goes_on && !word.iter().any(u8::is_ascii_digit)) {
            break;
        }
        at = start;
    }
    let first = bytes[at..].iter().position(|b| b.is_ascii_digit() || (phones && matches!(b, b'+' | b'(')));
    let first = first.map_or(bytes.len(), |first| at + first);
    // Signs that stand before the first digit of a telephone number.
    first - if phones { bytes[at..first].iter().rev().take_while(|b| b" +(".contains(b)).count() } else { 0 }
}

/// Whether a word is the beginning of one that an extension is announced with.
fn extends(word: &[u8]) -> bool {
    ["extension", "ext.", "x", "#"]
        .iter()
        .any(|long| long.len() >= word.len() && long.as_bytes()[..word.len()].eq_ignore_ascii_case(word))
}

/// Where an address begins whose at sign is spelled out.
fn spelled_at(text: &Text<'_>, word: usize) -> usize {
    let signs = ["[at]", "(at)", "{at}", "<at>", "[@]", "(@)", "%40", "at"];
    let begun = &text.str[floor(text.str, word)..];
    let before = || {
        text.bytes[..word]
            .iter()
            .rev()
            .skip_while(|b| **b == b' ')
            .take(email::LONGEST_NAME)
            .take_while(|b| !b.is_ascii_whitespace())
            .count()
    };
    let spaces = text.bytes[..word].iter().rev().take_while(|b| **b == b' ').count();
    let mut open = word;
    if signs.iter().any(|sign| {
        sign.len() >= begun.len() && sign.as_bytes()[..begun.len()].eq_ignore_ascii_case(begun.as_bytes())
    }) {
        open = word.saturating_sub(spaces + before());
    }
    let near = text
        .hits
        .iter()
        .filter(|hit| hit.class.meets(Class::AT) && hit.end + email::LONGEST >= text.bytes.len());
    near.map(|hit| email::begins(text, hit.start)).fold(open, usize::min)
}

/// The place from which on what a word announces may be under way; no value is longer than `most`.
fn after_announcement(text: &Text<'_>, class: Class, most: usize) -> Option<usize> {
    let length = text.bytes.len();
    let hit = text.hits.iter().rev().find(|hit| hit.class.meets(class))?;
    (hit.end + REACH + most >= length).then(|| hit.end.max(length.saturating_sub(most)))
}

/// Where a secret may begin that is not at its end.
fn secrets(text: &Text<'_>) -> usize {
    let length = text.bytes.len();
    let mut open = length;
    // Where the last word begins: looked for once, not for each of the many that it may be full of.
    let within = |b: &&u8| !(b.is_ascii_whitespace() || b"\"'`<>".contains(b));
    let last = length - text.bytes.iter().rev().take(key::LONGEST).take_while(within).count();
    let unbroken = |from: usize| from >= last;
    for hit in &text.hits {
        let class = hit.class;
        if class.meets(Class::PREFIX) && unbroken(hit.end) {
            open = open.min(hit.end);
        }
        if class.meets(Class::PREFIX) {
            open = open.min(key::paired_unfinished(text, hit).unwrap_or(length));
        }
        if class.meets(Class::PEM) && key::pem_open(text, hit.start) {
            open = open.min(hit.end);
        }
        // The name of a host ends at a slash; what follows holds no login.
        let host = |b: &u8| !b.is_ascii_whitespace() && !b"/\"'`<>".contains(b);
        if class.meets(Class::URL)
            && text.bytes[hit.end..].iter().all(host)
            && length - hit.end <= key::LONGEST
        {
            open = open.min(hit.end);
        }
        if class.meets(Class::LOGIN) {
            open = open.min(login::unfinished(text, hit).unwrap_or(length));
        }
        if class.meets(Class::KEY.or(Class::PASSWORD).or(Class::FIELD)) {
            open = open.min(secret::unfinished(text, hit).unwrap_or(length));
        }
    }
    // A word that may come to look like chance, near something that tells of a secret.
    let sign = |b: &&u8| b.is_ascii_alphanumeric() || b"_-+/~=".contains(b);
    let word = length - text.bytes.iter().rev().take(key::LONGEST).take_while(sign).count();
    let near =
        text.hits.iter().rev().find(|hit| hit.class.meets(Class::KEY.or(Class::PASSWORD)) && hit.end <= word);
    if near.is_some_and(|hit| hit.end + REACH >= word) {
        open = open.min(word);
    }
    open
}
