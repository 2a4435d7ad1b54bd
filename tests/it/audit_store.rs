//! The records in the database: the same on SQLite and on Postgres.
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use sluice::{
    audit::{
        self, Archive, Ends, Filing, Key, Record, Settings, Spelling, Ticket, Writer, anchor::Anchor,
        recheck::Recheck,
    },
    call::{Listeners, Target, Uncounted},
    observe::Metrics,
    store::{self, sql::Sql},
};
use sqlx::Row;

use crate::support::records::{Place, Word, record};

/// An audit that runs.
struct Running {
    writer: Writer,
    filing: Filing,
    archive: Archive,
    sql: Sql,
}

fn settings(place: &Place, gateway: &str) -> Settings {
    Settings { folder: place.folder.path().join(gateway), ..Settings::default() }
}

async fn open(place: &Place, gateway: &str) -> Running {
    let metrics = Arc::new(Metrics::new().unwrap());
    let sql = Sql::open(&place.stores, &[audit::TABLES], &metrics).await.unwrap();
    let archive = Archive::new(sql.clone(), Arc::new(Key::new(b"a key")));
    let ends = Ends {
        settle: Arc::new(|_| unreachable!("all is counted")),
        done: Arc::new(|_, _| {}),
        anchored: Arc::new(|_: Anchor| {}),
    };
    let settings = settings(place, gateway);
    let spelling = Spelling { settings: &settings, log: None, masks: Arc::new(Word(None)) };
    let lock = audit::Lock::take(&settings).unwrap();
    let (writer, filing) = audit::open(&spelling, ends, archive.clone(), metrics, lock).await.unwrap();
    Running { writer, filing: filing.unwrap(), archive, sql }
}

impl Running {
    fn write(&self, id: &str, user: &str, at: SystemTime) -> Ticket {
        self.writer.record(self.writer.reserve().unwrap(), record(id, user, &format!("words of {user}"), at))
    }

    async fn find(&self, id: &str) -> Option<Value> {
        let found = self.archive.find(id, |tenant| tenant == "tenant").await.unwrap()?;
        Some(serde_json::from_slice(&found.json).unwrap())
    }

    async fn faults(&self, place: &Place, gateway: &str) -> Vec<String> {
        let reports =
            audit::verify::verify(&self.archive, Some(&settings(place, gateway).folder), &[]).await.unwrap();
        reports.into_iter().flat_map(|report| report.faults).collect()
    }

    async fn close(self) {
        self.writer.close();
        self.filing.flush().await.unwrap();
        self.sql.close().await;
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn records_are_moved_found_cut_and_erased_on_every_database() {
    for place in Place::each().await {
        let one = open(&place, "one").await;
        let now = SystemTime::now();
        // More than a block of them, the first half old.
        let tickets: Vec<Ticket> = (0..600)
            .map(|number| {
                let at = if number < 300 { now - 10 * DAY } else { now };
                one.write(&format!("r-{number}"), ["anna", "bob"][number % 2], at)
            })
            .collect();
        for ticket in tickets {
            ticket.wait().await.unwrap();
        }
        one.filing.flush().await.unwrap();
        for number in [0, 299, 300, 599] {
            let found = one.find(&format!("r-{number}")).await.unwrap();
            assert_eq!(found["question"], json!(format!("words of {}", ["anna", "bob"][number % 2])));
        }
        assert!(one.find("nobody").await.is_none());
        let own = uuid::Uuid::now_v7().to_string();
        one.write(&own, "bob", now).wait().await.unwrap();
        one.filing.flush().await.unwrap();
        assert_eq!(one.find(&own).await.unwrap()["request_id"], json!(own));
        assert!(one.archive.find(&own, |tenant| tenant == "other").await.unwrap().is_none());
        // What was given once more has a record of its own, and does not hide the first.
        let again = Record { replay_of: Some((&*own).into()), ..record(&own, "bob", "", now) };
        one.writer.record(one.writer.reserve().unwrap(), again).wait().await.unwrap();
        one.filing.flush().await.unwrap();
        assert!(one.find(&own).await.unwrap()["replay_of"].is_null());
        assert_eq!(one.faults(&place, "one").await, [""; 0]);

        // Another gateway with its own chain erases what both have.
        let following = one.filing.tidy(None, Arc::new(|_, _| Box::pin(async { Ok(()) })));
        let two = open(&place, "two").await;
        two.write("t-1", "anna", now).wait().await.unwrap();
        one.write("r-last", "anna", now).wait().await.unwrap();
        let erased = two.filing.erase("tenant", "anna").await.unwrap();
        assert!((301..=302).contains(&erased.records), "{erased:?}");
        let begun = Instant::now();
        loop {
            one.filing.flush().await.unwrap();
            if one.find("r-last").await.unwrap()["erased"] == json!(true) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the other gateway does not hear of it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        following.abort();
        assert_eq!(one.find("r-0").await.unwrap()["erased"], json!(true));
        assert_eq!(one.find("r-1").await.unwrap()["question"], json!("words of bob"));
        assert_eq!(one.faults(&place, "one").await, [""; 0]);

        // What is too old goes, a block at a time, and the chain says so.
        let moment = (now - 5 * DAY).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64;
        one.filing.cut(moment).await.unwrap();
        assert!(one.find("r-0").await.is_none() && one.find("r-599").await.is_some());
        assert_eq!(one.faults(&place, "one").await, [""; 0]);
        two.close().await;
        one.close().await;

        // A record that is taken out of the middle, or erased by nobody, is missed.
        let one = open(&place, "one").await;
        let rows = "SELECT first FROM audit_blocks WHERE chain = 1 ORDER BY first";
        let rows = sqlx::query(rows).fetch_all(one.sql.pool()).await.unwrap();
        let firsts: Vec<i64> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        let gone = sqlx::query("DELETE FROM audit_blocks WHERE chain = 1 AND first = $1").bind(firsts[0]);
        gone.execute(one.sql.pool()).await.unwrap();
        let faults = one.faults(&place, "one").await;
        assert!(faults.iter().any(|fault| fault.contains("are missing, and no record tells")), "{faults:?}");
        one.close().await;
    }
}

#[tokio::test]
async fn what_the_database_says_beside_the_records_is_checked_too() {
    for place in Place::each().await {
        let one = open(&place, "one").await;
        let now = SystemTime::now();
        for number in 0..3 {
            one.write(&format!("r-{number}"), "anna", now).wait().await.unwrap();
        }
        one.filing.flush().await.unwrap();
        one.filing.erase("tenant", "bob").await.unwrap();
        one.filing.flush().await.unwrap();
        assert_eq!(one.faults(&place, "one").await, [""; 0]);
        // Each is done, found, and taken back.
        for (change, back, fault) in [
            ("UPDATE audit_blocks SET last = last + 1", "UPDATE audit_blocks SET last = last - 1", "`last`"),
            (
                "UPDATE audit_blocks SET ended = ended - 9",
                "UPDATE audit_blocks SET ended = ended + 9",
                "`ended`",
            ),
            (
                "UPDATE audit_ids SET began = 0 - began",
                "UPDATE audit_ids SET began = 0 - began",
                "not those of its records",
            ),
            (
                "UPDATE audit_ids SET first = first + 500",
                "UPDATE audit_ids SET first = first - 500",
                "are missing",
            ),
            (
                "UPDATE audit_chains SET id = id + 5",
                "UPDATE audit_chains SET id = id - 5",
                "has no row in `audit_chains` any more",
            ),
            (
                "UPDATE audit_erasures SET until = until - 1",
                "UPDATE audit_erasures SET until = until + 1",
                "the erasure that record",
            ),
            (
                "UPDATE audit_erasures SET tenant = 'other'",
                "UPDATE audit_erasures SET tenant = 'tenant'",
                "the erasure that record",
            ),
            (
                "INSERT INTO audit_erasures SELECT 'x', tenant, usr, until, done FROM audit_erasures",
                "DELETE FROM audit_erasures WHERE id = 'x'",
                "that no record tells of",
            ),
        ] {
            // The number of a chain is Postgres's own to give.
            if change.contains("audit_chains") && place.stores.postgres.is_some() {
                continue;
            }
            sqlx::query(change).execute(one.sql.pool()).await.unwrap();
            let faults = one.faults(&place, "one").await;
            assert!(faults.iter().any(|told| told.contains(fault)), "{change}: {faults:?}");
            sqlx::query(back).execute(one.sql.pool()).await.unwrap();
            assert_eq!(one.faults(&place, "one").await, [""; 0], "{back}");
        }
        sqlx::query("DELETE FROM audit_erasures").execute(one.sql.pool()).await.unwrap();
        let faults = one.faults(&place, "one").await;
        assert!(faults.iter().any(|told| told.contains("the erasure that record")), "{faults:?}");
        one.close().await;
    }
}

/// Looks at all blocks of all chains, twice: the first round may begin anywhere. Tells how many are damaged.
async fn looked(one: &Running, recheck: &mut Recheck, filed: u64) -> usize {
    let own = one.archive.chains().await.unwrap()[0].name;
    for _ in 0..20 {
        recheck.step(&one.archive, (own, filed)).await.unwrap();
    }
    recheck.damaged()
}

#[tokio::test]
async fn damage_in_the_database_is_found_while_nobody_checks() {
    for place in Place::each().await {
        let one = open(&place, "one").await;
        let now = SystemTime::now();
        // A block each.
        for number in 0..5 {
            let at = if number < 3 { now - 10 * DAY } else { now };
            one.write(&format!("r-{number}"), "anna", at).wait().await.unwrap();
            one.filing.flush().await.unwrap();
        }
        let mut recheck = Recheck::default();
        assert_eq!(looked(&one, &mut recheck, 5).await, 0);
        // Each is done, found, taken back, and well again.
        for (change, back, many) in [
            (
                "UPDATE audit_blocks SET last = 9 WHERE first = 3",
                "UPDATE audit_blocks SET last = 3 WHERE first = 3",
                1,
            ),
            ("UPDATE audit_ids SET began = 1 - began", "UPDATE audit_ids SET began = 1 - began", 5),
            (
                "UPDATE audit_ids SET first = 30 WHERE first = 3",
                "UPDATE audit_ids SET first = 3 WHERE first = 30",
                1,
            ),
            // A block is gone.
            (
                "UPDATE audit_blocks SET chain = 77 WHERE first = 3",
                "UPDATE audit_blocks SET chain = (SELECT MAX(id) FROM audit_chains) WHERE first = 3",
                1,
            ),
            // The end is.
            (
                "UPDATE audit_blocks SET chain = 77 WHERE first > 3",
                "UPDATE audit_blocks SET chain = (SELECT MAX(id) FROM audit_chains) WHERE first > 3",
                1,
            ),
        ] {
            sqlx::query(change).execute(one.sql.pool()).await.unwrap();
            assert_eq!(looked(&one, &mut recheck, 5).await, many, "{change}");
            sqlx::query(back).execute(one.sql.pool()).await.unwrap();
            assert_eq!(looked(&one, &mut recheck, 5).await, 0, "{back}");
        }
        // Any byte of a block.
        let read = sqlx::query("SELECT frames FROM audit_blocks WHERE first = 4").fetch_one(one.sql.pool());
        let whole: Vec<u8> = read.await.unwrap().get(0);
        let put = async |bytes: Vec<u8>| {
            let put = sqlx::query("UPDATE audit_blocks SET frames = $1 WHERE first = 4").bind(bytes);
            put.execute(one.sql.pool()).await.unwrap();
        };
        for at in (0..whole.len()).step_by(whole.len() / 7) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            put(changed).await;
            assert_eq!(looked(&one, &mut recheck, 5).await, 1, "byte {at}");
        }
        put(Vec::new()).await;
        assert_eq!(looked(&one, &mut recheck, 5).await, 1);
        put(whole).await;
        // An erasure and a cut are none, whatever was looked at last.
        one.filing.erase("tenant", "anna").await.unwrap();
        for steps in 0..8 {
            let mut recheck = Recheck::default();
            let own = one.archive.chains().await.unwrap()[0].name;
            for _ in 0..steps {
                recheck.step(&one.archive, (own, 6)).await.unwrap();
            }
            if steps == 4 {
                let before = now - 5 * DAY;
                let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
                one.filing.cut(i64::try_from(before).unwrap()).await.unwrap();
            }
            assert_eq!(looked(&one, &mut recheck, 6).await, 0, "{steps}");
        }
        assert_eq!(one.faults(&place, "one").await, [""; 0]);
        one.close().await;
    }
}

#[tokio::test]
async fn an_erasure_whose_gateway_stopped_before_it_wrote_its_record_has_one() {
    for place in Place::each().await {
        let one = open(&place, "one").await;
        one.write("r-1", "anna", SystemTime::now()).wait().await.unwrap();
        one.filing.flush().await.unwrap();
        // The one that was asked has told the others, and no more.
        let user = audit::chain::hex(&one.archive.key().user("tenant", "anna"));
        let until = jiff::Timestamp::now().as_microsecond();
        let row =
            "INSERT INTO audit_erasures (id, tenant, usr, until, done) VALUES ($1, 'tenant', $2, $3, 0)";
        let row = sqlx::query(row).bind(uuid::Uuid::new_v4().to_string()).bind(user).bind(until);
        row.execute(one.sql.pool()).await.unwrap();
        let following = one.filing.tidy(None, Arc::new(|_, _| Box::pin(async { Ok(()) })));
        let begun = Instant::now();
        let done = || async {
            let query = sqlx::query("SELECT done FROM audit_erasures").fetch_one(one.sql.pool());
            sqlx::Row::get::<i64, _>(&query.await.unwrap(), 0) > 0
        };
        while !done().await {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody brings it to its end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        following.abort();
        assert_eq!(one.find("r-1").await.unwrap()["erased"], json!(true));
        assert_eq!(one.faults(&place, "one").await, [""; 0]);
        one.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_records_whose_tokens_are_being_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stores = store::Settings { sqlite: folder.path().join("sluice.db"), ..store::Settings::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let sql = Sql::open(&stores, &[audit::TABLES], &metrics).await.unwrap();
    let archive = Archive::new(sql.clone(), Arc::new(Key::new(b"a key")));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let ends = Ends {
        settle: Arc::new(move |_| {
            released.lock().unwrap().recv().unwrap();
            sluice::chat::Usage::default()
        }),
        done: Arc::new(|_, _| {}),
        anchored: Arc::new(|_: Anchor| {}),
    };
    let settings = audit::Settings { folder: folder.path().join("audit"), ..audit::Settings::default() };
    let spelling = Spelling { settings: &settings, log: None, masks: Arc::new(Word(None)) };
    let lock = audit::Lock::take(&settings).unwrap();
    let (writer, filing) = audit::open(&spelling, ends, archive.clone(), metrics, lock).await.unwrap();
    let one = Running { writer, filing: filing.unwrap(), archive, sql };
    let record = record("r-1", "anna", "words of anna", SystemTime::now());
    let chat = record.chat.clone().unwrap();
    record.context.trail.note(|notes| {
        notes.uncounted.push(Arc::new(Uncounted {
            chat,
            target: Arc::new(Target {
                provider: "p".into(),
                model: "m".into(),
                version: "m".into(),
                label: "m".into(),
                slot: 0,
            }),
            output: "words".into(),
            text_from: None,
            known: None,
            attempt: None,
            share: None,
            listeners: Listeners::default(),
        }));
    });
    let ticket = one.writer.record(one.writer.reserve().unwrap(), record);
    let filing = one.filing.clone();
    let mut erasing = tokio::spawn(async move { filing.erase("tenant", "anna").await });
    // It is not over before the record is there that it has to reach.
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut erasing).await.is_err());
    release.send(()).unwrap();
    ticket.wait().await.unwrap();
    assert_eq!(erasing.await.unwrap().unwrap().records, 1);
    assert_eq!(one.find("r-1").await.unwrap()["erased"], json!(true));
    one.close().await;
}
