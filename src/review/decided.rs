//! What reviewers decided, as it is read by who gives approved answers to equal questions.
use serde_json::from_str;
use sqlx::{Row, any::AnyRow};

use super::{Reviews, away};
use crate::{audit::chain::unhex, error::Result};

/// Decisions that are read at a time.
pub const PAGE: usize = 500;

/// A decision, as it stands.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The item's id.
    pub id: String,
    /// The tenant.
    pub tenant: String,
    /// What the cache keeps the answer under; absent where it keeps none, and where the words were erased.
    pub kept_as: Option<[u8; 16]>,
    /// The answer that a person stands for; absent where it was rejected.
    pub answer: Option<String>,
    /// The model whose answer was judged.
    pub model: Option<String>,
    /// How far an answer can be relied on that was approved as it is, as that was judged when it was given.
    pub confidence: Option<f64>,
    /// The documents that an answer rests on which was approved as it is.
    pub sources: Vec<String>,
    /// When this was decided, or its words were erased, in microseconds since 1970.
    pub changed: i64,
}

impl Reviews {
    /// A page of decisions after the one that was changed at `since` and has the id `after`, oldest first.
    ///
    /// # Errors
    /// [`crate::error::Error::StoreAway`].
    pub async fn decisions(&self, since: i64, after: &str) -> Result<Vec<Decided>> {
        let query = "SELECT id, tenant, status, kept_as, question, answer, decision, model, sources, changed, confidence FROM reviews \
                     WHERE (changed > $1 OR (changed = $1 AND id > $2)) AND status <> 'open' ORDER BY changed, id LIMIT $3";
        let query = sqlx::query(query).bind(since).bind(after).bind(PAGE as i64);
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await.map_err(away)?;
        rows.iter().map(decided).collect::<Result<_, _>>().map_err(|error| away(error.into()))
    }
}

fn decided(row: &AnyRow) -> Result<Decided, sqlx::Error> {
    let status: String = row.try_get(2)?;
    let (question, answer): (String, Option<String>) = (row.try_get(4)?, row.try_get(5)?);
    let sources: String = row.try_get(8)?;
    let (answer, sources) = match &*status {
        "approved" => (answer, from_str(&sources).unwrap_or_default()),
        // What it rests on, only its author knows.
        "edited" => (row.try_get(6)?, Vec::new()),
        _ => (None, Vec::new()),
    };
    let kept_as: Option<String> = row.try_get(3)?;
    Ok(Decided {
        id: row.try_get(0)?,
        tenant: row.try_get(1)?,
        kept_as: kept_as.and_then(|text| unhex(&text)),
        // A placeholder stands for a value that only its own call knew.
        answer: answer.filter(|answer| !has_placeholder(answer) && !has_placeholder(&question)),
        confidence: if status == "approved" { row.try_get(10)? } else { None },
        model: row.try_get(7)?,
        sources,
        changed: row.try_get(9)?,
    })
}

/// Whether something such as `[EMAIL_1]` stands in a text.
fn has_placeholder(text: &str) -> bool {
    text.split('[').skip(1).any(|rest| {
        let Some((word, _)) = rest.split_once(']') else { return false };
        let Some((label, number)) = word.rsplit_once('_') else { return false };
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !label.is_empty()
            && label.bytes().all(upper)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_from_other_words_in_brackets() {
        for text in ["Write to [EMAIL_1].", "[US_SSN_12]", "a[0] and [CARD_3]"] {
            assert!(has_placeholder(text), "{text}");
        }
        for text in ["", "see [1]", "list[EMAIL]", "[EMAIL_]", "[_1]", "[email_1]", "[A_1", "[CARD_x]"] {
            assert!(!has_placeholder(text), "{text}");
        }
    }
}
