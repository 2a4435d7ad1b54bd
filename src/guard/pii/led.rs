//! Values that the text before theirs announces: `"password: "` in one part of a message, the password in the next.
use std::ops::Range;

use super::{
    Kind, Pii,
    text::{ceil, floor},
    words,
};

/// How much of the end of a text may announce what the next one begins with, in bytes.
const BEFORE: usize = 96;
/// How far from the end of that text the last word that announces something may stand, in bytes.
const NEAR: usize = 32;
/// How much of the next one is searched, in bytes: the longest value that only a word announces, and what follows it.
const BEHIND: usize = 640;

/// A value that the text before its own announces.
pub(super) struct Led {
    /// The number of the text.
    pub text: usize,
    pub range: Range<usize>,
    pub kind: Kind,
    pub value: String,
}

/// What `text` begins with, if `before` announces it and `text` alone does not show it. Only what looks like a value: a
/// word of letters would be taken for a password wherever somebody asks for one, unless it is all that is said.
pub(super) fn value(pii: &Pii, before: &str, (number, text): (usize, &str)) -> Option<Led> {
    let before = before[ceil(before, before.len().saturating_sub(BEFORE))..].trim_end();
    let lead = text.len() - text.trim_start().len();
    let word = text[lead..].split_ascii_whitespace().next()?;
    let word = &word.as_bytes()[..word.len().min(BEHIND)];
    let looks = word.iter().any(|b| b.is_ascii_digit() || b"!@#$%^&*-_".contains(b));
    let only = before.ends_with([':', '=']) && answers(text.trim());
    // Who asks for something announces nothing.
    if !(looks || only) || before.ends_with(['?', '!']) {
        return None;
    }
    let near = words::hits(before, true, false).last().is_some_and(|hit| hit.end + NEAR >= before.len());
    // `Anna Meier,` and then `*12.03.1985`: the star is the word.
    let starred = text[lead..].starts_with(STARS) || before.ends_with(STARS);
    if !near && !starred {
        return None;
    }
    let head = &text[lead..floor(text, lead + BEHIND)];
    let (joined, begin) = (format!("{before} {head}"), before.len() + 1);
    // The first of them: no letter stands before it.
    let found = pii.in_question(&joined).into_iter().find(|found| found.range.start >= begin)?;
    let range = found.range.start - begin..found.range.end - begin;
    let first = !head[..range.start].contains(char::is_alphanumeric);
    let whole = range.end < head.len() || lead + head.len() == text.len();
    let value = head.get(range.clone())?;
    let good = match found.kind {
        Kind::Secret => near && ties(before) && (only || !value.bytes().all(|b| b.is_ascii_alphabetic())),
        Kind::Birth => true,
        _ => near,
    };
    let known = || {
        let alone = pii.in_question(head).into_iter();
        alone.map(|found| found.range).any(|other| other.start < range.end && range.start < other.end)
    };
    (first && whole && good && !known()).then(|| Led {
        text: number,
        range: lead + range.start..lead + range.end,
        kind: found.kind,
        value: value.to_owned(),
    })
}

/// The signs of a birth.
const STARS: [char; 2] = ['*', '°'];

/// Whether a text is one word of letters that answers what was asked for, and says nothing else.
fn answers(text: &str) -> bool {
    let said = [
        "cancel",
        "changed",
        "correct",
        "exactly",
        "expired",
        "failed",
        "forgot",
        "forgotten",
        "goodbye",
        "hidden",
        "incorrect",
        "invalid",
        "missing",
        "nothing",
        "please",
        "skipped",
        "sorry",
        "thanks",
        "thankyou",
        "unchanged",
        "unknown",
        "unset",
        "whatever",
        "wrong",
    ];
    text.bytes().all(|b| b.is_ascii_alphabetic()) && !said.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Whether a text ends with what ties a value to the word that announces it.
fn ties(before: &str) -> bool {
    let verbs = ["is", "are", "was", "ist", "lautet", "est", "es", "è", "é"];
    let last = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    before.ends_with([':', '=']) || verbs.iter().any(|verb| last.eq_ignore_ascii_case(verb))
}
