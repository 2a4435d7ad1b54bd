//! A walk along one chain, link by link: in the database, and then in the journal.
//!
//! A gateway may run meanwhile. It moves records from the journal into the database, and removes a segment when the
//! database has all of it. So the segments are listed before the database is read: what is in none of them was there by
//! then. Where one is gone before it was read itself, what it held and what follows it is looked for anew.
use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use uuid::Uuid;

use super::{
    archive::Archive,
    beside,
    chain::{Hash, Key, unhex},
    claims::{Claims, First, MOST_ERASED, MOST_GAPS, missing},
    erase::{Cut, Erasure, said},
    frame::{Frame, Kind, frames},
    journal::{self, Head, Rest, Segment},
    verify::{Report, Witness, some},
};

/// How often the newest segment is read again that cannot be read, and how long each time waits.
pub(super) const AGAIN: u32 = 10;
pub(super) const WAIT: Duration = Duration::from_millis(100);

/// Lists a journal's segments, oldest first.
pub(super) type List<'a> = dyn FnMut() -> io::Result<Vec<(u64, PathBuf)>> + Send + 'a;

/// A walk along one chain.
pub(super) struct Walk<'a> {
    pub(super) key: &'a Key,
    pub(super) chain: Uuid,
    pub(super) report: Report,
    /// How far it has come.
    pub(super) at: At,
    /// Records that are told of elsewhere, which were not come across yet.
    pub(super) told: BTreeMap<u64, (Hash, Witness)>,
    pub(super) all: &'a mut Claims,
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At {
    /// The last record.
    pub(super) head: Option<Head>,
    /// The first record of the database's block that was read last.
    block: u64,
}

/// What is told of a chain beside its records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// The last record that the database is noted to have had.
    pub(super) filed: Option<u64>,
    /// The last record that the journal is noted to have had.
    pub(super) noted: Option<u64>,
}

/// How a look into the journal ended.
enum Looked {
    /// All of it was read.
    Whole,
    /// This segment is gone.
    Gone(u64),
    /// The newest one, whose end cannot be read, is not the newest one any more.
    Begun,
}

impl Walk<'_> {
    /// Walks along all of it. `id` is the chain's number in the database.
    pub(super) async fn along(
        &mut self,
        archive: &Archive,
        id: Option<i64>,
        marks: Marks,
        list: &mut List<'_>,
    ) -> Result<(), String> {
        let broken = |error: io::Error| format!("the journal: {error}");
        let (mut gone, mut is_first) = (HashSet::new(), true);
        loop {
            // What is listed once more and was not there the first time leads to nothing.
            let mut list = || {
                let mut segments = list()?;
                segments.retain(|(number, _)| !gone.contains(number));
                Ok(segments)
            };
            let segments = list().map_err(broken)?;
            self.database(archive, id).await?;
            let end = self.at.head.map_or(0, |head| head.seq);
            if is_first && let Some(filed) = marks.filed.filter(|filed| *filed > end) {
                self.wrong(format!(
                    "the database had records up to {filed}, as the `watermark` beside the journal tells, and {}",
                    if end == 0 { "has none now".to_owned() } else { format!("ends with record {end}") }
                ));
            }
            is_first = false;
            match self.journal(&segments, marks.noted, &mut list).await.map_err(broken)? {
                Looked::Whole => return Ok(()),
                Looked::Begun => {}
                Looked::Gone(number) => drop(gone.insert(number)),
            }
        }
    }

    /// Walks on in the database.
    pub(super) async fn database(&mut self, archive: &Archive, id: Option<i64>) -> Result<(), String> {
        let Some(id) = id else { return Ok(()) };
        // The journal had them still when it was looked at.
        let seen = self.at.head.map(|head| head.seq);
        while let Some(stored) = archive.stored(id, self.at.block).await.map_err(|error| error.to_string())? {
            self.at.block = stored.first();
            let fresh = frames(&stored.frames).map(|(_, frame)| frame);
            fresh
                .filter(|frame| seen.is_none_or(|seen| frame.seq > seen))
                .for_each(|frame| self.step(&frame));
            if let Some(fault) = stored.fault() {
                self.wrong(fault);
            }
        }
        Ok(())
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.report.wrong(what);
    }

    fn step(&mut self, frame: &Frame<'_>) {
        let (seq, chain) = (frame.seq, self.chain);
        match self.at.head {
            None => {
                self.report.span.0 = seq;
                if seq > 1 {
                    self.all.cut_at = self.all.cut_at.max(Some(frame.at));
                }
                let first = self.follows(frame);
                self.all.firsts.insert(chain, first);
            }
            Some(head) if seq > head.seq + 1 => {
                self.all.cut_at = self.all.cut_at.max(Some(frame.at));
                let next = self.follows(frame);
                self.gap(head.seq + 1, next);
            }
            Some(head) if seq <= head.seq => {
                self.wrong(format!("record {seq} stands after record {}", head.seq));
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
        self.at.head = Some(Head { seq, hash: frame.hash });
        self.report.records += 1;
        self.report.span.1 = seq;
    }

    /// A record with its number, and whether it is the next link after a given one.
    fn follows(&self, frame: &Frame<'_>) -> First {
        let (key, seq, link, owned) = (self.key.clone(), frame.seq, frame.hash, Owned::of(frame));
        let follows =
            move |before: &Hash| owned.frame().is_some_and(|frame| frame.link(&key, before) == link);
        (seq, Box::new(follows))
    }

    /// The records from one on are not there, up to the one that is. A cut may be under way, and its record is further on.
    fn gap(&mut self, from: u64, next: First) {
        if self.all.gaps.len() < MOST_GAPS {
            self.all.gaps.push((self.chain, from, next));
        } else {
            self.wrong(missing(from, next.0));
        }
    }

    /// Goes on in the journal.
    async fn journal(
        &mut self,
        segments: &[(u64, PathBuf)],
        noted: Option<u64>,
        list: &mut List<'_>,
    ) -> io::Result<Looked> {
        let chain = self.chain;
        let mut left = segments.iter().peekable();
        while let Some((number, path)) = left.next() {
            let is_newest = left.peek().is_none();
            let segment = match settled(path, is_newest).await {
                Ok(Some(segment)) if segment.chain == chain => segment,
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Looked::Gone(*number)),
                Err(error) => return Err(error),
            };
            let most = match left.peek().map(|(next, path)| (next, journal::head(path))) {
                // Where the next one goes on, this one ends, whatever else is in it.
                Some((_, Ok(Some((next, head))))) if next == chain => head.seq,
                Some((next, Err(error))) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Looked::Gone(*next));
                }
                Some(_) | None => u64::MAX,
            };
            let (end, rest) = segment.end(most);
            if is_newest && rest != Rest::Nothing && list()?.last().is_some_and(|(newest, _)| newest > number)
            {
                return Ok(Looked::Begun);
            }
            let seen = self.at.head.map_or(0, |head| head.seq);
            let fresh = segment.frames(0).take_while(|(frame, _)| frame.seq <= most);
            for (frame, _) in fresh.filter(|(frame, _)| frame.seq > seen) {
                self.step(&frame);
            }
            // It has none yet.
            if let Some(head) = self.at.head.filter(|head| segment.before.seq > head.seq) {
                let before = segment.before;
                self.gap(head.seq + 1, (before.seq + 1, Box::new(move |hash| *hash == before.hash)));
                self.at.head = Some(before);
            }
            // The next start finds it so as well, and keeps it aside, whatever the database has of it.
            let gone = match rest {
                Rest::Changed { last } if most == u64::MAX => Some(last),
                _ => noted.filter(|noted| is_newest && *noted > end.seq),
            };
            self.end(end, rest, most, gone);
        }
        Ok(Looked::Whole)
    }

    /// Judges what follows the last record of a segment that can be read. Records up to `most` were there, and `gone`
    /// is the last that was.
    fn end(&mut self, end: Head, rest: Rest, most: u64, gone: Option<u64>) {
        let first = self.at.head.map_or(0, |head| head.seq) + 1;
        if let Some(last) = gone.filter(|last| *last < first) {
            self.wrong(format!(
                "the journal is damaged: records {} to {last} cannot be read there; the database has them",
                end.seq + 1
            ));
            return;
        }
        let (last, torn) = match rest {
            Rest::Nothing => return,
            Rest::Torn { bytes, last } => (last, Some(bytes)),
            Rest::Changed { last } => (last, None),
        };
        if first > last.min(most) {
            // It is in the database, or never counted.
            return;
        }
        let promised = most < u64::MAX || self.told.keys().any(|told| *told >= first);
        let which = match first == last {
            true => format!("record {first}"),
            false => format!("a part of the records {first} to {last}"),
        };
        if let Some(bytes) = torn.filter(|_| !promised) {
            let doubt = format!(
                "{which} cannot be read ({bytes} bytes): it was being written when the gateway stopped, and then \
                 nobody was promised it, or it was changed or cut off since"
            );
            some(&mut self.report.doubts, doubt);
        } else {
            self.wrong(format!("the journal is damaged: {which} cannot be read"));
        }
    }
}

/// A record that outlives the bytes it stood in.
struct Owned(Vec<u8>);

impl Owned {
    fn of(frame: &Frame<'_>) -> Self {
        let mut bytes = Vec::new();
        // The link does not go over its words.
        Frame { content: None, ..*frame }.write(&mut bytes);
        Self(bytes)
    }

    fn frame(&self) -> Option<Frame<'_>> {
        Frame::read(&self.0).map(|(frame, _)| frame)
    }
}

/// Reads a segment. Where it is the newest one, a gateway may be writing to its end: that is waited for.
async fn settled(path: &Path, newest: bool) -> io::Result<Option<Segment>> {
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
