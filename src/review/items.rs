//! The items: found, claimed, decided.
use jiff::Timestamp;
use serde::Serialize;
use sqlx::{Row, any::AnyRow};

use super::{Reviews, away, feedback::NEGATIVE, now};
use crate::{
    caller::{ALL_TENANTS, Rights},
    error::{Error, Result},
    store::sql::Sql,
};

/// An item as it is stored.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "`http::review::Shown` says what each is")]
pub struct Item {
    pub id: String,
    pub tenant: String,
    pub request: String,
    pub reason: String,
    pub status: String,
    pub at: i64,
    pub confidence: Option<f64>,
    pub question: String,
    pub answer: Option<String>,
    pub model: Option<String>,
    pub sources: Vec<String>,
    pub rating: Option<i64>,
    pub feedback: Option<String>,
    pub claimed_by: Option<String>,
    pub claimed_name: Option<String>,
    pub claimed_until: i64,
    pub decided_name: Option<String>,
    pub decided_at: Option<i64>,
    pub decision: Option<String>,
    pub note: Option<String>,
    pub approved: Option<String>,
    pub ratings: Vec<Said>,
}

/// What somebody who got the answer said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Said {
    /// How good it was, 1 or 2.
    pub rating: i64,
    /// In words, masked.
    pub feedback: String,
}

/// Bad ratings that are shown of one answer, the first ones, and of a page of items.
const MOST_SAID: usize = 20;
const MOST_ON_A_PAGE: i64 = 4000;

/// Queries are fixed words: what is looked for is bound.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT id, tenant, request, reason, status, at, confidence, question, answer, model, sources, rating, feedback, ",
            "claimed_by, claimed_name, claimed_until, decided_name, decided_at, decision, note, approved FROM reviews ",
            $which
        )
    };
}

/// Which items.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `open`, `claimed`, `approved`, `edited`, `rejected`; empty: all.
    pub status: &'static str,
    /// A reason's name; empty: all.
    pub reason: &'static str,
    /// Those that came at this time or later, in microseconds since 1970.
    pub since: i64,
    /// Those after the one with this id.
    pub after: String,
    /// At most so many.
    pub limit: u32,
}

/// What a reviewer decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Is about to look at it.
    Claim,
    /// Does not look at it after all.
    Release,
    /// The answer is right.
    Approve,
    /// This is the right answer.
    Edit(String),
    /// The answer is wrong, or of no use.
    Reject,
}

impl Decision {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Release => "release",
            Self::Approve => "approve",
            Self::Edit(_) => "edit",
            Self::Reject => "reject",
        }
    }
}

/// An item of the golden set, as `sluice eval` reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Golden {
    /// The question.
    pub input: String,
    /// What an answer has to contain: for the quality team to fill in.
    pub must_contain: Vec<String>,
    /// What it must not contain, likewise.
    pub must_not_contain: Vec<String>,
    /// The right answer.
    pub expected: String,
    /// The documents that it rests on.
    pub relevant: Vec<String>,
}

impl Reviews {
    /// Items that a key may see, oldest first.
    ///
    /// # Errors
    /// [`Error::StoreAway`].
    pub async fn list(&self, own: &Rights, filter: &Filter) -> Result<Vec<Item>> {
        self.flush().await;
        let query = select!(
            "WHERE id > $1 AND (tenant = $2 OR $2 = '*') AND ($3 = '' OR reason = $3) AND at >= $4 AND ($5 = '' OR \
             ($5 = 'open' AND status = 'open' AND claimed_until <= $6) OR \
             ($5 = 'claimed' AND status = 'open' AND claimed_until > $6) OR ($5 <> 'open' AND status = $5)) \
             ORDER BY id LIMIT $7"
        );
        let query = sqlx::query(query).bind(&*filter.after).bind(&*own.tenant.name).bind(filter.reason);
        let query = query.bind(filter.since).bind(filter.status).bind(now()).bind(i64::from(filter.limit));
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await.map_err(away)?;
        let items: Result<Vec<_>, _> = rows.iter().map(item).collect();
        let mut items = items.map_err(|error| away(error.into()))?;
        self.said(&mut items).await?;
        Ok(items)
    }

    /// Adds what was said of the answers. Each who rates one has a word of their own.
    async fn said(&self, items: &mut [Item]) -> Result<()> {
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let mut rated = items.iter().filter(|item| item.rating.is_some());
        let Some(first) = rated.next() else { return Ok(()) };
        let last = rated.next_back().unwrap_or(first);
        let query = "SELECT v.id, r.rating, r.words FROM reviews v JOIN ratings r ON r.tenant = v.tenant AND r.request = v.request \
                     WHERE v.id >= $1 AND v.id <= $2 AND v.rating IS NOT NULL AND r.rating <= $3 ORDER BY v.id, r.at LIMIT $4";
        let query = sqlx::query(query).bind(first.id.clone()).bind(last.id.clone()).bind(i64::from(NEGATIVE));
        let query = query.bind(MOST_ON_A_PAGE);
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await.map_err(away)?;
        for row in &rows {
            let said = |row: &AnyRow| -> Result<(String, Said), sqlx::Error> {
                Ok((row.try_get(0)?, Said { rating: row.try_get(1)?, feedback: row.try_get(2)? }))
            };
            let (id, said) = said(row).map_err(|error| away(error.into()))?;
            // Another tenant's may stand between them.
            if let Ok(at) = items.binary_search_by(|item| item.id.cmp(&id))
                && items[at].ratings.len() < MOST_SAID
            {
                items[at].ratings.push(said);
            }
        }
        Ok(())
    }

    /// One item.
    ///
    /// # Errors
    /// [`Error::Absent`], also where it is another tenant's; [`Error::StoreAway`].
    pub async fn get(&self, own: &Rights, id: &str) -> Result<Item> {
        let found = sqlx::query(select!("WHERE id = $1")).bind(id).fetch_optional(self.sql.pool());
        let found = self.sql.within(found).await.map_err(away)?;
        let found = found.as_ref().map(item).transpose().map_err(|error| away(error.into()))?;
        let found = found.filter(|item| own.sees(&item.tenant)).ok_or_else(|| absent(id))?;
        let mut found = [found];
        self.said(&mut found).await?;
        let [found] = found;
        Ok(found)
    }

    /// Carries out what a reviewer decides. Their words are kept masked. Who rejects what was approved or edited
    /// takes that back, and so does who rejects or edits what was said of an answer that it gave.
    ///
    /// # Errors
    /// [`Error::Conflict`]: it is decided, or another reviewer's; and as [`Reviews::get`].
    pub async fn decide(
        &self,
        own: &Rights,
        id: &str,
        decision: &Decision,
        note: Option<&str>,
    ) -> Result<Item> {
        let item = self.get(own, id).await?;
        taken(&item, own, decision)?;
        if *decision == Decision::Approve && item.answer.as_deref().is_none_or(str::is_empty) {
            return Err(Error::invalid(
                "decision",
                "there is no answer to approve; `edit` says the right one",
            ));
        }
        let (answer, note) = self.masked(decision, note);
        let status = match decision {
            Decision::Claim | Decision::Release => "open",
            Decision::Approve => "approved",
            Decision::Edit(_) => "edited",
            Decision::Reject => "rejected",
        };
        let now = now();
        let until = match decision {
            Decision::Claim => now.saturating_add(self.rules.load().settings.claim.0.as_micros() as i64),
            _ => 0,
        };
        let (claimed_by, claimed_name) = match decision {
            Decision::Claim => (Some(&*own.id), Some(&*own.name)),
            _ => (None, None),
        };
        let (decided_name, decided_at) = match status {
            "open" => (None, None),
            _ => (Some(&*own.name), Some(now)),
        };
        let set = "UPDATE reviews SET status = $3, claimed_by = $4, claimed_name = $5, claimed_until = $6, decided_name = $7, \
                   decided_at = $8, decision = $9, note = $10, changed = $11 WHERE id = $1 \
                   AND ((status = 'open' AND (claimed_until <= $11 OR claimed_by = $2)) \
                   OR (status IN ('approved', 'edited') AND $12 = 'reject'))";
        let set = sqlx::query(set)
            .bind(id)
            .bind(&*own.id)
            .bind(status)
            .bind(claimed_by)
            .bind(claimed_name)
            .bind(until);
        let set =
            set.bind(decided_name).bind(decided_at).bind(answer).bind(note).bind(now).bind(decision.name());
        // An answer that was given because a reviewer stood for it, and that another one does not stand for, is no
        // golden item any more, and not given either.
        let back = "UPDATE reviews SET status = 'rejected', decided_name = $3, decided_at = $4, changed = $4, claimed_until = 0 \
                    WHERE id = $1 AND tenant = $2 AND status IN ('approved', 'edited')";
        let back =
            sqlx::query(back).bind(item.approved.clone()).bind(&*item.tenant).bind(decided_name).bind(now);
        let takes_back = matches!(decision, Decision::Reject | Decision::Edit(_)) && item.approved.is_some();
        let work = async {
            let mut tx = self.sql.begin().await?;
            let changed = set.execute(&mut *tx).await?.rows_affected();
            if changed > 0 && takes_back {
                back.execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(changed)
        };
        let changed = self.sql.within(work).await.map_err(away)?;
        let item = self.get(own, id).await?;
        if changed == 0 {
            // Somebody was quicker.
            taken(&item, own, decision)?;
            return Err(Error::Conflict("this item was changed at the same time; try again".into()));
        }
        self.metrics.review_decisions.with_label_values(&[decision.name()]).inc();
        self.decided.notify_one();
        Ok(item)
    }

    /// A reviewer's own words with placeholders for what is personal: the answer, and the note.
    fn masked(&self, decision: &Decision, note: Option<&str>) -> (Option<String>, Option<String>) {
        let rules = self.rules.load();
        let mut mask = rules.masks.masker();
        let answer = match decision {
            Decision::Edit(answer) => Some(mask.mask(answer).into_owned()),
            _ => None,
        };
        (answer, note.map(|note| mask.mask(note).into_owned()))
    }
}

/// What reviewers approved or edited, oldest first, as golden items; of all tenants, or of one. What an earlier
/// version kept unmasked is masked now.
///
/// # Errors
/// The database's.
pub async fn golden(
    sql: &Sql,
    mask: impl Fn(&str) -> String,
    tenant: Option<&str>,
    since: i64,
) -> Result<Vec<Golden>, crate::store::sql::Failed> {
    let query = select!(
        "WHERE status IN ('approved', 'edited') AND (tenant = $1 OR $1 = '*') AND decided_at >= $2 AND question <> '' ORDER BY id"
    );
    let query = sqlx::query(query).bind(tenant.unwrap_or(ALL_TENANTS)).bind(since);
    let rows = sql.within(query.fetch_all(sql.pool())).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let item = item(row)?;
        let Some(expected) = item.decision.or(item.answer).filter(|answer| !answer.is_empty()) else {
            continue;
        };
        let (must_contain, must_not_contain) = (Vec::new(), Vec::new());
        let expected = mask(&expected);
        found.push(Golden {
            input: item.question,
            must_contain,
            must_not_contain,
            expected,
            relevant: item.sources,
        });
    }
    Ok(found)
}

/// The same for an item that is not there and for one that is another tenant's.
fn absent(id: &str) -> Error {
    Error::Absent(format!("there is no review item `{id}`"))
}

/// Refuses what is decided, and what another reviewer is looking at.
fn taken(item: &Item, own: &Rights, decision: &Decision) -> Result<()> {
    if *decision == Decision::Reject && matches!(&*item.status, "approved" | "edited") {
        return Ok(());
    }
    if item.status != "open" {
        let by = item.decided_name.as_deref().unwrap_or("somebody");
        return Err(Error::Conflict(format!("this item is decided: {} by `{by}`", item.status)));
    }
    if item.claimed_until > now() && item.claimed_by.as_deref() != Some(&own.id) {
        let by = item.claimed_name.as_deref().unwrap_or("somebody");
        let until =
            Timestamp::from_microsecond(item.claimed_until).map(|at| format!("{at:.0}")).unwrap_or_default();
        return Err(Error::Conflict(format!("`{by}` is looking at this item, until {until}")));
    }
    Ok(())
}

fn item(row: &AnyRow) -> Result<Item, sqlx::Error> {
    Ok(Item {
        id: row.try_get(0)?,
        tenant: row.try_get(1)?,
        request: row.try_get(2)?,
        reason: row.try_get(3)?,
        status: row.try_get(4)?,
        at: row.try_get(5)?,
        confidence: row.try_get(6)?,
        question: row.try_get(7)?,
        answer: row.try_get(8)?,
        model: row.try_get(9)?,
        // Written by us; what cannot be read is none.
        sources: serde_json::from_str(row.try_get(10)?).unwrap_or_default(),
        rating: row.try_get(11)?,
        feedback: row.try_get(12)?,
        claimed_by: row.try_get(13)?,
        claimed_name: row.try_get(14)?,
        claimed_until: row.try_get(15)?,
        decided_name: row.try_get(16)?,
        decided_at: row.try_get(17)?,
        decision: row.try_get(18)?,
        note: row.try_get(19)?,
        approved: row.try_get(20)?,
        ratings: Vec::new(),
    })
}

/// Takes all words of an owner out, and leaves the rest to be counted.
pub(super) async fn erase(sql: &Sql, owner: &str) -> Result<u64, sqlx::Error> {
    let mut tx = sql.begin().await?;
    let items = "UPDATE reviews SET question = '', answer = NULL, feedback = NULL, decision = NULL, note = NULL, \
                 kept_as = NULL, changed = $2 WHERE owner = $1";
    let items = sqlx::query(items).bind(owner).bind(now()).execute(&mut *tx).await?.rows_affected();
    sqlx::query("DELETE FROM kept_answers WHERE owner = $1").bind(owner).execute(&mut *tx).await?;
    // What they said of an answer that somebody else got.
    let said = "UPDATE reviews SET feedback = NULL WHERE rater = $1 AND feedback IS NOT NULL";
    let said = sqlx::query(said).bind(owner).execute(&mut *tx).await?.rows_affected();
    let words = "UPDATE ratings SET words = '' WHERE (owner = $1 OR rater = $1) AND words <> ''";
    let words = sqlx::query(words).bind(owner).execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(items + said + words)
}
