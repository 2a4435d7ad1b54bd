//! Brings items into the database, in batches, and takes old ones out.
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use sqlx::Row;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    Fresh, LONGEST, Rules,
    kept::{self, KEPT, Kept},
    now, shorten,
};
use crate::{audit::chain::hex, observe::Metrics, store::sql::Sql};

/// Items that are written as one.
const BATCH: usize = 128;
/// How soon what the database did not take is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often what a database that is there refuses is tried.
const MOST_TRIES: u32 = 3;
/// How often what has had its time is deleted.
const TIDY: Duration = Duration::from_secs(3600);

/// What is to be done.
pub(super) enum Change {
    /// An item is to be added.
    Add(Box<Fresh>),
    /// What an answer is kept under is to be known.
    Keep(Box<Kept>),
    /// Somebody waits for those before.
    Flush(oneshot::Sender<()>),
}

/// Writes what comes, until all handles are gone. What the database does not take waits, and the queue is bounded.
pub(super) async fn write(
    sql: Sql,
    rules: Arc<ArcSwap<Rules>>,
    metrics: Arc<Metrics>,
    mut changes: mpsc::Receiver<Change>,
) {
    let mut batch = Vec::new();
    while changes.recv_many(&mut batch, BATCH).await > 0 {
        let (mut items, mut all, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for change in batch.drain(..) {
            match change {
                Change::Add(fresh) => items.push(masked(*fresh, &rules.load())),
                Change::Keep(kept) => all.push(*kept),
                Change::Flush(done) => waiting.push(done),
            }
        }
        if !items.is_empty() {
            put(&sql, &rules, &metrics, &items).await;
        }
        if !all.is_empty()
            && let Err(error) = sql.within(kept::add(&sql, &all)).await
        {
            tracing::debug!(%error, "what answers are kept under is not written");
        }
        for done in waiting {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

/// Writes items, however long the database is away. What it refuses although it is there is left out.
async fn put(sql: &Sql, rules: &ArcSwap<Rules>, metrics: &Metrics, items: &[Fresh]) {
    for tries in 1_u32.. {
        let most = i64::from(rules.load().settings.max_open);
        match sql.within(add(sql, items, most)).await {
            Ok(added) => {
                for (item, added) in items.iter().zip(added) {
                    let what = if added { "queued" } else { "full" };
                    metrics.reviews.with_label_values(&[item.reason.name(), what]).inc();
                }
                return;
            }
            // The database says itself when it is away.
            Err(error) if !sql.is_up() => tracing::debug!(%error, "the review queue is not written yet"),
            Err(error) if tries < MOST_TRIES => tracing::warn!(%error, "the review queue is not written yet"),
            Err(error) => {
                if let [item] = items {
                    let (request, reason) = (&*item.request, item.reason.name());
                    tracing::error!(%error, request_id = request, reason, "an answer is not in the review queue");
                    metrics.reviews.with_label_values(&[reason, "lost"]).inc();
                    return;
                }
                // One that it does not take is not to keep out the others.
                for item in items {
                    Box::pin(put(sql, rules, metrics, std::slice::from_ref(item))).await;
                }
                return;
            }
        }
        sleep(AGAIN).await;
    }
}

/// Puts placeholders into its texts: the same one for the same value.
pub(super) fn masked(mut fresh: Fresh, rules: &Rules) -> Fresh {
    let mut mask = rules.masks.masker();
    let Fresh { rating, question, answer, masked, .. } = &mut fresh;
    let words = rating.as_mut().map(|rating| (&mut rating.words, true));
    let asked = [(question, !*masked)].into_iter().chain(answer.as_mut().map(|answer| (answer, !*masked)));
    for (text, raw) in words.into_iter().chain(asked) {
        if raw && let std::borrow::Cow::Owned(masked) = mask.mask(text) {
            *text = masked;
        }
        // No Postgres takes it.
        text.retain(|letter| letter != '\0');
        shorten(text, LONGEST);
    }
    fresh
}

/// Adds items; tells of each whether there was room for it. An item that is there is left as it is.
async fn add(sql: &Sql, items: &[Fresh], most: i64) -> Result<Vec<bool>, sqlx::Error> {
    let mut tx = sql.begin().await?;
    let mut open: HashMap<&str, i64> = HashMap::new();
    for item in items {
        if !open.contains_key(&*item.tenant) {
            let query = sqlx::query("SELECT COUNT(*) FROM reviews WHERE tenant = $1 AND status = 'open'");
            let count = query.bind(&*item.tenant).fetch_one(&mut *tx).await?.try_get(0)?;
            open.insert(&item.tenant, count);
        }
    }
    let put = "INSERT INTO reviews (id, tenant, owner, request, reason, status, at, confidence, question, answer, model, \
               sources, rating, feedback, claimed_until, rater, kept_as, approved) VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $8, $9, \
               $10, $11, $12, $13, 0, $14, $15, $16) ON CONFLICT (id) DO NOTHING";
    let mut added = Vec::with_capacity(items.len());
    for item in items {
        let count = open.entry(&item.tenant).or_default();
        let room = *count < most;
        added.push(room);
        if !room {
            continue;
        }
        let said = item.rating.as_ref();
        let (rating, feedback) = (said.map(|said| i64::from(said.stars)), said.map(|said| &*said.words));
        let rater = said.map(|said| &*said.rater);
        if let Some(rating) = rating {
            // What is open already for this answer hears of it, and there is no second item. What others said of it is
            // shown from their ratings.
            let told = "UPDATE reviews SET rating = $3, feedback = $4, rater = $5, approved = COALESCE(approved, $6) \
                        WHERE tenant = $1 AND request = $2 AND status = 'open'";
            let told = sqlx::query(told).bind(&*item.tenant).bind(&*item.request).bind(rating).bind(feedback);
            let told = told.bind(rater).bind(item.approved.as_deref());
            if told.execute(&mut *tx).await?.rows_affected() > 0 {
                continue;
            }
        }
        let query =
            sqlx::query(put).bind(&*item.id).bind(&*item.tenant).bind(&*item.owner).bind(&*item.request);
        let query = query.bind(item.reason.name()).bind(item.at).bind(item.confidence).bind(&*item.question);
        let query = query.bind(item.answer.as_deref()).bind(item.model.as_deref());
        let query = query.bind(serde_json::to_string(&item.sources).unwrap_or_default());
        let query = query.bind(rating).bind(feedback).bind(rater).bind(item.kept_as.map(|key| hex(&key)));
        let query = query.bind(item.approved.as_deref());
        query.execute(&mut *tx).await?;
        *count += 1;
    }
    tx.commit().await?;
    Ok(added)
}

/// Deletes what has had its time, for as long as somebody uses it.
pub(super) async fn tidy(sql: Sql, rules: Weak<ArcSwap<Rules>>) {
    while let Some(rules) = rules.upgrade() {
        let keep = rules.load().settings.retention.0;
        drop(rules);
        let oldest = now().saturating_sub(keep.as_micros() as i64);
        let gone = sql.within(async {
            let items = "DELETE FROM reviews WHERE at < $1 AND status IN ('open', 'rejected')";
            sqlx::query(items).bind(oldest).execute(sql.pool()).await?;
            let known = "DELETE FROM kept_answers WHERE at < $1";
            sqlx::query(known).bind(now() - KEPT.as_micros() as i64).execute(sql.pool()).await?;
            sqlx::query("DELETE FROM ratings WHERE at < $1").bind(oldest).execute(sql.pool()).await
        });
        // It is tried again in an hour.
        let _ = gone.await;
        sleep(TIDY).await;
    }
}
