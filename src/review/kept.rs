//! What the cache keeps answers under that nobody looks at unless they are rated badly: then what a reviewer decides
//! holds for equal questions, too.
use std::{sync::Arc, time::Duration};

use sqlx::Row;

use super::{Reviews, away};
use crate::{
    audit::chain::{hex, unhex},
    error::Result,
    store::sql::Sql,
};

/// How long it is known.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the cache keeps the answer to a request under.
pub(super) struct Kept {
    pub tenant: Arc<str>,
    pub request: Arc<str>,
    pub owner: String,
    pub kept_as: [u8; 16],
    pub at: i64,
}

/// Writes them. Of two requests of one name the later holds.
pub(super) async fn add(sql: &Sql, all: &[Kept]) -> Result<(), sqlx::Error> {
    let mut tx = sql.begin().await?;
    let put = "INSERT INTO kept_answers (tenant, request, owner, kept_as, at) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant, request) DO UPDATE SET owner = excluded.owner, kept_as = excluded.kept_as, at = excluded.at";
    for kept in all {
        let query = sqlx::query(put).bind(&*kept.tenant).bind(&*kept.request).bind(&*kept.owner);
        query.bind(hex(&kept.kept_as)).bind(kept.at).execute(&mut *tx).await?;
    }
    tx.commit().await
}

impl Reviews {
    /// What the cache keeps the answer to a request under.
    pub(super) async fn kept(&self, tenant: &str, request: &str) -> Result<Option<[u8; 16]>> {
        self.flush().await;
        let query = sqlx::query("SELECT kept_as FROM kept_answers WHERE tenant = $1 AND request = $2");
        let query = query.bind(tenant).bind(request).fetch_optional(self.sql.pool());
        let Some(row) = self.sql.within(query).await.map_err(away)? else { return Ok(None) };
        let found: String = row.try_get(0).map_err(|error: sqlx::Error| away(error.into()))?;
        Ok(unhex(&found))
    }
}
