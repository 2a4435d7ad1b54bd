//! What records and the database's list say of other records: of erasures, of cuts, of where a chain begins.
//! It is held against them when all chains were walked.
use std::collections::HashMap;

use uuid::Uuid;

use super::{
    chain::Hash,
    erase::Erasure,
    frame::UserRef,
    rows::AskedRow,
    verify::{About, Report, Witness, blame},
};

/// Gaps that are held against the records of cuts, in all chains.
pub(super) const MOST_GAPS: usize = 1000;
/// Users whose words are gone, that are held against the records of erasures.
pub(super) const MOST_ERASED: usize = 1_000_000;
/// The record of an erasure ends a little later than the moment that it says, in microseconds.
const SLACK: i64 = 3_600_000_000;

/// What records say of others, in all chains.
#[derive(Default)]
pub(super) struct Claims {
    /// Up to when a user's words were erased.
    pub(super) erasures: HashMap<(String, UserRef), i64>,
    /// Up to which record a chain was cut, and that record's link.
    pub(super) cuts: HashMap<Uuid, (u64, Option<Hash>)>,
    /// The last record of a user whose words are gone, and where it is.
    pub(super) gone: HashMap<(String, UserRef), (i64, Uuid, u64)>,
    /// The first record of each chain, and whether it goes on from a link.
    pub(super) firsts: HashMap<Uuid, First>,
    /// Records that are missing within a chain: the first of them, and the one behind the last.
    pub(super) gaps: Vec<(Uuid, u64, First)>,
    /// The last record that is told of elsewhere and is not there, the last that is there, and who tells of it.
    pub(super) beyond: HashMap<Uuid, (u64, u64, Witness)>,
    /// The records that tell of erasures, by their ids: where each is, and what it says.
    pub(super) erased: HashMap<String, (Uuid, u64, Erasure)>,
    /// When the first record ended of a chain that was cut; the latest of them.
    pub(super) cut_at: Option<i64>,
}

/// How a chain begins: the record, and whether it is the next link after a given one.
pub(super) type First = (u64, Box<dyn Fn(&Hash) -> bool + Send + Sync>);

/// Says that records are missing, up to the one before `next`.
pub(super) fn missing(from: u64, next: u64) -> String {
    match from + 1 == next {
        true => format!("record {from} is missing"),
        false => format!("records {from} to {} are missing", next - 1),
    }
}

impl Claims {
    /// Holds what is gone against the records that say so: what is wrong, of which chain.
    pub(super) fn held(&self) -> Vec<(Uuid, String)> {
        let mut all = Vec::new();
        let mut wrong = |chain: &Uuid, what: String| all.push((*chain, what));
        for (whose, (at, chain, seq)) in &self.gone {
            if self.erasures.get(whose).is_none_or(|until| until < at) {
                wrong(chain, format!("what record {seq} says is gone, and no record tells of its erasure"));
            }
        }
        for (chain, (most, end, witness)) in &self.beyond {
            if self.cuts.get(chain).is_none_or(|(through, _)| through < most) {
                let what = match end {
                    0 => "none of its records is left".to_owned(),
                    end if end >= most => "it is not among those that are left".to_owned(),
                    _ => format!("its last one that is left is record {end}"),
                };
                wrong(chain, format!("there was a record {most}, as {witness} tells, and {what}"));
            }
        }
        for (chain, first) in &self.firsts {
            if !self.begins(*chain, first) {
                wrong(
                    chain,
                    match first.0 {
                        1 => "record 1 was changed".to_owned(),
                        first => format!(
                            "records before {first} are missing, and no record tells that they were removed"
                        ),
                    },
                );
            }
        }
        for (chain, from, next) in &self.gaps {
            // Who reads while records are removed sees some of those that are, and then the first that stays.
            if !self.begins(*chain, next) {
                wrong(chain, missing(*from, next.0));
            }
        }
        all
    }

    /// Whether what is left of a chain may begin with this record.
    fn begins(&self, chain: Uuid, (first, follows): &First) -> bool {
        match (first, self.cuts.get(&chain)) {
            (1, _) => follows(&Hash::default()),
            (_, None) => false,
            // A cut that is under way has not removed all of it yet.
            (_, Some((through, _))) if *through >= *first => true,
            (_, Some((through, Some(hash)))) => *through + 1 == *first && follows(hash),
            (_, Some((_, None))) => false,
        }
    }

    /// Holds the rows that ask for erasures against the records that tell of them: `early`, those that were there
    /// before the records were read, and `late`, those that are there now.
    pub(super) fn asked(&self, early: &[AskedRow], late: &[AskedRow], reports: &mut Vec<Report>) {
        let late: HashMap<&str, &AskedRow> = late.iter().map(|row| (&*row.id, row)).collect();
        for (id, (chain, seq, erasure)) in &self.erased {
            let same = |row: &&AskedRow| {
                (&row.tenant, &row.user, row.until) == (&erasure.tenant, &erasure.user, erasure.until)
            };
            if late.len() < MOST_ERASED && !late.get(&**id).is_some_and(same) {
                let what = format!(
                    "the erasure that record {seq} tells of is not in the database's list, or is another there"
                );
                blame(reports, *chain, what);
            }
        }
        // What was made with another key cannot be read, and what is too old is gone.
        let all = reports.iter().all(|report| report.wrong == 0) && self.erased.len() < MOST_ERASED;
        let since = self.cut_at.map_or(i64::MIN, |at| at.saturating_add(SLACK));
        for row in early.iter().filter(|row| all && row.done && row.until > since) {
            if !self.erased.contains_key(&row.id) {
                let what = format!("the database's list has an erasure ({}) that no record tells of", row.id);
                blame(reports, About::Database, what);
            }
        }
    }
}
