//! Checks that no record was changed, removed, moved or cut off.
//!
//! Each chain is walked link by link, in the database and then in the
//! journal. Words that are gone need a record of their erasure, a beginning
//! that is gone needs a record of the cut, and the end has to reach the anchors.
use std::{collections::BTreeMap, fmt, path::Path};

use uuid::Uuid;

use super::{
    anchor::Anchor,
    archive::Archive,
    beside,
    chain::{Hash, Key, unhex},
    claims::{Claims, MOST_ERASED},
    journal,
    walk::{AGAIN, At, List, Marks, WAIT, Walk},
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
    let folder = folder.filter(|folder| folder.exists());
    verify_listed(archive, folder, anchors, &mut || folder.map_or(Ok(Vec::new()), journal::segments)).await
}

async fn verify_listed(
    archive: &Archive,
    folder: Option<&Path>,
    anchors: &[Anchor],
    list: &mut List<'_>,
) -> Result<Vec<Report>, String> {
    let failed = |error: crate::store::sql::Failed| error.to_string();
    let broken = |error: std::io::Error| format!("the journal: {error}");
    let mut claims = Claims::default();
    let (mut reports, mut ends) = (Vec::new(), Vec::new());
    // First, because all that they tell of is there by now.
    let Told { noted, filed: mark, unreadable } = match folder {
        Some(folder) => told(folder, archive.key()).await,
        None => Told::default(),
    };
    let asked = archive.erasures(MOST_ERASED).await.map_err(failed)?;
    // Before the chains: each has its name in the database before it has a segment.
    let segments = list().map_err(broken)?;
    let known = archive.chains().await.map_err(failed)?;
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
        let moved = mark.filter(|mark| mark.chain == chain).map(|mark| mark.head.seq);
        let marks = Marks { filed: moved, noted: most_noted };
        let (told, forks) = witnessed(chain, anchors, &noted);
        let all = &mut claims;
        let mut walk = Walk { key: archive.key(), chain, report, at: At::default(), told, all };
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
        walk.along(archive, id, marks, list).await?;
        let end = walk.at.head.map_or(0, |head| head.seq);
        let first = walk.report.span.0;
        let beyond = walk.told.iter().rev().find(|(seq, _)| **seq > end || **seq >= first);
        if let Some((most, (_, witness))) = beyond {
            walk.all.beyond.insert(chain, (*most, end, *witness));
        }
        ends.push((chain, id, walk.at));
        reports.push(walk.report);
    }
    if !claims.held().is_empty() {
        // What was done to a chain may have its record in one that was read before, behind what was there then: records
        // of erasures and of cuts are in the database before anything is erased or removed.
        for (chain, id, at) in ends {
            let (report, told) = (Report::new(About::Chain(chain)), BTreeMap::new());
            let mut walk = Walk { key: archive.key(), chain, report, at, told, all: &mut claims };
            walk.database(archive, id).await?;
            for fault in walk.report.faults {
                blame(&mut reports, chain, fault);
            }
        }
    }
    for (chain, what) in claims.held() {
        blame(&mut reports, chain, what);
    }
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
    let aside = folder.map_or(Ok(Vec::new()), journal::damaged);
    beside::damaged(&aside.map_err(broken)?, &segments, &mut reports);
    if let Some(folder) = folder {
        beside::unnoted(folder, archive.key(), &noted, has_chains, &mut reports).map_err(broken)?;
        beside::unreadable(&segments, &noted, unreadable, &mut reports);
    }
    Ok(reports)
}

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

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
