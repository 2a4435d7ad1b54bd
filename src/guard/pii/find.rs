//! The search: candidates first, each judged by the recogniser of its type, then overlaps resolved.
use std::{borrow::Cow, ops::Range};

use super::{
    birth, card, email,
    fold::Folded,
    iban, key,
    kind::Kind,
    login, national, network, people, phone, secret,
    settings::Custom,
    text::{Found, Groups, Text},
    wallet,
    words::{Class, Hit},
};

/// What is looked for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The types, each by its bit.
    pub kinds: u64,
    /// Whether a word behind a value may announce it.
    pub ahead: bool,
    /// Whether numbers written like cards and social security numbers count whatever their check digits say.
    pub shapes: bool,
}

impl Wanted {
    pub(super) fn has(self, kind: Kind) -> bool {
        self.kinds & kind.bit() != 0
    }
}

/// Finds what is wanted, in order and without overlaps.
pub(super) fn find(text: &str, wanted: Wanted, customs: &[Custom]) -> Vec<(Kind, Range<usize>)> {
    look(text, 0, wanted, customs, true).0
}

/// The same for a text that may go on and was judged up to `from`, and the place from which on a finding
/// may still be under way. Numbers before `from` need not be found again.
pub(super) fn look(
    text: &str,
    from: usize,
    wanted: Wanted,
    customs: &[Custom],
    ended: bool,
) -> (Vec<(Kind, Range<usize>)>, usize) {
    let folded = Folded::new(text, wanted.ahead);
    let people = wanted.has(Kind::Person) || wanted.has(Kind::Address);
    let view = Text::new(&folded.text, folded.numbers, people, wanted.ahead);
    let mut found = Vec::new();
    words(&view, wanted, &mut found);
    if wanted.has(Kind::Secret) {
        columns(&view, &mut found);
    }
    if view.numbers {
        let unfolded = matches!(folded.text, Cow::Borrowed(_));
        let from = if unfolded { super::open::resume(view.bytes, from) } else { 0 };
        numbers(&view, from, wanted, &mut found);
    }
    for (at, custom) in customs.iter().enumerate() {
        let kind = Kind::Custom(at as u8);
        if wanted.has(kind) {
            let ranges = custom.find(&folded.text);
            found.extend(ranges.map(|range| Found { kind, start: range.start, end: range.end }));
        }
    }
    if !wanted.ahead {
        found.iter_mut().for_each(|found| from_digits(&view, found));
    }
    let open = if ended { view.bytes.len() } else { super::open::open(&view, wanted, customs) };
    let found = resolved(found).into_iter();
    let found = found.map(|found| (found.kind, folded.original(found.start, found.end))).collect();
    (found, folded.original(open, open).start)
}

/// In an answer the letters that a number begins with are no part of it, such
/// as the country of an account: any word could be such letters, and would have to wait.
fn from_digits(text: &Text<'_>, found: &mut Found) {
    if matches!(found.kind, Kind::Iban | Kind::Nino | Kind::Passport) {
        let digits = text.bytes[found.start..found.end].iter().position(u8::is_ascii_digit);
        found.start += digits.unwrap_or_default();
    }
}

/// The place from which on a finding may still be under way, for a text in
/// which nothing is to be folded and no word announces or begins anything.
pub(super) fn open_quiet(text: &str, wanted: Wanted, customs: &[Custom]) -> usize {
    super::open::open(&Text::quiet(text), wanted, customs)
}

/// Asks every recogniser for each candidate that digits and at signs show.
fn numbers(text: &Text<'_>, from: usize, wanted: Wanted, found: &mut Vec<Found>) {
    for at in memchr::memchr_iter(b'@', text.bytes) {
        if wanted.has(Kind::Email) {
            found.extend(email::find(text, at));
        }
        if text.ahead && wanted.has(Kind::Secret) {
            found.extend(login::source(text, at));
        }
    }
    if wanted.has(Kind::Ip) {
        let mut next = 0;
        for at in memchr::memchr_iter(b':', text.bytes) {
            let beside = text.byte(at + 1);
            if at >= next && (beside == b':' || beside.is_ascii_hexdigit()) {
                let (end, ip) = network::v6(text, at);
                next = end;
                found.extend(ip);
            }
        }
    }
    let (mut at, mut dotted, mut dated) = (from, 0, 0);
    let mut before = None;
    while let Some(gap) = text.bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + gap;
        let groups = Groups::read(text, start);
        at = groups[0].end;
        word(text, start, at, before, wanted, found);
        before = Some(at);
        if matches!(text.byte(at), b':' | b'/') && wanted.has(Kind::Secret) {
            found.extend(key::numbered(text, start, at));
        }
        if start < dotted.max(dated) {
            continue;
        }
        if let Some((end, ip)) = network::v4(text, &groups) {
            dotted = end;
            found.extend(ip.filter(|_| wanted.has(Kind::Ip)));
            if ip.is_some() {
                continue;
            }
        }
        if let Some(end) = birth::numeric(text, &groups) {
            let born = birth::born(text, start, end).filter(|_| wanted.has(Kind::Birth));
            // What looks like a day is one, where nothing says otherwise.
            if born.is_some()
                || (groups[1..].first().is_none_or(|group| group.by != b' ')
                    && text.distance(Class::PHONE, start).is_none_or(|d| d > 24))
            {
                dated = end;
            }
            found.extend(born);
        }
        number(text, &groups, wanted, found, start < dated || start < dotted);
    }
}

/// What begins with these groups of digits.
fn number(text: &Text<'_>, groups: &Groups, wanted: Wanted, found: &mut Vec<Found>, taken: bool) {
    let mut ask = |kind: Kind, find: fn(&Text<'_>, &Groups) -> Option<Found>| {
        if wanted.has(kind) {
            found.extend(find(text, groups));
        }
    };
    ask(Kind::Card, card::find);
    ask(Kind::Ssn, national::ssn);
    ask(Kind::Birth, birth::spelled);
    ask(Kind::Birth, birth::compact);
    if wanted.shapes {
        ask(Kind::Card, card::shape);
        ask(Kind::Ssn, national::ssn_shape);
    }
    if !taken {
        ask(Kind::Nhs, national::nhs);
        ask(Kind::Phone, phone::find);
    }
}

/// What is a word with the digits at `start..end` in it; `before` is where the digits before these end.
fn word(
    text: &Text<'_>,
    start: usize,
    end: usize,
    before: Option<usize>,
    wanted: Wanted,
    found: &mut Vec<Found>,
) {
    if wanted.has(Kind::Passport) {
        found.extend(national::passport(text, start));
    }
    if wanted.has(Kind::Nino) {
        found.extend(national::nino(text, start));
    }
    if wanted.has(Kind::Iban) {
        found.extend(iban::find(text, start));
    }
    // Each word once, at its first digits.
    if before.is_some_and(|before| text.bytes[before..start].iter().all(u8::is_ascii_alphanumeric)) {
        return;
    }
    let (from, upto) = text.token(start);
    let first = !text.bytes[from..start].iter().any(u8::is_ascii_digit);
    if !first || upto - from == end - start {
        return;
    }
    if wanted.has(Kind::Wallet) {
        found.extend(wallet::find(text, from, upto));
    }
    if wanted.has(Kind::Secret) {
        found.extend(key::chance(text, from, upto));
    }
}

/// What words begin or announce.
fn words(text: &Text<'_>, wanted: Wanted, found: &mut Vec<Found>) {
    let secret = wanted.has(Kind::Secret);
    let (mut private_key, mut run, mut address, mut value) = (0, 0, 0, 0);
    let mut ends = key::Ends::default();
    for hit in &text.hits {
        // Within a word that was followed to its end none is followed again.
        if secret && hit.class.meets(Class::PREFIX) && hit.start >= run {
            let prefixed = key::prefixed(text, hit).map(|found| beyond(hit, found, wanted));
            run = prefixed.map_or_else(|| secret::run(text, hit.start), |found| found.end);
            found.extend(prefixed);
            found.extend(prefixed.and_then(|_| key::paired(text, hit)));
        }
        if secret
            && hit.class.meets(Class::PEM)
            && hit.start >= private_key
            && let Some(pem) = key::pem(text, hit.start, &mut ends)
        {
            private_key = pem.end;
            found.push(beyond(hit, pem, wanted));
        }
        if secret && hit.class.meets(Class::URL) && hit.start >= address {
            address = secret::run(text, hit.end);
            found.extend(login::address(text, hit.start, wanted.ahead));
        }
        if secret && hit.class.meets(Class::LOGIN) {
            found.extend(match login::is_command(text, hit) {
                true => login::command(text, hit),
                false => login::basic(text, hit.end, false),
            });
        }
        if secret && text.ahead && hit.class.meets(Class::PASSWORD) {
            found.extend(login::piped(text, hit));
        }
        if secret && hit.class.meets(Class::PASSWORD.or(Class::KEY).or(Class::FIELD)) && hit.start >= value {
            let announced = secret::announced(text, hit);
            // A short one may announce what comes next: `Authorization: Bearer …`.
            value = announced.map_or_else(|| secret::run(text, hit.end), |found| found.end);
            value = if value - hit.end > 64 { value } else { 0 };
            if wanted.ahead {
                found.extend(announced.as_ref().and_then(|first| secret::changed(text, first)));
            }
            found.extend(announced);
        }
        if wanted.has(Kind::Email) && hit.class.meets(Class::AT) {
            found.extend(email::hidden(text, hit));
        }
        if wanted.has(Kind::Person) && hit.class.meets(Class::PERSON) {
            found.extend(people::person(text, hit));
        }
        if wanted.has(Kind::Address) && hit.class.meets(Class::STREET) {
            found.extend(people::address(text, hit));
        }
    }
}

/// Passwords in the columns that a header says hold them.
fn columns(text: &Text<'_>, found: &mut Vec<Found>) {
    let kinds = Class::PASSWORD.or(Class::FIELD).or(Class::KEY);
    let cells = text.cells.iter().filter(|cell| cell.class.meets(kinds));
    found.extend(cells.filter_map(|cell| {
        secret::listed(text, cell.start, cell.end, cell.class.meets(Class::PASSWORD.or(Class::FIELD)))
    }));
}

/// In an answer the beginning by which a secret is known is no part of it.
fn beyond(hit: &Hit, found: Found, wanted: Wanted) -> Found {
    if wanted.ahead { found } else { Found { start: hit.end, ..found } }
}

/// Leaves of findings that overlap the one that knows best; of equals the earlier, then the longer.
fn resolved(mut found: Vec<Found>) -> Vec<Found> {
    if found.len() < 2 {
        return found;
    }
    found.sort_by_key(|found| (found.start, found.kind.rank(), usize::MAX - found.end));
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    for new in found {
        match kept.last() {
            Some(last) if new.start < last.end => {
                let wins = new.kind.rank() < last.kind.rank()
                    || (new.kind.rank() == last.kind.rank() && new.start == last.start && new.end > last.end);
                if wins {
                    kept.pop();
                    // What it pushed out may have pushed out others; those lie before it.
                    kept.push(new);
                }
            }
            _ => kept.push(new),
        }
    }
    kept
}
