//! What stands beside the records and tells of those that are gone: what is noted beside the journal, segments that
//! are kept aside, and what a gateway left a record of when it started.
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    anchor::Anchor,
    chain::Key,
    erase::{LeftOut, NewJournal, Unnoted, said},
    filing, journal,
    verify::{Report, blame, of, some},
    watermark::{self, Noted},
};

/// What a record of the gateway's own, with this number, tells of the journal as a start found it.
pub(super) fn notes(seq: u64, json: &[u8]) -> impl Iterator<Item = String> {
    let left_out = said(json).map(|LeftOut { left_out_bytes, after }| {
        let what = "of a record that was being written when the gateway before it stopped, or was cut off";
        format!("record {seq}: after record {after} it found {left_out_bytes} bytes {what}")
    });
    let unnoted = said(json).map(|Unnoted { no_watermark_after }| {
        format!(
            "record {seq}: after record {no_watermark_after} nothing told how far the journal had come (`watermark`); \
             more records may have followed"
        )
    });
    let new = said(json).map(|NewJournal { new_journal_beside_chains: chains }| {
        format!(
            "record {seq}: the journal was new, and the database had records ({chains} chains): if there was another \
             journal, more records may have been in it"
        )
    });
    [left_out, unnoted, new].into_iter().flatten()
}

/// Tells of chains of which anchors, or the journal's note, tell, and nothing else does.
pub(super) fn lost(reports: &mut Vec<Report>, anchors: &[Anchor], noted: &[Noted]) {
    let chains = reports.iter().map(|report| report.chain).collect::<HashSet<_>>();
    for anchor in anchors.iter().filter(|anchor| !chains.contains(&anchor.chain)) {
        let what = format!(
            "there was a record {}, as an anchor tells, and nothing is left of the chain",
            anchor.seq
        );
        blame(reports, anchor.chain, what);
    }
    for noted in noted.iter().filter(|noted| noted.head.seq > 0 && !chains.contains(&noted.chain)) {
        let what = format!(
            "there was a record {}, as is noted beside the journal (`watermark`), and nothing is left of the chain",
            noted.head.seq
        );
        blame(reports, noted.chain, what);
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
        let missing = (has_chains || filing::was_used(folder)) && watermark::read(folder, key).is_empty();
        if missing {
            let segments = journal::segments(folder)?;
            let newest = segments.iter().rev().find_map(|(_, path)| journal::head(path).ok().flatten());
            let doubt = match filing::was_used(folder) {
                true => {
                    "nothing tells how far the journal had come (its `watermark` is missing, or was made with another \
                     key): its last records may be gone"
                }
                false => {
                    "the journal's folder is empty, and the database has records: if there was a journal in it, what \
                     that held and had not moved is gone; if its gateway was never started, all is well"
                }
            };
            let chain = newest.map(|(chain, _)| chain).unwrap_or_default();
            some(&mut of(reports, chain).doubts, doubt.to_owned());
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

/// Tells of segments that were put aside, and of those whose beginning cannot be read: a segment gets its
/// name when its beginning is on the disk.
pub(super) fn damaged(aside: &[PathBuf], segments: &[(u64, PathBuf)], reports: &mut Vec<Report>) {
    let headless =
        segments.iter().map(|(_, path)| path).filter(|path| matches!(journal::head(path), Ok(None)));
    for path in aside.iter().chain(headless) {
        let chain = journal::head(path).ok().flatten().map_or(Uuid::nil(), |(chain, _)| chain);
        let what = match std::fs::metadata(path).is_ok_and(|found| found.len() == 0) {
            true => "stands for a segment that a start found missing",
            false => "holds records that cannot all be read",
        };
        blame(reports, chain, format!("`{}` {what}", path.display()));
    }
}
