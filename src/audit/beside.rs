//! What stands beside the records and tells of those that are gone: what is noted beside the journal, segments that
//! are kept aside, and what a gateway left a record of when it started.
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    anchor::Anchor,
    chain::Key,
    erase::{LeftOut, NewJournal, Unnoted, Unreadable, said},
    journal, lock,
    verify::{About, Report, Witness, blame, of, some},
    watermark::{self, Noted},
};

/// What a record of the gateway's own, with this number, tells of the journal as a start found it.
pub(super) fn notes(seq: u64, json: &[u8]) -> impl Iterator<Item = String> {
    let left_out = said(json).map(|LeftOut { left_out_bytes, after }| {
        let what = "of a record that was being written when the gateway before it stopped, or was cut off";
        format!("record {seq} tells of a start: after record {after} it found {left_out_bytes} bytes {what}")
    });
    let unnoted = said(json).map(|Unnoted { no_watermark_after }| {
        format!(
            "record {seq} tells of a start: after record {no_watermark_after} nothing told how far the journal had come (`watermark`); \
             more records may have followed"
        )
    });
    let unreadable = said(json).map(|Unreadable { unreadable_watermark_lines: lines, after }| {
        format!(
            "record {seq} tells of a start: after record {after}, {lines} of the 4 lines that told how far the journal had come \
             (`watermark`) could not be read; more records may have followed"
        )
    });
    let new = said(json).map(|NewJournal { new_journal_beside_chains: chains }| {
        format!(
            "record {seq} tells of a start: the journal was new, and the database had records ({chains} chains): if there was another \
             journal, more records may have been in it"
        )
    });
    [left_out, unnoted, unreadable, new].into_iter().flatten()
}

/// Tells of chains of which anchors, or the journal's note, tell, and nothing else does.
pub(super) fn lost(reports: &mut Vec<Report>, anchors: &[Anchor], noted: &[Noted]) {
    let there = reports.iter().map(|report| report.about).collect::<HashSet<_>>();
    let anchored = anchors.iter().map(|anchor| (anchor.chain, anchor.seq, Witness::Anchor));
    let noted = noted.iter().filter(|noted| noted.head.seq > 0);
    let noted = noted.map(|noted| (noted.chain, noted.head.seq, Witness::Watermark));
    // Of many that tell of a chain, one of each kind that tells most.
    let mut most: BTreeMap<(Uuid, Witness), u64> = BTreeMap::new();
    for (chain, seq, witness) in anchored.chain(noted).filter(|(chain, ..)| !there.contains(&(*chain).into()))
    {
        let told = most.entry((chain, witness)).or_insert(seq);
        *told = seq.max(*told);
    }
    for ((chain, witness), seq) in most {
        let what = format!("there was a record {seq}, as {witness} tells, and nothing is left of the chain");
        blame(reports, chain, what);
    }
}

/// Holds the journal's folder against what is noted of its newest segment, or tells that nothing is noted.
pub(super) fn unnoted(
    folder: &Path,
    key: &Key,
    noted: &[Noted],
    has_chains: bool,
    reports: &mut Vec<Report>,
) -> std::io::Result<()> {
    let Some(begun) = noted.iter().max_by_key(|noted| noted.segment) else {
        // A gateway that starts now writes it soon.
        let was_used = lock::was_used(folder);
        let missing = (has_chains || was_used) && watermark::read(folder, key).noted.is_empty();
        if missing {
            let doubt = match was_used {
                true => {
                    "nothing tells how far the journal had come (its `watermark` is missing, or was made with another \
                     key): its last records may be gone. Was it taken away, or `audit.key` or `auth.pepper` changed? The \
                     next start writes a new one, and leaves a record of that"
                }
                false => {
                    "the journal's folder is empty, and the database has records: if there was a journal in it, what \
                     that held and had not moved is gone; if its gateway was never started, all is well. Is \
                     `audit.folder` the right one, and its volume mounted?"
                }
            };
            let about = newest(&journal::segments(folder)?);
            some(&mut of(reports, about).doubts, doubt.to_owned());
        }
        return Ok(());
    };
    if begun.segment > journal::newest(folder)? {
        let what = format!(
            "segment {} of the journal was begun, and is not there: records behind record {} that the database \
             does not have are lost",
            begun.segment, begun.head.seq
        );
        blame(reports, begun.chain, what);
    }
    Ok(())
}

/// The chain that a journal's newest segment is of; its folder where there is none.
fn newest(segments: &[(u64, PathBuf)]) -> About {
    let heads = segments.iter().rev().find_map(|(_, path)| journal::head(path).ok().flatten());
    heads.map_or(About::Folder, |(chain, _)| About::Chain(chain))
}

/// Tells of lines that cannot be read of what is noted beside the journal, where others can.
pub(super) fn unreadable(
    segments: &[(u64, PathBuf)],
    noted: &[Noted],
    lines: usize,
    reports: &mut Vec<Report>,
) {
    if lines == 0 || noted.is_empty() {
        return;
    }
    let about = newest(segments);
    let own = noted.iter().filter(|noted| about == noted.chain.into());
    let most = own.map(|noted| noted.head.seq).max().unwrap_or_default();
    let doubt = format!(
        "{lines} of the 4 lines that tell how far the journal had come (`watermark`) cannot be read, the others tell of \
         records up to {most}: later ones may be gone. A loss of power while it was written leaves that; else somebody \
         changed it. The next start writes it anew, and leaves a record of that"
    );
    some(&mut of(reports, about).doubts, doubt);
}

/// Tells of segments that were put aside, and of those whose beginning cannot be read: a segment gets its
/// name when its beginning is on the disk.
pub(super) fn damaged(aside: &[PathBuf], segments: &[(u64, PathBuf)], reports: &mut Vec<Report>) {
    let headless =
        segments.iter().map(|(_, path)| path).filter(|path| matches!(journal::head(path), Ok(None)));
    for path in aside.iter().chain(headless) {
        let about =
            journal::head(path).ok().flatten().map_or(About::Folder, |(chain, _)| About::Chain(chain));
        let what = match std::fs::metadata(path).is_ok_and(|found| found.len() == 0) {
            true => {
                "stands for a segment that a start found missing: what the database does not have of it is gone; once that is cleared up, move it elsewhere"
            }
            false => "holds records that cannot all be read; once that is cleared up, move it elsewhere",
        };
        blame(reports, about, format!("`{}` {what}", path.display()));
    }
}
