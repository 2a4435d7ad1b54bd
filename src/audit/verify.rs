//! Checks that no record was changed, removed, moved or cut off.
//!
//! Each chain is walked link by link, in the database and then in the
//! journal. Words that are gone need a record of their erasure, a beginning
//! that is gone needs a record of the cut, and the end has to reach the anchors.
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    anchor::Anchor,
    archive::Archive,
    chain::{Hash, Key, unhex},
    erase::{Cut, Erasure, said},
    filing,
    frame::{Frame, Kind, UserRef, frames},
    journal::{self, Head, Segment},
};

/// Faults that are told of one chain; more are counted.
const MOST_FAULTS: usize = 20;
/// Users whose words are gone, that are held against the records of erasures.
const MOST_ERASED: usize = 1_000_000;

/// What was found of a chain.
#[derive(Debug)]
pub struct Report {
    /// The chain.
    pub chain: Uuid,
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
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.span;
        write!(f, "chain {}: {} records, {first} to {last}", self.chain, self.records)?;
        if self.erased > 0 {
            write!(f, ", {} of them erased", self.erased)?;
        }
        writeln!(f, ": {}", if self.wrong == 0 { "sound" } else { "NOT SOUND" })?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))?;
        match self.wrong.saturating_sub(self.faults.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// A walk along one chain.
struct Walk<'a> {
    key: &'a Key,
    report: Report,
    head: Option<Head>,
    /// The first record, and what stands before it, by its segment or by nothing.
    anchors: BTreeMap<u64, Hash>,
    all: &'a mut Claims,
}

/// What records say of others, in all chains.
#[derive(Default)]
struct Claims {
    /// Up to when a user's words were erased.
    erasures: HashMap<(String, UserRef), i64>,
    /// Up to which record a chain was cut, and that record's link.
    cuts: HashMap<Uuid, (u64, Option<Hash>)>,
    /// The last record of a user whose words are gone, and where it is.
    gone: HashMap<(String, UserRef), (i64, Uuid, u64)>,
    /// The first record of each chain, and whether it goes on from a link.
    firsts: HashMap<Uuid, First>,
    /// The last record that an anchor tells of and that is not there, and the last that is.
    beyond: HashMap<Uuid, (u64, u64)>,
}

/// How a chain begins: the record, and whether it is the next link after a given one.
type First = (u64, Box<dyn Fn(&Hash) -> bool + Send + Sync>);

impl Walk<'_> {
    fn wrong(&mut self, what: String) {
        self.report.wrong += 1;
        if self.report.faults.len() < MOST_FAULTS {
            self.report.faults.push(what);
        }
    }

    fn step(&mut self, frame: &Frame<'_>) {
        let (seq, chain) = (frame.seq, self.report.chain);
        match self.head {
            None => {
                self.report.span.0 = seq;
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
            Kind::Call | Kind::Act | Kind::Replay => {}
            Kind::Erasure => {
                if let Some(Erasure { tenant, user, until, .. }) = said(&frame.json())
                    && let Some(user) = unhex(&user)
                {
                    let known = self.all.erasures.entry((tenant, user)).or_insert(until);
                    *known = until.max(*known);
                }
            }
            Kind::Cut => {
                if let Some(Cut { cut, through, hash }) = said(&frame.json()) {
                    let known = self.all.cuts.entry(cut).or_insert((0, None));
                    *known = (*known).max((through, unhex(&hash)));
                }
            }
        }
        if self.anchors.remove(&seq).is_some_and(|hash| hash != frame.hash) {
            self.wrong(format!("record {seq} is not the one that was anchored"));
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

/// Checks all chains: of the database, and of the journal's folder.
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
    let known = archive.chains().await.map_err(failed)?;
    let segments = match folder.filter(|folder| folder.exists()) {
        Some(folder) => journal::segments(folder).map_err(broken)?,
        None => Vec::new(),
    };
    let mark = folder.and_then(filing::mark);
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
        let report = Report { chain, records: 0, erased: 0, span: (0, 0), faults: Vec::new(), wrong: 0 };
        let mut known = BTreeMap::new();
        let mut fork = None;
        for anchor in anchors.iter().filter(|anchor| anchor.chain == chain) {
            if let Some(hash) = unhex(&anchor.hash)
                && known.insert(anchor.seq, hash).is_some_and(|before| before != hash)
            {
                fork = Some(anchor.seq);
            }
        }
        let mut walk = Walk { key: archive.key(), report, head: None, anchors: known, all: &mut claims };
        if let Some(seq) = fork {
            walk.wrong(format!("record {seq} was anchored twice, as two different ones"));
        }
        if key != archive.key().name() {
            walk.wrong(format!("it was made with another key ({key}), and cannot be checked with this one"));
            reports.push(walk.report);
            continue;
        }
        // What is moved while we look is in the database when it is no longer in the journal.
        loop {
            let before = walk.head;
            if let Some(id) = id {
                let mut after = walk.head.map_or(0, |head| head.seq);
                while let Some((first, bytes)) = archive.next(id, after).await.map_err(failed)? {
                    after = first;
                    let mut read = 0;
                    for (_, frame) in frames(&bytes) {
                        walk.step(&frame);
                        read += 1;
                    }
                    if read == 0 {
                        walk.wrong(format!("the block of record {first} cannot be read"));
                    }
                }
            }
            let moved = mark.filter(|(name, _)| *name == chain).map(|(_, seq)| seq);
            let end = walk.head.map_or(0, |head| head.seq);
            if before.is_none()
                && let Some(moved) = moved.filter(|moved| *moved > end)
            {
                walk.wrong(format!("the database had records up to {moved}, and ends with {end}"));
            }
            let gap = journal_of(&mut walk, chain, &segments).map_err(broken)?;
            if !gap || before == walk.head {
                break;
            }
        }
        let end = walk.head.map_or(0, |head| head.seq);
        let first = walk.report.span.0;
        let beyond: Vec<u64> =
            walk.anchors.keys().copied().filter(|seq| *seq > end || *seq >= first).collect();
        if let Some(most) = beyond.iter().max() {
            walk.all.beyond.insert(chain, (*most, end));
        }
        reports.push(walk.report);
    }
    claims.hold(&mut reports);
    let aside = folder.filter(|folder| folder.exists()).map_or(Ok(Vec::new()), journal::damaged);
    damaged(&aside.map_err(broken)?, &segments, &mut reports);
    Ok(reports)
}

/// Tells of segments that were put aside, and of those whose beginning cannot be read: a segment gets its
/// name when its beginning is on the disk.
fn damaged(aside: &[PathBuf], segments: &[(u64, PathBuf)], reports: &mut Vec<Report>) {
    let headless =
        segments.iter().map(|(_, path)| path).filter(|path| matches!(journal::head(path), Ok(None)));
    for path in aside.iter().chain(headless) {
        let chain = journal::head(path).ok().flatten().map_or(Uuid::nil(), |(chain, _)| chain);
        let what = format!("`{}` holds records that cannot all be read", path.display());
        if let Some(report) = reports.iter_mut().find(|report| report.chain == chain) {
            report.wrong += 1;
            report.faults.push(what);
        } else {
            reports.push(Report { chain, records: 0, erased: 0, span: (0, 0), faults: vec![what], wrong: 1 });
        }
    }
}

/// Goes on in the journal. Tells whether it begins further on: then the records in between have been moved meanwhile.
fn journal_of(walk: &mut Walk<'_>, chain: Uuid, segments: &[(u64, PathBuf)]) -> std::io::Result<bool> {
    let mut paths = segments.iter().map(|(_, path)| path).peekable();
    while let Some(path) = paths.next() {
        let segment = match Segment::read(path) {
            Ok(Some(segment)) if segment.chain == chain => segment,
            Ok(_) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let most = match paths.peek() {
            Some(path) => journal::head(path).ok().flatten().map_or(u64::MAX, |(_, head)| head.seq),
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
        let end = walk.head.map_or(0, |head| head.seq);
        if let Some(last) = segment.behind_damage(most).filter(|last| *last > end) {
            walk.wrong(format!("the journal is damaged: records {} to {last} cannot all be read", end + 1));
        }
    }
    Ok(false)
}

impl Claims {
    /// Holds what is gone against the records that say so.
    fn hold(&self, reports: &mut [Report]) {
        let mut wrong = |chain: &Uuid, what: String| {
            if let Some(report) = reports.iter_mut().find(|report| report.chain == *chain) {
                report.wrong += 1;
                if report.faults.len() < MOST_FAULTS {
                    report.faults.push(what);
                }
            }
        };
        for (whose, (at, chain, seq)) in &self.gone {
            if self.erasures.get(whose).is_none_or(|until| until < at) {
                wrong(chain, format!("what record {seq} says is gone, and no record tells of its erasure"));
            }
        }
        for (chain, (most, end)) in &self.beyond {
            if self.cuts.get(chain).is_none_or(|(through, _)| through < most) {
                wrong(
                    chain,
                    format!("there was a record {most}, as an anchor tells, and the chain ends with {end}"),
                );
            }
        }
        for (chain, (first, follows)) in &self.firsts {
            let cut = self.cuts.get(chain);
            let fits = match (first, cut) {
                (1, _) => follows(&Hash::default()),
                (_, None) => false,
                // A cut that is under way has not removed all of it yet.
                (_, Some((through, _))) if *through >= *first => true,
                (_, Some((through, Some(hash)))) => *through + 1 == *first && follows(hash),
                (_, Some((_, None))) => false,
            };
            if !fits {
                wrong(
                    chain,
                    match first {
                        1 => "record 1 was changed".to_owned(),
                        _ => format!(
                            "records before {first} are missing, and no record tells that they were removed"
                        ),
                    },
                );
            }
        }
    }
}
