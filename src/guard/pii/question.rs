//! A whole question: all its texts are searched before any is changed, so that
//! a value has one placeholder wherever it stands, and none that the caller wrote himself.
use std::{borrow::Cow, collections::HashMap, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};

use super::{
    Finding, Kind, Mode, Pii, escape,
    led::{self, Led},
    looks::goes_on,
    mask::{MOST_DIGITS, Vault},
    text::{ceil, floor},
    texts,
};
use crate::chat::Request;

/// How texts of a question are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Words of people, documents and tools: searched.
    Words,
    /// What a tool gave back: searched. It may be spelled for programs.
    Told,
    /// JSON text: searched; a number becomes a string.
    Json,
    /// Signed to the letter: only what was masked elsewhere is masked, as it was when the model wrote it.
    Signed,
}

/// Which numbers placeholders get.
pub struct Numbering<'a> {
    /// Texts that come to the question later: what they write themselves stays what it is.
    pub prompts: &'a [&'a str],
    /// The numbers that documents give to a label themselves.
    pub taken: &'a dyn Fn(&str) -> Vec<u32>,
    /// The key of a conversation: in all its turns a value has the same number. Without one they are counted from 1.
    pub key: Option<[u8; 32]>,
}

impl std::fmt::Debug for Numbering<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Numbering").finish_non_exhaustive()
    }
}

/// How much of a text beside another is searched together with that one, in bytes.
const SEAM: usize = 4096;

/// A place where something is to be masked.
struct Spot {
    /// The number of the text.
    text: usize,
    range: Range<usize>,
    /// Which of the values.
    value: usize,
    /// Whether the value begins in a text before this one, and has its placeholder there.
    rest: bool,
}

/// What the texts of a question hold.
pub struct Survey<'p> {
    pii: &'p Pii,
    texts: usize,
    /// Where something is to be masked; in the order of the texts.
    spots: Vec<Spot>,
    /// Where in which text a value that others are part of takes their place.
    covered: Vec<(usize, Range<usize>)>,
    /// Values that the text before theirs announces.
    led: Vec<Led>,
    /// What is to be masked.
    values: Vec<(Kind, String)>,
    /// The place of each in the vault.
    places: Vec<usize>,
    counts: HashMap<Kind, u32>,
    vault: Vault,
    known: Option<AhoCorasick>,
}

impl std::fmt::Debug for Survey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").finish_non_exhaustive()
    }
}

impl<'p> Survey<'p> {
    /// Searches all texts of a question; those of the system where they are to be searched.
    pub fn of(pii: &'p Pii, chat: &Request) -> Self {
        let mut survey = Self {
            pii,
            texts: 0,
            spots: Vec::new(),
            covered: Vec::new(),
            led: Vec::new(),
            values: Vec::new(),
            places: Vec::new(),
            counts: HashMap::new(),
            vault: Vault::default(),
            known: None,
        };
        texts::each(chat, pii.system, &mut |text, name, trust| survey.look(text, name, trust));
        let alone = survey.spots.len();
        texts::neighbours(chat, pii.system, &mut |row| survey.across(row));
        survey.give_way(alone);
        survey.spots.sort_by_key(|spot| (spot.text, spot.range.start));
        survey.take_led();
        survey
    }

    /// Puts placeholders in the place of all that is to be masked. Gives back the values.
    pub fn mask(mut self, chat: &mut Request, numbering: &Numbering<'_>) -> Result<Vault, String> {
        // What the system's texts say is part of the conversation, searched or not.
        texts::each(chat, true, &mut |text, _, _| self.reserve(text));
        numbering.prompts.iter().for_each(|text| self.reserve(text));
        for kind in self.counts.keys() {
            let taken = (numbering.taken)(self.pii.rules.names(*kind).1);
            taken.iter().for_each(|number| self.vault.reserve(*kind, *number));
        }
        self.vault.number_by(numbering.key);
        self.settle()?;
        texts::each_mut(chat, self.pii.system, &mut |text, trust| {
            if let Some(masked) = self.masked(text, trust) {
                *text = masked;
            }
        });
        Ok(self.vault)
    }

    /// Searches the next text. `name` is the name of the field it stands in, where it has one: it may announce it.
    fn look(&mut self, text: &str, name: Option<&str>, trust: Trust) {
        let number = self.texts;
        self.texts += 1;
        if trust == Trust::Signed {
            return;
        }
        let found = match name.filter(|_| text.bytes().any(|b| b.is_ascii_digit())) {
            None => self.pii.in_question(text),
            Some(name) => {
                let before = name.len() + 2;
                let found = self.pii.in_question(&format!("{name}: {text}")).into_iter();
                let within = found.filter(|found| found.range.start >= before);
                within
                    .map(|found| Finding {
                        kind: found.kind,
                        range: found.range.start - before..found.range.end - before,
                    })
                    .collect()
            }
        };
        for found in found {
            let value = text.get(found.range.clone()).unwrap_or_default();
            let value = spelled(value, found.kind, trust);
            if let Some(value) = self.take(found.kind, value) {
                self.spots.push(Spot { text: number, range: found.range, value, rest: false });
            }
        }
    }

    /// Counts what was found; the number of its value where it is to be masked.
    fn take(&mut self, kind: Kind, value: Cow<'_, str>) -> Option<usize> {
        *self.counts.entry(kind).or_default() += 1;
        (self.pii.mode(kind) == Mode::Mask).then(|| {
            self.values.push((kind, value.into_owned()));
            self.values.len() - 1
        })
    }

    /// Takes what the text before announces, where nothing else was found.
    fn take_led(&mut self) {
        let known = self.spots.len();
        for Led { text, range, kind, value } in std::mem::take(&mut self.led) {
            let before = |spot: &Spot| (spot.text, spot.range.end) <= (text, range.start);
            let next = self.spots[..known].get(self.spots[..known].partition_point(before));
            let met = next.is_some_and(|spot| spot.text == text && spot.range.start < range.end);
            if let Some(value) = (!met).then(|| self.take(kind, value.into())).flatten() {
                self.spots.push(Spot { text, range, value, rest: false });
            }
        }
        if self.spots.len() > known {
            self.spots.sort_by_key(|spot| (spot.text, spot.range.start));
        }
    }

    /// Searches texts that stand side by side as one: a value may begin in one and end in another. What one of them
    /// shows by itself is known already.
    fn across(&mut self, row: &[(usize, &str)]) {
        for pair in row.windows(2) {
            self.led.extend(led::value(self.pii, pair[0].1, pair[1]));
        }
        let mut joined = String::new();
        // Where a piece is in `joined`, which text it is of, and where it begins there.
        let mut pieces: Vec<(Range<usize>, usize, usize)> = Vec::new();
        let last = row.len() - 1;
        for (at, (number, text)) in row.iter().enumerate() {
            // Of a long text its two ends are enough.
            let parts = if text.len() <= 2 * SEAM {
                [Some(0..text.len()), None]
            } else {
                let (head, tail) = (floor(text, SEAM), ceil(text, text.len() - SEAM));
                [Some(0..head).filter(|_| at > 0), Some(tail..text.len()).filter(|_| at < last)]
            };
            for (second, part) in parts.into_iter().enumerate().filter_map(|(n, part)| Some((n, part?))) {
                if second == 1 {
                    self.joined(&joined, &pieces);
                    joined.clear();
                    pieces.clear();
                }
                let begin = joined.len();
                joined.push_str(&text[part.clone()]);
                pieces.push((begin..joined.len(), *number, part.start));
            }
        }
        self.joined(&joined, &pieces);
    }

    /// Lets those of the first `alone` spots go that are part of a value over several texts: in one pass, however
    /// many there are.
    fn give_way(&mut self, alone: usize) {
        if self.covered.is_empty() {
            return;
        }
        self.covered.sort_unstable_by_key(|(text, range)| (*text, range.start));
        let mut at = 0;
        self.spots.retain(|spot| {
            at += 1;
            let before =
                |(text, range): &(usize, Range<usize>)| (*text, range.end) <= (spot.text, spot.range.start);
            let next = self.covered.get(self.covered.partition_point(before));
            let meets = next.is_some_and(|(text, range)| *text == spot.text && range.start < spot.range.end);
            at > alone || !meets
        });
    }

    /// Takes what is found in pieces that were put together, and in none of them alone.
    fn joined(&mut self, joined: &str, pieces: &[(Range<usize>, usize, usize)]) {
        if pieces.len() < 2 {
            return;
        }
        let place = |at: usize, piece: &(Range<usize>, usize, usize)| at - piece.0.start + piece.2;
        for found in self.pii.in_question(joined) {
            let meets = |range: &Range<usize>| range.start < found.range.end && found.range.start < range.end;
            let first = pieces.partition_point(|piece| piece.0.end <= found.range.start);
            let within = pieces[first..].iter().take_while(|piece| piece.0.start < found.range.end);
            let within: Vec<_> = within.filter(|piece| meets(&piece.0)).collect();
            if within.len() < 2 {
                continue;
            }
            // What the pieces show there by themselves.
            let alone: Vec<Finding> = within
                .iter()
                .flat_map(|piece| {
                    let found = self.pii.in_question(&joined[piece.0.clone()]).into_iter();
                    found.filter(|other| {
                        meets(&(other.range.start + piece.0.start..other.range.end + piece.0.start))
                    })
                })
                .collect();
            // A checksum over all knows better than what a piece looks like.
            let known = alone.iter().any(|other| other.kind.rank() <= found.kind.rank());
            let rest = joined.get(within[0].0.end..found.range.end).unwrap_or_default();
            if known && !(found.kind == Kind::Secret && alone.len() == 1 && goes_on(rest)) {
                continue;
            }
            let value = spelled(&joined[found.range.clone()], found.kind, Trust::Words);
            let Some(value) = self.take(found.kind, value) else { continue };
            for (at, piece) in within.into_iter().enumerate() {
                let start = place(found.range.start.max(piece.0.start), piece);
                let end = place(found.range.end.min(piece.0.end), piece);
                if !alone.is_empty() {
                    self.covered.push((piece.1, start..end));
                }
                self.spots.push(Spot { text: piece.1, range: start..end, value, rest: at > 0 });
            }
        }
    }

    /// What was found, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, u32)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Whether anything is to be masked.
    pub fn masks(&self) -> bool {
        !self.values.is_empty()
    }

    /// Keeps free the placeholders that a text has itself. For every text, before [`Self::settle`].
    fn reserve(&mut self, text: &str) {
        for kind in self.counts.keys() {
            let label = self.pii.rules.names(*kind).1;
            for at in own(text, label) {
                let rest = text[at..].trim_start_matches(['\\', '_', ' ', '-']);
                let digits = rest.bytes().take(MOST_DIGITS).take_while(u8::is_ascii_digit).count();
                if let Ok(number) = rest[..digits].parse() {
                    self.vault.reserve(*kind, number);
                }
            }
        }
    }

    /// Gives every value its placeholder.
    fn settle(&mut self) -> Result<(), String> {
        self.places = vec![usize::MAX; self.values.len()];
        // Numbers follow the order of the texts.
        for spot in &self.spots {
            let (kind, value) = &self.values[spot.value];
            self.places[spot.value] = self.vault.put(self.pii, *kind, value);
        }
        let values = self.vault.entries().iter().map(|entry| &entry.value);
        let known = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(values);
        self.known = Some(known.map_err(|error| error.to_string())?);
        self.texts = 0;
        Ok(())
    }

    /// The next text with its placeholders; `None` where it stays as it is. In the same order as [`Self::look`].
    fn masked(&mut self, text: &str, trust: Trust) -> Option<String> {
        let number = self.texts;
        self.texts += 1;
        let own = self.spots.partition_point(|spot| spot.text < number)
            ..self.spots.partition_point(|spot| spot.text <= number);
        let own = &self.spots[own];
        let mut ranges: Vec<_> = own.iter().map(|spot| (spot.range.clone(), Some(spot))).collect();
        for found in self.known.iter().flat_map(|known| known.find_iter(text)) {
            let range = found.range();
            let beside = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
            let alone =
                beside(text[..range.start].chars().next_back()) && beside(text[range.end..].chars().next());
            // What was found where it stands goes before a value that is only equal to another.
            let next = own.partition_point(|spot| spot.range.end <= range.start);
            if alone && own.get(next).is_none_or(|spot| spot.range.start >= range.end) {
                ranges.push((range, None));
            }
        }
        if ranges.is_empty() {
            return None;
        }
        ranges.sort_by_key(|(range, _)| range.start);
        let (mut masked, mut at) = (String::with_capacity(text.len()), 0);
        for (range, spot) in ranges.into_iter().filter(|(range, _)| !range.is_empty()) {
            let placeholder = match spot {
                Some(spot) => {
                    self.vault.entries().get(self.places[spot.value]).map(|entry| &*entry.placeholder)
                }
                None => self.vault.placeholder(&text[range.clone()]),
            };
            let Some(placeholder) = placeholder.filter(|_| range.start >= at) else { continue };
            if spot.is_some_and(|spot| spot.rest) {
                masked.push_str(&text[at..range.start]);
                at = range.end;
                // A provider may refuse a part that says nothing.
                if masked.trim().is_empty() && text[at..].trim().is_empty() {
                    masked.push_str(placeholder);
                }
                continue;
            }
            masked.push_str(&text[at..range.start]);
            let after = &text[range.end..];
            let number = trust == Trust::Json
                && text[..range.start].trim_end().ends_with([':', ',', '['])
                && after.trim_start().starts_with([',', '}', ']'])
                && text[range.clone()].bytes().all(|b| b.is_ascii_digit());
            let quote = if number { "\"" } else { "" };
            masked.extend([quote, placeholder, quote]);
            at = range.end;
        }
        masked.push_str(&text[at..]);
        Some(masked)
    }
}

/// What a value is to its caller: in JSON, and in what a tool gave back, without escapes.
fn spelled(value: &str, kind: Kind, trust: Trust) -> Cow<'_, str> {
    match trust {
        Trust::Json if value.contains('\\') => {
            let read = serde_json::from_str(&format!("\"{value}\""));
            read.map_or(Cow::Borrowed(value), Cow::Owned)
        }
        // A secret may have what looks like one.
        Trust::Told if kind != Kind::Secret => escape::plain(value),
        _ => Cow::Borrowed(value),
    }
}

/// Where a label ends in a text that may be part of a placeholder.
fn own<'t>(text: &'t str, label: &'t str) -> impl Iterator<Item = usize> + 't {
    let first = label.as_bytes()[0];
    let starts = memchr::memchr2_iter(first, first.to_ascii_lowercase(), text.as_bytes());
    starts.filter_map(move |at| {
        let end = at + label.len();
        text.get(at..end).filter(|word| word.eq_ignore_ascii_case(label)).map(|_| end)
    })
}
