//! The rule for answers: personal data of others, and secrets.
use std::sync::{Arc, OnceLock};

use super::{
    Kind, Mode, Pii, escape,
    find::{self, Wanted},
    fold::Folded,
    own::Own,
    text::{floor, has_numbers},
    words::{self, Class},
};
use crate::{
    call::Trail,
    chat::Request,
    guard::hold::{Act, Found, Guard},
};

/// How far back a verdict looks, in bytes: the reach of a word, and the word.
const BEHIND: usize = 160;
/// How far back a new piece is looked at before anything else is, in bytes.
const NEAR: usize = 40;

/// Whether a word may announce or begin a value of these types where there are no digits yet.
fn by_words(kinds: u64) -> bool {
    let types = [Kind::Secret, Kind::Email, Kind::Passport, Kind::Birth, Kind::Wallet];
    types.iter().any(|kind| kinds & kind.bit() != 0)
}

/// What is only counted is looked at in pieces of this size, in bytes.
const WATCHED: usize = 512;

/// Looks for values in the answer to a call that are not the caller's own.
pub struct Answers {
    pii: Arc<Pii>,
    kinds: u64,
    holds: bool,
    chat: Arc<Request>,
    trail: Trail,
    /// Made when the first value is found.
    own: OnceLock<Own>,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("holds", &self.holds).finish_non_exhaustive()
    }
}

impl Answers {
    /// The rules for the answer to this call: one for what is masked and blocked, one for what is only counted.
    pub fn rules(pii: &Arc<Pii>, chat: &Arc<Request>, trail: &Trail) -> impl Iterator<Item = Arc<dyn Guard>> {
        let sets = [(pii.answers_held, true), (pii.answers_watched, false)];
        sets.into_iter().filter(|(kinds, _)| *kinds != 0).map(|(kinds, holds)| {
            let (pii, chat, trail) = (pii.clone(), chat.clone(), trail.clone());
            Arc::new(Self { pii, kinds, holds, chat, trail, own: OnceLock::new() }) as Arc<dyn Guard>
        })
    }

    /// Whether nothing in a piece of text can be of any type, or announce it.
    fn quiet(&self, near: &str) -> bool {
        self.kinds & !super::PLAIN == 0
            && !has_numbers(near)
            && matches!(Folded::new(near, false).text, std::borrow::Cow::Borrowed(_))
            && (!by_words(self.kinds) || words::hits(near, false, false).is_empty())
    }

    /// Whether there is an option from `near` on, and before it a command that may take a password by it.
    fn after_command(&self, text: &str, near: usize) -> bool {
        let begin = floor(text, (near + NEAR).saturating_sub(BEHIND));
        self.kinds & Kind::Secret.bit() != 0
            && text[near..].contains(" -")
            && words::hits(&text[begin..], false, false).iter().any(|hit| hit.class.meets(Class::LOGIN))
    }

    /// Whether a value is in what the caller sent, or in the documents that were found for it.
    fn is_own(&self, value: &str) -> bool {
        self.own.get_or_init(|| Own::new(&self.chat, &self.trail)).has(value)
    }

    fn act(&self, kind: Kind) -> Act {
        match self.pii.rules.output.get(kind.index()) {
            Some(Mode::Block) => Act::Block,
            Some(Mode::Mask) => Act::Replace(format!("[{}]", self.pii.rules.names(kind).1).into()),
            _ => Act::Log,
        }
    }
}

impl Guard for Answers {
    fn name(&self) -> &'static str {
        "pii"
    }

    fn holds(&self) -> bool {
        self.holds
    }

    fn behind(&self) -> usize {
        BEHIND
    }

    fn scan(&self, text: &str, from: usize, ended: bool, found: &mut Vec<Found>) -> usize {
        let wanted = Wanted { kinds: self.kinds, ahead: false, shapes: true };
        let customs = &self.pii.rules.custom;
        if !self.holds && !ended && text.len() - from < WATCHED {
            // Nobody waits for it.
            return from;
        }
        let text = if ended { text } else { &text[..escape::complete(text).max(from)] };
        let near = floor(text, from.saturating_sub(NEAR));
        let quiet = self.quiet(&text[near..]) && !self.after_command(text, near);
        if quiet && ended {
            return text.len();
        }
        if quiet {
            return (near + find::open_quiet(&text[near..], wanted, customs)).max(from);
        }
        let begin = floor(text, from.saturating_sub(BEHIND));
        let window = &text[begin..];
        let (values, open) = find::look(window, from - begin, wanted, customs, ended);
        let open = (begin + open).max(from);
        let mut sure = open;
        for (kind, range) in values {
            let range = begin + range.start..begin + range.end;
            if range.end <= from {
                continue;
            }
            if range.end > open {
                sure = sure.min(range.start.max(from));
                break;
            }
            if !self.is_own(&text[range.clone()]) {
                found.push(Found {
                    range: range.start.max(from)..range.end,
                    what: self.pii.label(kind),
                    act: self.act(kind),
                });
            }
        }
        sure
    }
}
