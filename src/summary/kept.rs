//! The hours in the database: a row for each tenant, hour and gateway.
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::Row;

use super::{MOST_HOURS, Summaries, Sums};
use crate::store::sql::{Failed, Sql, Step, Tables};

/// How often what was added is written.
const EVERY: Duration = Duration::from_secs(5);
/// How often what is too old is removed, in writes.
const TIDY: u32 = 720;

/// The table.
pub const TABLES: Tables = Tables {
    name: "summary",
    steps: &[Step::both(
        "CREATE TABLE summary (tenant TEXT NOT NULL, hour BIGINT NOT NULL, gateway TEXT NOT NULL, \
         sums TEXT NOT NULL, PRIMARY KEY (tenant, hour, gateway))",
    )],
};

/// The hours in the database.
#[derive(Debug)]
pub struct Kept {
    sql: Sql,
    /// This process: each writes rows of its own.
    gateway: String,
}

impl Kept {
    /// The hours in `sql`, written from `summaries` from here on.
    pub fn start(sql: Sql, summaries: &Arc<Summaries>) -> Arc<Self> {
        let this = Arc::new(Self { sql, gateway: uuid::Uuid::new_v4().to_string() });
        tokio::spawn(write(Arc::downgrade(&this), summaries.clone()));
        this
    }

    /// The hours of a tenant that other gateways, and this one in earlier lives, have written.
    pub async fn others(&self, tenant: &str, from: i64) -> Result<BTreeMap<i64, Sums>, Failed> {
        let query = "SELECT hour, sums FROM summary WHERE tenant = $1 AND hour >= $2 AND gateway <> $3";
        let query = sqlx::query(query).bind(tenant).bind(from).bind(&*self.gateway);
        let rows = self.sql.within(query.fetch_all(self.sql.pool())).await?;
        let mut found = BTreeMap::<i64, Sums>::new();
        for row in rows {
            let (hour, sums): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            // What a newer version wrote otherwise is left out rather than the whole answer.
            if let Ok(sums) = serde_json::from_str(&sums) {
                found.entry(hour).or_default().plus(&sums);
            }
        }
        Ok(found)
    }

    /// Writes what was added. Tells whether that went well.
    pub async fn flush(&self, summaries: &Summaries) -> bool {
        let rows = summaries.fresh();
        if rows.is_empty() {
            return true;
        }
        let set = "INSERT INTO summary (tenant, hour, gateway, sums) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (tenant, hour, gateway) DO UPDATE SET sums = excluded.sums";
        let work = async {
            let mut tx = self.sql.begin().await?;
            for (tenant, hour, sums) in &rows {
                let sums = serde_json::to_string(sums).unwrap_or_default();
                let query = sqlx::query(set).bind(&**tenant).bind(*hour).bind(&*self.gateway).bind(sums);
                query.execute(&mut *tx).await?;
            }
            tx.commit().await
        };
        let done = self.sql.within(work).await.is_ok();
        if !done {
            summaries.again(&rows);
        }
        done
    }

    async fn tidy(&self) {
        let oldest = jiff::Timestamp::now().as_second().div_euclid(3600) - MOST_HOURS;
        let query = sqlx::query("DELETE FROM summary WHERE hour < $1").bind(oldest);
        // It is tried again in an hour.
        let _ = self.sql.within(query.execute(self.sql.pool())).await;
    }
}

async fn write(kept: Weak<Kept>, summaries: Arc<Summaries>) {
    for round in 0_u32.. {
        tokio::time::sleep(EVERY).await;
        let Some(kept) = kept.upgrade() else { return };
        kept.flush(&summaries).await;
        if round % TIDY == 0 {
            kept.tidy().await;
        }
    }
}
