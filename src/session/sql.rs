//! Conversations in the database.
//!
//! Whoever adds to one, sums it up or deletes it first writes its row: one
//! waits for the other there, and sees what it did. A row whose conversation
//! was deleted stays for a while, without a word of it, to refuse the turns of
//! calls that began before.
use std::{sync::Weak, time::Duration};

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Added, Bounds, CLOSED, Fresh, History, Name, Sessions, Turn, now, summary::CLAIM};
use crate::store::sql::{Failed, Sql, Step, Tables};

/// How often what has had its time is deleted, and how much at once.
const TIDY: Duration = Duration::from_secs(300);
const AT_ONCE: i64 = 1000;

/// The tables. Times are microseconds since 1970; names and owners are digests.
pub const TABLES: Tables = Tables {
    name: "sessions",
    steps: &[Step::both(
        "CREATE TABLE sessions (name TEXT PRIMARY KEY, owner TEXT NOT NULL, last BIGINT NOT NULL, \
         folded BIGINT NOT NULL, dropped BIGINT NOT NULL, summary TEXT, claimed BIGINT NOT NULL, \
         closed BIGINT NOT NULL, begun BIGINT NOT NULL, ends BIGINT NOT NULL); \
         CREATE INDEX sessions_owner ON sessions (owner); CREATE INDEX sessions_ends ON sessions (ends); \
         CREATE TABLE session_turns (name TEXT NOT NULL, number BIGINT NOT NULL, at BIGINT NOT NULL, \
         request TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, tokens BIGINT NOT NULL, \
         PRIMARY KEY (name, number))",
    )],
};

pub(super) async fn load(sql: &Sql, name: &Name) -> Result<Option<History>, Failed> {
    let query = "SELECT s.summary, s.folded, s.dropped, s.begun, s.ends, t.number, t.at, t.request, t.question, t.answer, \
                 t.tokens FROM sessions s LEFT JOIN session_turns t ON t.name = s.name \
                 WHERE s.name = $1 AND s.ends > $2 ORDER BY t.number";
    let rows = sql.within(sqlx::query(query).bind(&*name.id).bind(now()).fetch_all(sql.pool())).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut history = History {
        summary: first.try_get(0)?,
        folded: first.try_get(1)?,
        dropped: first.try_get(2)?,
        begun: first.try_get(3)?,
        ends: first.try_get(4)?,
        turns: Vec::with_capacity(rows.len()),
    };
    for row in &rows {
        history.turns.extend(turn(row)?);
    }
    Ok(Some(history).filter(|history| !history.is_empty()))
}

fn turn(row: &AnyRow) -> Result<Option<Turn>, sqlx::Error> {
    let Some(number) = row.try_get::<Option<i64>, _>(5)? else { return Ok(None) };
    let turn = Turn {
        number,
        at: row.try_get(6)?,
        request: row.try_get(7)?,
        question: row.try_get(8)?,
        answer: row.try_get(9)?,
        tokens: row.try_get(10)?,
    };
    Ok(Some(turn.named()))
}

pub(super) async fn add(
    sql: &Sql,
    name: &Name,
    fresh: &Fresh,
    bounds: Bounds,
) -> Result<Option<Added>, Failed> {
    let work = async {
        let mut tx = sql.begin().await?;
        let added = added(&mut tx, name, fresh, bounds).await?;
        if added.is_some() {
            tx.commit().await?;
        }
        Ok(added)
    };
    sql.within(work).await
}

async fn added(
    tx: &mut AnyConnection,
    name: &Name,
    fresh: &Fresh,
    bounds: Bounds,
) -> Result<Option<Added>, sqlx::Error> {
    let (id, now) = (&*name.id, now());
    let ends = now.saturating_add(bounds.ttl.as_micros() as i64);
    // One that has had its time begins anew.
    let old = "DELETE FROM session_turns WHERE name = $1 AND EXISTS (SELECT 1 FROM sessions WHERE name = $1 AND ends <= $2)";
    sqlx::query(old).bind(id).bind(now).execute(&mut *tx).await?;
    sqlx::query("DELETE FROM sessions WHERE name = $1 AND ends <= $2")
        .bind(id)
        .bind(now)
        .execute(&mut *tx)
        .await?;
    let put = "INSERT INTO sessions (name, owner, last, folded, dropped, claimed, closed, begun, ends) \
               VALUES ($1, $2, 1, 0, 0, 0, 0, $3, $4) ON CONFLICT (name) DO UPDATE SET last = sessions.last + 1, \
               ends = excluded.ends, begun = CASE WHEN sessions.last = sessions.folded AND sessions.summary IS NULL \
               THEN excluded.begun ELSE sessions.begun END RETURNING last, closed";
    let row =
        sqlx::query(put).bind(id).bind(&*name.owner).bind(fresh.at).bind(ends).fetch_one(&mut *tx).await?;
    let (number, closed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    // The row of an owner says when all that is theirs was deleted.
    let erased = sqlx::query("SELECT closed FROM sessions WHERE name = $1").bind(&*name.owner);
    let erased = erased.fetch_optional(&mut *tx).await?.map(|row| row.try_get::<i64, _>(0)).transpose()?;
    if closed.max(erased.unwrap_or_default()) >= fresh.began {
        return Ok(None);
    }
    let put = "INSERT INTO session_turns (name, number, at, request, question, answer, tokens) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let put = sqlx::query(put).bind(id).bind(number).bind(fresh.at).bind(&*fresh.request);
    put.bind(&*fresh.question).bind(&*fresh.answer).bind(fresh.tokens).execute(&mut *tx).await?;
    let turns = sqlx::query("SELECT number, tokens FROM session_turns WHERE name = $1 ORDER BY number DESC");
    let turns = turns.bind(id).fetch_all(&mut *tx).await?;
    let turns = turns.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let turns = turns.collect::<Result<Vec<(i64, i64)>, sqlx::Error>>()?;
    let cut = bounds.cut(turns.iter().copied()).unwrap_or(0);
    let (kept, gone): (Vec<_>, Vec<_>) = turns.into_iter().partition(|(number, _)| *number > cut);
    if cut > 0 {
        let gone = gone.len() as i64;
        let cutting = "UPDATE sessions SET folded = $2, dropped = dropped + $3 WHERE name = $1";
        sqlx::query(cutting).bind(id).bind(cut).bind(gone).execute(&mut *tx).await?;
        forget(tx, id, cut).await?;
    }
    let tokens = kept.iter().map(|(_, tokens)| tokens).sum();
    Ok(Some(Added { turns: kept.len() as i64, tokens, dropped: gone.len() as i64 }))
}

async fn forget(tx: &mut AnyConnection, id: &str, through: i64) -> Result<(), sqlx::Error> {
    let turns = sqlx::query("DELETE FROM session_turns WHERE name = $1 AND number <= $2");
    turns.bind(id).bind(through).execute(tx).await.map(|_| ())
}

pub(super) async fn claim(sql: &Sql, name: &Name, folded: i64) -> Result<bool, Failed> {
    let now = now();
    let query = "UPDATE sessions SET claimed = $4 WHERE name = $1 AND folded = $2 AND claimed <= $3";
    let query =
        sqlx::query(query).bind(&*name.id).bind(folded).bind(now).bind(now + CLAIM.as_micros() as i64);
    Ok(sql.within(query.execute(sql.pool())).await?.rows_affected() == 1)
}

pub(super) async fn fold(
    sql: &Sql,
    name: &Name,
    folded: i64,
    summed: Option<(i64, &str)>,
) -> Result<bool, Failed> {
    let Some((through, summary)) = summed else {
        let back = sqlx::query("UPDATE sessions SET claimed = 0 WHERE name = $1 AND folded = $2");
        let back = back.bind(&*name.id).bind(folded).execute(sql.pool());
        return Ok(sql.within(back).await?.rows_affected() == 1);
    };
    let work = async {
        let mut tx = sql.begin().await?;
        let set =
            "UPDATE sessions SET summary = $3, folded = $4, claimed = 0 WHERE name = $1 AND folded = $2";
        let set = sqlx::query(set).bind(&*name.id).bind(folded).bind(summary).bind(through);
        let done = set.execute(&mut *tx).await?.rows_affected() == 1;
        if done {
            forget(&mut tx, &name.id, through).await?;
            tx.commit().await?;
        }
        Ok(done)
    };
    sql.within(work).await
}

pub(super) async fn remove(sql: &Sql, name: &Name) -> Result<bool, Failed> {
    let work = async {
        let mut tx = sql.begin().await?;
        let was = close(&mut tx, &name.id, &name.owner).await?;
        tx.commit().await?;
        Ok(was)
    };
    let was = sql.within(work).await?;
    sql.scrub("sessions, session_turns").await?;
    Ok(was)
}

pub(super) async fn erase(sql: &Sql, owner: &str) -> Result<u64, Failed> {
    let work = async {
        // Said before anything is looked for: what comes later is refused.
        let mut tx = sql.begin().await?;
        close(&mut tx, owner, owner).await?;
        tx.commit().await?;
        let mut tx = sql.begin().await?;
        let names = sqlx::query("SELECT name FROM sessions WHERE owner = $1 AND name <> $1 ORDER BY name");
        let mut many = 0;
        for row in names.bind(owner).fetch_all(&mut *tx).await? {
            many += u64::from(close(&mut tx, row.try_get(0)?, owner).await?);
        }
        tx.commit().await?;
        Ok(many)
    };
    let many = sql.within(work).await?;
    sql.scrub("sessions, session_turns").await?;
    Ok(many)
}

/// Takes all that a conversation says out of it, and notes when. Tells whether it said anything.
async fn close(tx: &mut AnyConnection, id: &str, owner: &str) -> Result<bool, sqlx::Error> {
    let now = now();
    let put = "INSERT INTO sessions (name, owner, last, folded, dropped, claimed, closed, begun, ends) \
               VALUES ($1, $2, 0, 0, 0, 0, $3, $3, $4) ON CONFLICT (name) DO UPDATE SET closed = excluded.closed RETURNING summary, ends";
    let put = sqlx::query(put).bind(id).bind(owner).bind(now).bind(now + CLOSED.as_micros() as i64);
    let row = put.fetch_one(&mut *tx).await?;
    let (summary, ends): (Option<String>, i64) = (row.try_get(0)?, row.try_get(1)?);
    let turns = sqlx::query("DELETE FROM session_turns WHERE name = $1").bind(id);
    let turns = turns.execute(&mut *tx).await?.rows_affected();
    let empty = "UPDATE sessions SET summary = NULL, folded = last, dropped = 0, claimed = 0, ends = $2 WHERE name = $1";
    sqlx::query(empty).bind(id).bind(now + CLOSED.as_micros() as i64).execute(&mut *tx).await?;
    Ok(ends > now && (turns > 0 || summary.is_some()))
}

/// Deletes what has had its time, for as long as there are sessions.
pub(super) async fn tidy(sql: Sql, sessions: Weak<Sessions>) {
    loop {
        tokio::time::sleep(TIDY).await;
        if sessions.strong_count() == 0 {
            return;
        }
        // The database says itself when it is away; it is tried again.
        while matches!(sql.within(expire(&sql)).await, Ok(AT_ONCE..)) {}
    }
}

async fn expire(sql: &Sql) -> Result<i64, sqlx::Error> {
    let mut tx = sql.begin().await?;
    let old = sqlx::query("SELECT name FROM sessions WHERE ends <= $1 ORDER BY ends LIMIT $2");
    let old = old.bind(now()).bind(AT_ONCE).fetch_all(&mut *tx).await?;
    for row in &old {
        let name: &str = row.try_get(0)?;
        // Looked at once more: a turn may have been added since.
        let gone = sqlx::query("DELETE FROM sessions WHERE name = $1 AND ends <= $2").bind(name).bind(now());
        if gone.execute(&mut *tx).await?.rows_affected() == 1 {
            forget(&mut tx, name, i64::MAX).await?;
        }
    }
    tx.commit().await?;
    Ok(old.len() as i64)
}
