//! What waits for the thread that writes records.
use std::{borrow::Cow, sync::Arc};

use tokio::sync::oneshot;

use super::{
    Record,
    commit::{ALL, Commit},
    frame::Kind,
    line::Spelled,
};

/// What waits.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) entries: Vec<Entry>,
    /// Of each entry: tenant, request id, user, what stays, what can be erased.
    pub(super) bytes: Vec<u8>,
    pub(super) log: Vec<u8>,
    /// Who wants the records after these in a segment of their own, and hears of it.
    pub(super) turns: Vec<oneshot::Sender<Turned>>,
    /// Tells all whose records are here that they are on the disk.
    pub(super) commit: Arc<Commit>,
    /// Tells those whose records came here later than they were handed over, each with its record's place.
    pub(super) others: Vec<(usize, Arc<Commit>)>,
}

/// A segment that was begun so that those before it can go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turned {
    /// The last record before it.
    pub(super) last: u64,
    /// Its number.
    pub(super) segment: u64,
}

/// A record that is spelled.
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// When, in microseconds since 1970.
    pub(super) at: i64,
    pub(super) lengths: [u32; 5],
    /// Its caller was told that no record could be kept, and got no answer, or not its end.
    pub(super) unanswered: bool,
}

impl Entry {
    /// What stays of it, with what became known after it was spelled.
    pub(super) fn whole<'a>(&self, meta: &'a [u8]) -> Cow<'a, [u8]> {
        match self.unanswered {
            true => Cow::Owned([meta, UNANSWERED].concat()),
            false => Cow::Borrowed(meta),
        }
    }
}

/// How a record says so.
const UNANSWERED: &[u8] = b",\"answered\":false";

/// The parts of an entry.
pub(super) struct Parts<'a> {
    pub(super) tenant: &'a str,
    pub(super) request: &'a str,
    pub(super) user: &'a str,
    pub(super) meta: &'a [u8],
    pub(super) content: &'a [u8],
}

/// Names are no longer than this in a record, in bytes.
const LONGEST_NAME: usize = 1024;

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_NAME)]
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.turns.is_empty()
    }

    /// Adds a call's record.
    pub(super) fn push(&mut self, record: &Record, spelled: &Spelled) {
        let caller = &record.context.caller;
        let parts = Parts {
            tenant: caller.tenant(),
            request: &record.context.id,
            user: caller.user.as_deref().unwrap_or_default(),
            meta: &spelled.meta,
            content: &spelled.content,
        };
        let at = record.at.duration_since(std::time::UNIX_EPOCH).map_or(0, |at| at.as_micros() as i64);
        let kind = if record.replay_of.is_some() { Kind::Replay } else { Kind::Call };
        self.add(kind, at, &parts);
        self.log.extend_from_slice(&spelled.log);
    }

    pub(super) fn add(&mut self, kind: Kind, at: i64, parts: &Parts<'_>) {
        let texts = [short(parts.tenant), short(parts.request), short(parts.user)].map(str::as_bytes);
        let [tenant, request, user] = texts;
        let all = [tenant, request, user, parts.meta, parts.content];
        all.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.entries.push(Entry { kind, at, lengths: all.map(|part| part.len() as u32), unanswered: false });
    }

    /// The entries with their parts.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Entry, Parts<'_>)> {
        let mut rest = &self.bytes[..];
        self.entries.iter().map(move |entry| {
            let [tenant, request, user, meta, content] = entry.lengths.map(|length| {
                let (part, after) = rest.split_at(length as usize);
                rest = after;
                part
            });
            // They were texts when they were put here.
            let text = |part| std::str::from_utf8(part).unwrap_or_default();
            (entry, Parts { tenant: text(tenant), request: text(request), user: text(user), meta, content })
        })
    }

    /// Tells all who wait, of records from one on, that these are not there, and has the records say so. Those before it
    /// are.
    pub(super) fn fail(&mut self, from: usize) {
        for entry in self.entries.iter_mut().skip(from) {
            entry.unanswered = matches!(entry.kind, Kind::Call | Kind::Replay);
        }
        self.decide(from);
    }

    /// Tells all who wait that so many of the records are there. The first word counts.
    pub(super) fn decide(&self, there: usize) {
        self.commit.decide(there);
        self.others.iter().for_each(|(place, commit)| commit.decide(if *place < there { ALL } else { 0 }));
    }

    /// Empties it, and keeps little.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.others.clear();
        self.turns.clear();
        for part in [&mut self.bytes, &mut self.log] {
            part.clear();
            part.shrink_to(LARGE);
        }
        self.commit = Arc::default();
    }
}

/// More than this is not kept for the next records, in bytes.
const LARGE: usize = 4 << 20;
