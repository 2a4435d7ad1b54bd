//! The records in the database: the same on SQLite and on Postgres.
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use sluice::{
    audit::{
        self, Answer, Archive, Ends, Filing, Key, Mask, Masking, Record, Settings, Spelling, Ticket, Writer,
        anchor::Anchor,
    },
    call::{Caller, Context, Priority, Trace, Trail},
    chat::{Message, Request, Role},
    observe::Metrics,
    settings::SecretFrom,
    store::{self, sql::Sql},
};
use tempfile::TempDir;

use crate::support::servers;

/// Masks nothing.
struct Plain;

impl Mask for Plain {
    fn mask<'t>(&mut self, text: &'t str) -> std::borrow::Cow<'t, str> {
        text.into()
    }
}

impl Masking for Plain {
    fn masker(&self) -> Box<dyn Mask + '_> {
        Box::new(Self)
    }
}

struct Place {
    folder: TempDir,
    stores: store::Settings,
    _server: Option<servers::Postgres>,
}

/// An audit that runs.
struct Running {
    writer: Writer,
    filing: Filing,
    archive: Archive,
    sql: Sql,
}

impl Place {
    async fn each() -> Vec<Self> {
        let of = |server: Option<servers::Postgres>| {
            let folder = tempfile::tempdir().unwrap();
            let postgres = server.as_ref().map(|server| {
                let path = folder.path().join("url");
                std::fs::write(&path, server.url()).unwrap();
                SecretFrom::File(path)
            });
            let sqlite = folder.path().join("sluice.db");
            let stores = store::Settings { sqlite, postgres, ..store::Settings::default() };
            Self { folder, stores, _server: server }
        };
        vec![of(None), of(Some(servers::Postgres::start().await))]
    }

    fn settings(&self, gateway: &str) -> Settings {
        Settings { folder: self.folder.path().join(gateway), ..Settings::default() }
    }

    async fn open(&self, gateway: &str) -> Running {
        let metrics = Arc::new(Metrics::new().unwrap());
        let sql = Sql::open(&self.stores, &[audit::TABLES], &metrics).await.unwrap();
        let archive = Archive::new(sql.clone(), Arc::new(Key::new(b"a key")));
        let ends = Ends {
            settle: Arc::new(|_| unreachable!("all is counted")),
            done: Arc::new(|_, _| {}),
            anchored: Arc::new(|_: Anchor| {}),
        };
        let settings = self.settings(gateway);
        let spelling = Spelling { settings: &settings, log: None, masks: Arc::new(Plain) };
        let (writer, filing) = audit::open(&spelling, ends, archive.clone(), metrics).await.unwrap();
        Running { writer, filing: filing.unwrap(), archive, sql }
    }
}

fn record(id: &str, user: &str, text: &str, at: SystemTime) -> Record {
    let context = Context {
        id: id.into(),
        endpoint: "/query",
        caller: Caller { user: Some(user.into()), ..Caller::named("key", "tenant") },
        session: None,
        remember: false,
        trace: Trace::default(),
        began: Instant::now(),
        deadline: Instant::now(),
        priority: Priority::Normal,
        use_cache: false,
        cache_ttl: None,
        last_resort: false,
        explain: None,
        trail: Trail::default(),
    };
    let messages = vec![Message::new(Role::User, text)];
    Record {
        at,
        took: Duration::from_millis(7),
        first_token: None,
        context: Arc::new(context),
        chat: Some(Arc::new(Request { model: "m".into(), messages, ..Request::default() })),
        status: 200,
        outcome: "complete",
        error: None,
        answer: Some(Answer { text: "yes".into(), length: 3 }),
        sources: None,
        versions: None,
        review: false,
        more: 0,
    }
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
            audit::verify::verify(&self.archive, Some(&place.settings(gateway).folder), &[]).await.unwrap();
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
        let one = place.open("one").await;
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
        assert_eq!(one.faults(&place, "one").await, [""; 0]);

        // Another gateway with its own chain erases what both have.
        let following = one.filing.tidy(None);
        let two = place.open("two").await;
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
        let one = place.open("one").await;
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
