//! Gives callers their own values back, wherever a model writes a placeholder.
use std::sync::Arc;

use super::{
    Kind,
    mask::{MOST_DIGITS, Vault},
};
use crate::guard::hold::{Act, Found, Guard};

/// The longest spelling of a placeholder, in bytes: a label of 32, a number, brackets and their escapes.
const LONGEST: usize = 64;

/// Puts the values of a vault in the place of their placeholders. A model may
/// change their case, escape them for Markdown, or leave the brackets out.
pub struct Restore {
    vault: Arc<Vault>,
    what: Arc<str>,
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore").finish_non_exhaustive()
    }
}

impl Restore {
    /// For the values of one call.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault, what: "placeholder".into() }
    }
}

/// What is read at a place.
enum Seen {
    Nothing,
    /// The text ends before it is decided.
    Open,
    /// A placeholder up to here, and its value's place in the vault.
    Placeholder(usize, usize),
}

impl Guard for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn holds(&self) -> bool {
        true
    }

    fn behind(&self) -> usize {
        4
    }

    fn scan(&self, text: &str, from: usize, ended: bool, found: &mut Vec<Found>) -> usize {
        let bytes = text.as_bytes();
        let mut at = from;
        while at < bytes.len() {
            let begins = match bytes[at] {
                b'[' | b'\\' => true,
                letter if letter.is_ascii_alphabetic() => {
                    at == 0
                        || !(bytes[at - 1].is_ascii_alphanumeric()
                            || bytes[at - 1] == b'_'
                            || bytes[at - 1] >= 0x80 && joined(text, at))
                }
                _ => false,
            };
            match if begins { self.read(text, at) } else { Seen::Nothing } {
                Seen::Nothing => at += 1,
                Seen::Open if ended || bytes.len() - at > LONGEST => at += 1,
                Seen::Open => return at,
                // Whatever follows a bare number decides whether it goes on.
                Seen::Placeholder(end, _) if end == bytes.len() && bytes[end - 1] != b']' && !ended => {
                    return at;
                }
                Seen::Placeholder(end, place) => {
                    let value = self.vault.entries()[place].value.as_str().into();
                    found.push(Found { range: at..end, what: self.what.clone(), act: Act::Restore(value) });
                    at = end;
                }
            }
        }
        bytes.len()
    }
}

/// Whether the character before a place makes a word with what follows.
fn joined(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() && !super::text::is_wide(c))
}

impl Restore {
    /// Reads `[EMAIL_1]`, `\[email\_1\]`, `[Email 1]` or `EMAIL_1` at a place.
    fn read(&self, text: &str, start: usize) -> Seen {
        let bytes = text.as_bytes();
        let byte = |at: usize| bytes.get(at).copied();
        let escaped = byte(start) == Some(b'\\');
        let mut at = start + usize::from(escaped);
        if escaped && byte(at) != Some(b'[') {
            return if at == bytes.len() { Seen::Open } else { Seen::Nothing };
        }
        let bracket = match byte(at) {
            Some(b'[') if escaped => Some("\\]"),
            Some(b'[') => Some("]"),
            _ => None,
        };
        at += usize::from(bracket.is_some());
        if bracket.is_some() && byte(at) == Some(b' ') {
            at += 1;
        }
        let mut open = false;
        for (label, kind) in self.vault.labels() {
            let rest = &bytes[at..bytes.len().min(at + label.len())];
            if !rest.eq_ignore_ascii_case(&label.as_bytes()[..rest.len()]) {
                continue;
            }
            if rest.len() < label.len() {
                open = true;
                continue;
            }
            match self.number(text, at + label.len(), bracket, kind) {
                Seen::Nothing => {}
                Seen::Open => open = true,
                seen @ Seen::Placeholder(..) => return seen,
            }
        }
        if open { Seen::Open } else { Seen::Nothing }
    }

    /// Reads on behind the label.
    fn number(&self, text: &str, mut at: usize, bracket: Option<&str>, kind: Kind) -> Seen {
        let bytes = text.as_bytes();
        let byte = |at: usize| bytes.get(at).copied();
        if byte(at) == Some(b'\\') {
            at += 1;
        }
        match byte(at) {
            None => return Seen::Open,
            Some(b'_') => at += 1,
            Some(b' ' | b'-') if bracket.is_some() => at += 1,
            Some(_) => return Seen::Nothing,
        }
        let digits = bytes[at..].iter().take(MOST_DIGITS).take_while(|b| b.is_ascii_digit()).count();
        let end = at + digits;
        if digits == 0 {
            return if end == bytes.len() { Seen::Open } else { Seen::Nothing };
        }
        let place = || self.vault.place(kind, text[at..end].parse().ok()?);
        if let Some(bracket) = bracket {
            let rest = &text[end..];
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            if rest.len() < bracket.len() && bracket.starts_with(rest) {
                return Seen::Open;
            }
            // `[EMAIL_1, EMAIL_2]`: the bracket is the model's own, the words within are read by themselves.
            let close = text.len() - rest.len() + bracket.len();
            let place = place().filter(|_| rest.starts_with(bracket));
            return place.map_or(Seen::Nothing, |place| Seen::Placeholder(close, place));
        }
        if byte(at - 1) != Some(b'_') || byte(end).is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Seen::Nothing;
        }
        match place() {
            Some(place) => Seen::Placeholder(end, place),
            // With more digits it may be one.
            None if end == bytes.len() => Seen::Open,
            None => Seen::Nothing,
        }
    }
}
