//! What those who got an answer say of it.
use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use sqlx::Row;
use uuid::Uuid;

use super::{Fresh, Rating, Reason, Reviews, away, now, queue::masked};
use crate::{audit::chain::unhex, call::Caller, error::Result};

/// With this rating or a better one somebody is content.
const POSITIVE: i64 = 4;
/// With this one or a worse one a person looks at the answer.
pub(super) const NEGATIVE: u8 = 2;

/// What somebody says of an answer, and what is known of that from its record.
#[derive(Clone, Debug)]
pub struct Feedback {
    /// The tenant.
    pub tenant: Arc<str>,
    /// Who asked, as records know them.
    pub owner: String,
    /// The request.
    pub request: Arc<str>,
    /// Who says it: the user, where one is named, else the key.
    pub by: Caller,
    /// 1 to 5.
    pub rating: u8,
    /// In words.
    pub words: String,
    /// The question and the answer, masked, where the record has them.
    pub question: Option<String>,
    /// Likewise.
    pub answer: Option<String>,
    /// How far the answer could be relied on.
    pub confidence: Option<f64>,
    /// Who answered.
    pub model: Option<String>,
    /// The documents that it rests on.
    pub sources: Vec<String>,
    /// The review item that it comes from, where a person stands for it.
    pub approved: Option<String>,
}

/// The feedback of a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Week {
    /// Its Monday, in days since 1970, UTC.
    pub monday: i64,
    /// How many ratings there are: one for each answer and each who rated it.
    pub rated: u64,
    /// How many of them are 4 or 5.
    pub positive: u64,
}

impl Reviews {
    /// Keeps what somebody says of an answer, in the place of what they said of it before.
    /// Gives back the words as they are kept, and when.
    ///
    /// # Errors
    /// [`crate::error::Error::StoreAway`].
    pub async fn rate(&self, feedback: Feedback) -> Result<(String, Timestamp)> {
        let at = Timestamp::from_microsecond(now()).unwrap_or_default();
        let kept_as = match &feedback.approved {
            _ if feedback.rating > NEGATIVE => None,
            Some(item) => self.kept_as(&feedback.tenant, item).await?,
            None => self.kept(&feedback.tenant, &feedback.request).await?,
        };
        let rater = self.rater(&feedback.tenant, &feedback.by);
        let fresh = Fresh {
            id: Uuid::now_v7().to_string(),
            tenant: feedback.tenant,
            owner: feedback.owner,
            request: feedback.request,
            reason: Reason::Feedback,
            at: at.as_microsecond(),
            confidence: feedback.confidence,
            question: feedback.question.unwrap_or_default(),
            answer: feedback.answer,
            model: feedback.model,
            sources: feedback.sources,
            rating: Some(Rating { stars: feedback.rating, words: feedback.words, rater: rater.clone() }),
            masked: true,
            kept_as,
            approved: feedback.approved,
        };
        let fresh = masked(fresh, &self.rules.load());
        let words = fresh.rating.as_ref().map(|rating| rating.words.clone()).unwrap_or_default();
        let put = "INSERT INTO ratings (tenant, request, owner, rating, words, at, week, rater) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                   ON CONFLICT (tenant, request, rater) DO UPDATE SET rating = excluded.rating, words = excluded.words, \
                   at = excluded.at, week = excluded.week";
        let put = sqlx::query(put).bind(&*fresh.tenant).bind(&*fresh.request).bind(&*fresh.owner);
        let put =
            put.bind(i64::from(feedback.rating)).bind(&*words).bind(fresh.at).bind(monday(at)).bind(rater);
        self.sql.within(put.execute(self.sql.pool())).await.map_err(away)?;
        self.metrics.feedback.with_label_values(&[&feedback.rating.to_string()]).inc();
        if feedback.rating <= NEGATIVE {
            self.add(fresh);
        }
        Ok((words, at))
    }

    /// What the cache keeps an item's answer under: who rejects it elsewhere takes it out there, too.
    async fn kept_as(&self, tenant: &str, item: &str) -> Result<Option<[u8; 16]>> {
        let query = sqlx::query("SELECT kept_as FROM reviews WHERE id = $1 AND tenant = $2");
        let query = query.bind(item).bind(tenant).fetch_optional(self.sql.pool());
        let row = self.sql.within(query).await.map_err(away)?;
        let Some(row) = row else { return Ok(None) };
        let found: Option<String> = row.try_get(0).map_err(|error: sqlx::Error| away(error.into()))?;
        Ok(found.and_then(|text| unhex(&text)))
    }

    /// A tenant's feedback since a moment, by the week, oldest first.
    ///
    /// # Errors
    /// [`crate::error::Error::StoreAway`].
    pub async fn weeks(&self, tenant: &str, since: Timestamp) -> Result<Vec<Week>> {
        let query = "SELECT week, COUNT(*), SUM(CASE WHEN rating >= $3 THEN 1 ELSE 0 END) FROM ratings \
                     WHERE tenant = $1 AND week >= $2 GROUP BY week ORDER BY week";
        let query = sqlx::query(query).bind(tenant).bind(monday(since)).bind(POSITIVE);
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await.map_err(away)?;
        let week = |row: &sqlx::any::AnyRow| {
            let (rated, positive): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            Ok(Week { monday: row.try_get(0)?, rated: rated as u64, positive: positive as u64 })
        };
        rows.iter().map(week).collect::<Result<_, sqlx::Error>>().map_err(|error| away(error.into()))
    }
}

/// The Monday of a moment's week, in days since 1970, UTC.
fn monday(at: Timestamp) -> i64 {
    let back = at.to_zoned(TimeZone::UTC).weekday().to_monday_zero_offset();
    at.as_second().div_euclid(86_400) - i64::from(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_monday() {
        let of = |text: &str| monday(text.parse().unwrap());
        let monday = of("2026-11-16T00:00:00Z");
        assert_eq!(monday, 20_773);
        assert_eq!(of("2026-11-22T23:59:59Z"), monday);
        assert_eq!(of("2026-11-23T00:00:00Z"), monday + 7);
        assert_eq!(of("1969-12-31T12:00:00Z"), -3);
    }
}
