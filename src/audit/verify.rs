//! Checks that no record was changed, removed, moved or cut off.
//!
//! Each chain is walked link by link, in the database and then in the
//! journal. Words that are gone need a record of their erasure, a beginning
//! that is gone needs a record of the cut, and the end has to reach the anchors.
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use uuid::Uuid;

use super::{
    anchor::Anchor,
    archive::Archive,
    beside,
    chain::{Hash, Key, unhex},
    claims::{Claims, MOST_ERASED},
    erase::{Cut, Erasure, said},
    frame::{Frame, Kind, frames},
    journal::{self, Head, Rest, Segment},
    watermark::{self, Noted, Told},
};

/// Faults that are told of one chain; more are counted.
const MOST_FAULTS: usize = 20;

/// What a report is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// A chain of records.
    Chain(Uuid),
    /// What is in the journal's folder and of no chain that is known.
    Folder,
    /// What the database says beside the records.
    Database,
}

impl From<Uuid> for About {
    fn from(chain: Uuid) -> Self {
        Self::Chain(chain)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(chain) => write!(f, "chain {chain}"),
            Self::Folder => f.write_str("the journal's folder"),
            Self::Database => f.write_str("the database"),
        }
    }
}

/// Who tells of a record besides the records themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Witness {
    Anchor,
    Watermark,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anchor => "an anchor",
            Self::Watermark => "the `watermark` beside the journal",
        })
    }
}

/// What was found of a chain, or of what stands beside the chains.
#[derive(Debug)]
pub struct Report {
    /// Of what.
    pub about: About,
    /// Its records.
    pub records: u64,
    /// Those whose words were erased.
    pub erased: u64,
    /// The first and the last number.
    pub span: (u64, u64),
    /// What is wrong, and where; the first of many.
    pub faults: Vec<String>,
    /// How much is wrong.
    pub wrong: u64,
    /// What may be wrong, and nobody can tell; the first of many.
    pub doubts: Vec<String>,
    /// What is known to have happened, and is no fault; the first of many.
    pub notes: Vec<String>,
}

impl Report {
    fn new(about: About) -> Self {
        let (faults, doubts, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { about, records: 0, erased: 0, span: (0, 0), faults, wrong: 0, doubts, notes }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrong += 1;
        some(&mut self.faults, what);
    }
}

/// Adds a line, unless there are many.
pub(super) fn some(lines: &mut Vec<String>, line: String) {
    if lines.len() < MOST_FAULTS {
        lines.push(line);
    }
}

/// The report of a chain, or of what stands beside them.
pub(super) fn of(reports: &mut Vec<Report>, about: About) -> &mut Report {
    let at = reports.iter().position(|report| report.about == about).unwrap_or_else(|| {
        reports.push(Report::new(about));
        reports.len() - 1
    });
    &mut reports[at]
}

/// Says what is wrong, in the report of what it is.
pub(super) fn blame(reports: &mut Vec<Report>, about: impl Into<About>, what: String) {
    of(reports, about.into()).wrong(what);
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.span;
        write!(f, "{}", self.about)?;
        match (self.about, self.records) {
            (About::Chain(_), 0) => f.write_str(": no records")?,
            (About::Chain(_), 1) => write!(f, ": 1 record, {first}")?,
            (About::Chain(_), many) => write!(f, ": {many} records, {first} to {last}")?,
            (About::Folder | About::Database, _) => {}
        }
        if self.erased > 0 {
            write!(f, ", {} of them erased", self.erased)?;
        }
        let verdict = match (self.wrong, self.doubts.is_empty(), self.about) {
            (0, true, _) => "sound",
            (0, false, About::Chain(_)) => "sound but for its end, which is IN DOUBT",
            (0, false, _) => "IN DOUBT",
            _ => "NOT SOUND",
        };
        writeln!(f, ": {verdict}")?;
        let lines = self.faults.iter().chain(&self.doubts).chain(&self.notes);
        lines.into_iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        match self.wrong.saturating_sub(self.faults.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// A walk along one chain.
struct Walk<'a> {
    key: &'a Key,
    chain: Uuid,
    report: Report,
    head: Option<Head>,
    /// Records that are told of elsewhere, which were not come across yet.
    told: BTreeMap<u64, (Hash, Witness)>,
    all: &'a mut Claims,
}

impl Walk<'_> {
    fn wrong(&mut self, what: String) {
        self.report.wrong(what);
    }

    fn step(&mut self, frame: &Frame<'_>) {
        let (seq, chain) = (frame.seq, self.chain);
        match self.head {
            None => {
                self.report.span.0 = seq;
                if seq > 1 {
                    self.all.cut_at = self.all.cut_at.max(Some(frame.at));
                }
                let (key, link, owned) = (self.key.clone(), frame.hash, Owned::of(frame));
                let first =
                    move |before: &Hash| owned.frame().is_some_and(|frame| frame.link(&key, before) == link);
                self.all.firsts.insert(chain, (seq, Box::new(first)));
            }
            Some(head) if seq != head.seq + 1 => {
                self.wrong(match seq > head.seq {
                    true if seq == head.seq + 2 => format!("record {} is missing", head.seq + 1),
                    true => format!("records {} to {} are missing", head.seq + 1, seq - 1),
                    false => format!("record {seq} stands after record {}", head.seq),
                });
            }
            Some(head) => {
                if frame.link(self.key, &head.hash) != frame.hash {
                    self.wrong(format!("record {seq} was changed, or does not follow record {}", head.seq));
                }
            }
        }
        match &frame.content {
            Some(content) if content.hash() != frame.content_hash => {
                self.wrong(format!("what record {seq} says was changed"));
            }
            Some(_) => {}
            None => {
                self.report.erased += 1;
                let whose = (frame.tenant.to_owned(), frame.user);
                if self.all.gone.len() < MOST_ERASED || self.all.gone.contains_key(&whose) {
                    let last = self.all.gone.entry(whose).or_insert((i64::MIN, chain, seq));
                    if frame.at > last.0 {
                        *last = (frame.at, chain, seq);
                    }
                } else {
                    self.wrong("more users were erased than can be checked".to_owned());
                }
            }
        }
        match frame.kind {
            Kind::Call | Kind::Replay => {}
            Kind::Act => {
                let notes = &mut self.report.notes;
                beside::notes(seq, &frame.json()).for_each(|note| some(notes, note));
            }
            Kind::Erasure => {
                if let Some(erasure) = said::<Erasure>(&frame.json()) {
                    if let Some(user) = unhex(&erasure.user) {
                        let whose = (erasure.tenant.clone(), user);
                        let known = self.all.erasures.entry(whose).or_insert(erasure.until);
                        *known = erasure.until.max(*known);
                    }
                    if self.all.erased.len() < MOST_ERASED {
                        self.all.erased.insert(erasure.erasure.to_string(), (chain, seq, erasure));
                    }
                }
            }
            Kind::Cut => {
                if let Some(Cut { cut, through, hash }) = said(&frame.json()) {
                    let known = self.all.cuts.entry(cut).or_insert((0, None));
                    *known = (*known).max((through, unhex(&hash)));
                }
            }
        }
        if let Some((_, witness)) = self.told.remove(&seq).filter(|(hash, _)| *hash != frame.hash) {
            self.wrong(format!("record {seq} is not the one that {witness} tells of"));
        }
        self.head = Some(Head { seq, hash: frame.hash });
        self.report.records += 1;
        self.report.span.1 = seq;
    }
}

/// A record that outlives the bytes it stood in.
struct Owned(Vec<u8>);

impl Owned {
    fn of(frame: &Frame<'_>) -> Self {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        Self(bytes)
    }

    fn frame(&self) -> Option<Frame<'_>> {
        Frame::read(&self.0).map(|(frame, _)| frame)
    }
}

/// Checks all chains: of the database, and of the journal's folder. Takes a second more where the journal's end cannot
/// be read, or not all that is noted of it: it may be written just now.
///
/// # Errors
/// Something could not be read, in words.
pub async fn verify(
    archive: &Archive,
    folder: Option<&Path>,
    anchors: &[Anchor],
) -> Result<Vec<Report>, String> {
    let failed = |error: crate::store::sql::Failed| error.to_string();
    let broken = |error: std::io::Error| format!("the journal: {error}");
    let mut claims = Claims::default();
    let mut reports = Vec::new();
    // First, because all that they tell of is there by now.
    let Told { noted, filed: mark, unreadable } = match folder {
        Some(folder) => told(folder, archive.key()).await,
        None => Told::default(),
    };
    let asked = archive.erasures(MOST_ERASED).await.map_err(failed)?;
    let known = archive.chains().await.map_err(failed)?;
    let segments = match folder.filter(|folder| folder.exists()) {
        Some(folder) => journal::segments(folder).map_err(broken)?,
        None => Vec::new(),
    };
    let has_chains = !known.is_empty();
    let mut chains: Vec<(Uuid, Option<i64>, String)> =
        known.into_iter().map(|chain| (chain.name, Some(chain.id), chain.key)).collect();
    for (_, path) in &segments {
        if let Ok(Some((chain, _))) = journal::head(path)
            && !chains.iter().any(|(name, ..)| *name == chain)
        {
            chains.push((chain, None, archive.key().name().to_owned()));
        }
    }
    for (chain, id, key) in chains {
        let report = Report::new(About::Chain(chain));
        let most_noted = noted.iter().filter(|noted| noted.chain == chain).map(|noted| noted.head.seq).max();
        let (told, forks) = witnessed(chain, anchors, &noted);
        let all = &mut claims;
        let mut walk = Walk { key: archive.key(), chain, report, head: None, told, all };
        for (seq, one, other) in forks {
            walk.wrong(format!("{one} and {other} tell of two different records with the number {seq}"));
        }
        if key != archive.key().name() {
            let own = archive.key().name();
            walk.wrong(format!(
                "it was made with another key (`{key}`), and cannot be checked with this one (`{own}`): is this the \
                 gateway's `audit.key`, or `auth.pepper`?"
            ));
            reports.push(walk.report);
            continue;
        }
        // What is moved while we look is in the database when it is no longer in the journal.
        loop {
            let before = walk.head;
            if let Some(id) = id {
                let mut after = walk.head.map_or(0, |head| head.seq);
                while let Some(stored) = archive.stored(id, after).await.map_err(failed)? {
                    after = stored.first();
                    frames(&stored.frames).for_each(|(_, frame)| walk.step(&frame));
                    if let Some(fault) = stored.fault() {
                        walk.wrong(fault);
                    }
                }
            }
            let moved = mark.filter(|mark| mark.chain == chain).map(|mark| mark.head.seq);
            let end = walk.head.map_or(0, |head| head.seq);
            if before.is_none()
                && let Some(moved) = moved.filter(|moved| *moved > end)
            {
                walk.wrong(format!(
                    "the database had records up to {moved}, as the `watermark` beside the journal tells, and {}",
                    if end == 0 { "has none now".to_owned() } else { format!("ends with record {end}") }
                ));
            }
            let gap = journal_of(&mut walk, chain, &segments, most_noted).await.map_err(broken)?;
            if !gap || before == walk.head {
                break;
            }
        }
        let end = walk.head.map_or(0, |head| head.seq);
        let first = walk.report.span.0;
        let beyond = walk.told.iter().rev().find(|(seq, _)| **seq > end || **seq >= first);
        if let Some((most, (_, witness))) = beyond {
            walk.all.beyond.insert(chain, (*most, end, *witness));
        }
        reports.push(walk.report);
    }
    claims.hold(&mut reports);
    beside::lost(&mut reports, anchors, &noted);
    for number in archive.nameless().await.map_err(failed)? {
        let what = format!(
            "there are blocks of records (`audit_blocks`) of the chain number {number}, which has no row in \
             `audit_chains` any more"
        );
        blame(&mut reports, About::Database, what);
    }
    // Again: a row is there before its record.
    let rows = archive.erasures(MOST_ERASED).await.map_err(failed)?;
    claims.asked(&asked, &rows, &mut reports);
    let aside = folder.filter(|folder| folder.exists()).map_or(Ok(Vec::new()), journal::damaged);
    beside::damaged(&aside.map_err(broken)?, &segments, &mut reports);
    if let Some(folder) = folder.filter(|folder| folder.exists()) {
        beside::unnoted(folder, archive.key(), &noted, has_chains, &mut reports).map_err(broken)?;
        beside::unreadable(&segments, &noted, unreadable, &mut reports);
    }
    Ok(reports)
}

/// How often the newest segment, or what is noted beside it, is read again that cannot be read, and how long each time waits.
const AGAIN: u32 = 10;
const WAIT: Duration = Duration::from_millis(100);

/// Records of a chain that are told of elsewhere, and those that two tell of as different ones, with the two.
type Witnessed = (BTreeMap<u64, (Hash, Witness)>, Vec<(u64, Witness, Witness)>);

fn witnessed(chain: Uuid, anchors: &[Anchor], noted: &[Noted]) -> Witnessed {
    let anchored = anchors.iter().filter(|anchor| anchor.chain == chain);
    let anchored = anchored.filter_map(|anchor| Some((anchor.seq, (unhex(&anchor.hash)?, Witness::Anchor))));
    let noted = noted.iter().filter(|noted| noted.chain == chain && noted.head.seq > 0);
    let noted = noted.map(|noted| (noted.head.seq, (noted.head.hash, Witness::Watermark)));
    let (mut told, mut forks) = (BTreeMap::new(), Vec::new());
    for (seq, (hash, witness)) in anchored.chain(noted) {
        match told.insert(seq, (hash, witness)) {
            Some((before, other)) if before != hash => forks.push((seq, other, witness)),
            // What was kept elsewhere says more than what stands beside.
            Some(before) => drop(told.insert(seq, before)),
            None => {}
        }
    }
    (told, forks)
}

/// What is noted beside the journal. A gateway may be writing it: what cannot be read is read again.
async fn told(folder: &Path, key: &Key) -> Told {
    let mut told = watermark::read(folder, key);
    for _ in 0..AGAIN {
        if told.unreadable == 0 {
            break;
        }
        tokio::time::sleep(WAIT).await;
        told = watermark::read(folder, key);
    }
    told
}

/// Reads a segment. Where it is the newest one, a gateway may be writing to its end: that is waited for.
async fn settled(path: &Path, newest: bool) -> std::io::Result<Option<Segment>> {
    let mut segment = Segment::read(path)?;
    for _ in 0..if newest { AGAIN } else { 0 } {
        if segment.as_ref().is_none_or(|segment| segment.end(u64::MAX).1 == Rest::Nothing) {
            break;
        }
        tokio::time::sleep(WAIT).await;
        segment = Segment::read(path)?;
    }
    Ok(segment)
}

/// Goes on in the journal. Tells whether it begins further on: then the records in between have been moved meanwhile.
/// `noted` is the last record that it is noted to have had.
async fn journal_of(
    walk: &mut Walk<'_>,
    chain: Uuid,
    segments: &[(u64, PathBuf)],
    noted: Option<u64>,
) -> std::io::Result<bool> {
    let mut paths = segments.iter().map(|(_, path)| path).peekable();
    while let Some(path) = paths.next() {
        let segment = match settled(path, paths.peek().is_none()).await {
            Ok(Some(segment)) if segment.chain == chain => segment,
            Ok(_) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let most = match paths.peek() {
            Some(path) => {
                let next = journal::head(path).ok().flatten().filter(|(next, _)| *next == chain);
                next.map_or(u64::MAX, |(_, head)| head.seq)
            }
            None => u64::MAX,
        };
        let seen = walk.head.map_or(0, |head| head.seq);
        if segment.before.seq > seen && seen > 0 {
            walk.wrong(format!("records {} to {} are missing", seen + 1, segment.before.seq));
        }
        let fresh = segment.frames(0).take_while(|(frame, _)| frame.seq <= most);
        for (frame, _) in fresh.filter(|(frame, _)| frame.seq > seen) {
            walk.step(&frame);
        }
        let first = walk.head.map_or(0, |head| head.seq) + 1;
        let (end, rest) = segment.end(most);
        // The next start finds it so as well, and keeps it aside, whatever the database has of it.
        let gone = match rest {
            Rest::Changed { last } if most == u64::MAX => Some(last),
            _ => noted.filter(|noted| paths.peek().is_none() && *noted > end.seq),
        };
        if let Some(last) = gone.filter(|last| *last < first) {
            walk.wrong(format!(
                "the journal is damaged: records {} to {last} cannot be read there; the database has them",
                end.seq + 1
            ));
            continue;
        }
        let (last, torn) = match rest {
            Rest::Nothing => continue,
            Rest::Torn { bytes, last } => (last, Some(bytes)),
            Rest::Changed { last } => (last, None),
        };
        if first > last.min(most) {
            // It is in the database, or never counted.
            continue;
        }
        let promised = most < u64::MAX || walk.told.keys().any(|told| *told >= first);
        let which = match first == last {
            true => format!("record {first}"),
            false => format!("a part of the records {first} to {last}"),
        };
        if let Some(bytes) = torn.filter(|_| !promised) {
            let doubt = format!(
                "{which} cannot be read ({bytes} bytes): it was being written when the gateway stopped, and then \
                 nobody was promised it, or it was changed or cut off since"
            );
            some(&mut walk.report.doubts, doubt);
        } else {
            walk.wrong(format!("the journal is damaged: {which} cannot be read"));
        }
    }
    Ok(false)
}
