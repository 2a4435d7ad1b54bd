//! The stores against real servers: the same on SQLite, in memory and on
//! Postgres; and what happens when a server is slow, frozen, gone or back.
use std::time::{Duration, Instant};

use serde_json::json;
use sluice::{
    auth::{Book, Grant, Pepper, Stored, book},
    error::Error,
    observe::Metrics,
    settings::{SecretFrom, Span},
    store::{
        Settings,
        redis::{Away, Redis},
        sql::{Kind, Sql, Step, Tables},
    },
};
use sqlx::{AnyConnection, Connection, Row};
use tempfile::TempDir;

use crate::support::{Gateway, Setup, Upstream, Wire, ms, servers, soon};

const FIRST: Tables = Tables {
    name: "notes",
    steps: &[Step::both("CREATE TABLE notes (id BIGINT PRIMARY KEY, words TEXT, share DOUBLE PRECISION)")],
};
const SECOND: Tables = Tables {
    name: "notes",
    steps: &[
        FIRST.steps[0],
        Step::both("ALTER TABLE notes ADD COLUMN seen BIGINT; CREATE INDEX seen ON notes (seen)"),
    ],
};

/// A database of each kind, with what it stands on.
struct Place {
    settings: Settings,
    kind: Kind,
    _folder: TempDir,
    _server: Option<servers::Postgres>,
}

impl Place {
    async fn each() -> Vec<Self> {
        let mut places = Self::shared().await;
        let settings = Settings { sqlite: ":memory:".into(), ..Settings::default() };
        let folder = tempfile::tempdir().unwrap();
        places.push(Self { settings, kind: Kind::Memory, _folder: folder, _server: None });
        places
    }

    /// Those that can be opened twice.
    async fn shared() -> Vec<Self> {
        let of = |kind, server: Option<servers::Postgres>| {
            let folder = tempfile::tempdir().unwrap();
            let postgres = server.as_ref().map(|server| written(&folder, &server.url()));
            // A folder that is not there yet, and a name that a URL would misread.
            let sqlite = folder.path().join("new folder/a#b?c%20.db");
            let settings = Settings { sqlite, postgres, ..Settings::default() };
            Self { settings, kind, _folder: folder, _server: server }
        };
        vec![of(Kind::Sqlite, None), of(Kind::Postgres, Some(servers::Postgres::start().await))]
    }

    async fn open(&self, tables: &[Tables]) -> Result<Sql, String> {
        Sql::open(&self.settings, tables, &Metrics::new().unwrap()).await
    }
}

/// A secret in a file.
fn written(folder: &TempDir, secret: &str) -> SecretFrom {
    let path = folder.path().join("secret");
    std::fs::write(&path, secret).unwrap();
    SecretFrom::File(path)
}

async fn note(sql: &Sql, id: i64, words: Option<&str>) -> Result<(), sqlx::Error> {
    let mut tx = sql.begin().await?;
    let add = "INSERT INTO notes (id, words, share) VALUES ($1, $2, $3)";
    sqlx::query(add).bind(id).bind(words).bind(0.5).execute(&mut *tx).await?;
    tx.commit().await
}

/// Closes it and opens it anew.
async fn again(sql: Sql, place: &Place) -> Sql {
    sql.close().await;
    place.open(&[FIRST]).await.unwrap()
}

async fn ids(sql: &Sql) -> Vec<i64> {
    let rows = sql.within(sqlx::query("SELECT id FROM notes ORDER BY id").fetch_all(sql.pool())).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_database_keeps_what_was_written_and_forgets_what_was_not_finished() {
    for place in Place::each().await {
        let sql = place.open(&[FIRST]).await.unwrap();
        assert_eq!(sql.kind(), place.kind);
        sql.within(note(&sql, 1, Some("it's; -- \u{1f980}"))).await.unwrap();
        sql.within(note(&sql, 2, None)).await.unwrap();
        sql.within(note(&sql, 2, None)).await.expect_err("the same again");
        assert!(sql.is_up(), "a refusal is no outage");
        {
            let mut tx = sql.begin().await.unwrap();
            sqlx::query("DELETE FROM notes").execute(&mut *tx).await.unwrap();
        }
        let sql = if place.kind == Kind::Memory { sql } else { again(sql, &place).await };
        let row = sqlx::query("SELECT words, share FROM notes WHERE id = $1").bind(1_i64);
        let row = sql.within(row.fetch_one(sql.pool())).await.unwrap();
        assert_eq!((row.get::<String, _>(0), row.get::<f64, _>(1)), ("it's; -- \u{1f980}".into(), 0.5));
        let empty = sqlx::query("SELECT words FROM notes WHERE id = 2");
        let empty = sql.within(empty.fetch_one(sql.pool())).await.unwrap();
        assert_eq!(empty.get::<Option<String>, _>(0), None);
        assert_eq!(ids(&sql).await, [1, 2]);
    }
}

#[tokio::test]
async fn the_book_of_keys_is_the_same_on_every_database() {
    for place in Place::each().await {
        let sql = place.open(&[book::TABLES]).await.unwrap();
        let pepper = || Pepper::new("thirty-two letters at the least!").map(std::sync::Arc::new);
        let (one, two) = (
            Book::open(&sql, pepper(), false).await.unwrap(),
            Book::open(&sql, pepper(), false).await.unwrap(),
        );
        let mut made = Vec::new();
        for name in ["a", "b", "c"] {
            let grant = Grant { models: Some(vec![name.into()]), ..Grant::default() };
            made.push(one.add(name, "t", grant, "maker").await.unwrap().1);
        }
        let again = one.add("a", "t", Grant::default(), "maker").await;
        assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
        one.add("a", "other", Grant::default(), "maker").await.unwrap();
        assert_eq!(one.list(Some("t"), "", 2).await.unwrap(), made[..2]);
        assert_eq!(one.list(Some("t"), &made[1].id, 9).await.unwrap(), made[2..]);
        assert_eq!(one.list(None, "", 9).await.unwrap().len(), 4);

        two.refresh().await.unwrap();
        let page = two.page();
        assert_eq!((page.keys.len(), page.version), (4, 4), "a refused key has no number");
        assert_eq!(**page.keys.get(&made[0].hash).unwrap(), made[0]);
        let renamed = one.change(&made[0].id, |key| Ok(Stored { name: "d".into(), ..key })).await.unwrap();
        let refused = one.change(&made[1].id, |_| Err(Error::Forbidden("no".into()))).await;
        assert!(matches!(refused, Err(Error::Forbidden(_))));
        let revoke = |key: Stored| Ok(Stored { revoked_at: Some(book::now()), ..key });
        one.change(&made[2].id, revoke).await.unwrap();
        assert!(matches!(one.change("nobody", Ok).await, Err(Error::Absent(_))));
        two.refresh().await.unwrap();
        let now = two.page();
        two.refresh().await.unwrap();
        assert!(std::sync::Arc::ptr_eq(&now, &two.page()), "nothing has changed since");
        let names: std::collections::BTreeSet<_> =
            two.page().keys.values().map(|key| key.name.clone()).collect();
        assert_eq!(names, ["a", "b", "d"].map(String::from).into());
        assert_eq!(two.get(&made[0].id).await.unwrap(), renamed);
        assert!(two.get(&made[2].id).await.unwrap().revoked_at.is_some());

        let other = Pepper::new("another one, of thirty-two letters").map(std::sync::Arc::new);
        for wrong in [other, None] {
            assert!(Book::open(&sql, wrong, false).await.unwrap_err().contains("auth.pepper"));
        }
    }
}

#[tokio::test]
async fn many_writers_at_once_all_get_their_turn() {
    for place in Place::shared().await {
        let (one, two) = (place.open(&[FIRST]).await.unwrap(), place.open(&[FIRST]).await.unwrap());
        let writers = (0..40).map(|id| {
            let sql = if id % 2 == 0 { one.clone() } else { two.clone() };
            async move { sql.within(note(&sql, id, Some("x"))).await.unwrap() }
        });
        futures_util::future::join_all(writers).await;
        assert_eq!(ids(&one).await, (0..40).collect::<Vec<i64>>());
    }
}

#[tokio::test]
async fn tables_grow_forward_and_a_newer_database_is_refused() {
    for place in Place::shared().await {
        let sql = place.open(&[FIRST]).await.unwrap();
        sql.within(note(&sql, 1, None)).await.unwrap();
        // Two that start together do it once.
        let (one, two) = tokio::join!(place.open(&[SECOND]), place.open(&[SECOND]));
        let sql = one.unwrap();
        two.unwrap();
        let seen = sqlx::query("UPDATE notes SET seen = 7").execute(sql.pool());
        assert_eq!(sql.within(seen).await.unwrap().rows_affected(), 1);
        for older in [&[FIRST][..], &[]] {
            let refused = place.open(older).await.unwrap_err();
            assert!(refused.contains("newer Sluice") && refused.contains("`notes`"), "{refused}");
        }
        assert_eq!(ids(&sql).await, [1]);
    }
}

#[tokio::test]
async fn a_step_that_fails_changes_nothing() {
    const BROKEN: Tables = Tables {
        name: "notes",
        steps: &[
            FIRST.steps[0],
            Step::both("ALTER TABLE notes ADD COLUMN seen BIGINT; SELECT nonsense FROM nowhere"),
        ],
    };
    for place in Place::shared().await {
        place.open(&[FIRST]).await.unwrap().close().await;
        place.open(&[BROKEN]).await.unwrap_err();
        place.open(&[SECOND]).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_place_for_a_file_the_database_is_in_memory_and_says_so() {
    let upstream = Upstream::answering().await;
    // A file where the folder would be made.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "").unwrap();
    let setup = Setup::one(Wire::OpenAi, &upstream).set(&json!({"store": {"sqlite": "data/sluice.db"}}));
    let gateway = setup.folder(folder.path()).start().await;
    assert_eq!(component(&gateway, "database").await, json!({"status": "ok", "kind": "memory"}));
    assert!(gateway.log().contains("lost at the end"), "{}", gateway.log());
    // Who names a place means it.
    let named = Settings { sqlite: folder.path().join("data/x.db"), ..Settings::default() };
    let refused = Sql::open(&named, &[], &Metrics::new().unwrap()).await.unwrap_err();
    assert!(refused.contains("store.sqlite"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_at_once_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { sqlite: folder.path().join("sluice.db"), ..Settings::default() };
    for words in ["Dear diary", "Dear diary, today I kept a file under the wrong name."] {
        std::fs::write(&settings.sqlite, words).unwrap();
        let began = Instant::now();
        let refused = Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await.unwrap_err();
        assert!(refused.contains("is no SQLite database") && refused.contains("sluice.db"), "{refused}");
        assert!(began.elapsed() < ms(3000), "{:?}", began.elapsed());
        assert_eq!(std::fs::read_to_string(&settings.sqlite).unwrap(), words);
    }
    // One that begins as a database does, and does not go on.
    let _ = std::fs::remove_file(&settings.sqlite);
    let sql = Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await.unwrap();
    sql.within(note(&sql, 1, Some(&"words ".repeat(20_000)))).await.unwrap();
    sql.close().await;
    let whole = std::fs::read(&settings.sqlite).unwrap();
    for size in [60, 5_000, 8_192, 20_000, 24_576] {
        std::fs::write(&settings.sqlite, &whole[..size]).unwrap();
        let began = Instant::now();
        let refused = Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await.unwrap_err();
        assert!(refused.contains("`store.sqlite`") && refused.contains("sluice.db"), "{size}: {refused}");
        assert!(refused.contains("is no SQLite database, or is damaged"), "{size}: {refused}");
        assert!(began.elapsed() < ms(3000), "{size}: {:?}", began.elapsed());
        assert!(std::fs::read(&settings.sqlite).unwrap() == whole[..size], "{size}: it was changed");
    }
    // One that was made and not written to yet is a new one.
    std::fs::write(&settings.sqlite, "").unwrap();
    Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_the_database_ended_by_itself_does_not_keep_out_those_after_it() {
    for place in Place::shared().await {
        let sql = place.open(&[FIRST]).await.unwrap();
        let mut written = Vec::new();
        // What SQLite does where its disk is full, before the commit or by it.
        for commits in [false, true, true, false] {
            let ended = sql.within(async {
                let mut tx = sql.begin().await?;
                sqlx::query("INSERT INTO notes (id) VALUES (-1)").execute(&mut *tx).await?;
                sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await?;
                if commits { tx.commit().await } else { Ok(()) }
            });
            // Postgres takes it.
            let _ = ended.await;
            // By whichever connection.
            for _ in 0..4 {
                written.push(written.len() as i64);
                let done = sql.within(note(&sql, written.len() as i64 - 1, None)).await;
                done.unwrap_or_else(|error| panic!("{:?}: {error}", place.kind));
            }
        }
        assert_eq!(ids(&sql).await, written, "{:?}", place.kind);
    }
}

#[tokio::test]
async fn a_start_waits_for_a_file_that_somebody_else_has_locked() {
    let folder = tempfile::tempdir().unwrap();
    let timeout = Span::millis(200);
    let settings = Settings { sqlite: folder.path().join("sluice.db"), timeout, ..Settings::default() };
    sqlx::any::install_default_drivers();
    let url = format!("sqlite:{}?mode=rwc", settings.sqlite.display());
    let mut other = AnyConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (x); BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let mut opened =
        tokio::spawn(async move { Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await });
    // Longer than a statement waits.
    let early = tokio::time::timeout(ms(1000), &mut opened).await;
    assert!(early.is_err(), "{early:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let sql = opened.await.unwrap().unwrap();
    sql.within(note(&sql, 1, None)).await.unwrap();
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { sqlite: folder.path().join("sluice.db"), ..Settings::default() };
    let sql = Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await.unwrap();
    sql.within(note(&sql, 1, None)).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_postgres_that_freezes_dies_and_returns_is_never_waited_for_too_long() {
    let mut server = servers::Postgres::start().await;
    let folder = tempfile::tempdir().unwrap();
    let postgres = Some(written(&folder, &server.url()));
    let settings = Settings { postgres, timeout: "300ms".parse().unwrap(), ..Settings::default() };
    // The start itself may take longer on a busy machine.
    let patient = Settings { timeout: "20s".parse().unwrap(), ..settings.clone() };
    Sql::open(&patient, &[FIRST], &Metrics::new().unwrap()).await.unwrap();
    let mut sql = Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await;
    for _ in 0..10 {
        if sql.is_err() {
            sql = Sql::open(&settings, &[FIRST], &Metrics::new().unwrap()).await;
        }
    }
    let sql = sql.unwrap();
    let asked = async || {
        let began = Instant::now();
        let one = sql.within(sqlx::query("SELECT id FROM notes").fetch_all(sql.pool())).await;
        assert!(began.elapsed() < ms(3000), "{:?}", began.elapsed());
        one.is_ok()
    };
    let comes = async |wanted: bool| {
        for _ in 0..100 {
            if asked().await == wanted {
                return sql.is_up() == wanted;
            }
            tokio::time::sleep(ms(50)).await;
        }
        false
    };
    server.freeze();
    assert!(comes(false).await, "frozen");
    server.thaw();
    assert!(comes(true).await, "thawed");
    server.kill();
    assert!(comes(false).await, "killed");
    server.restart().await;
    assert!(comes(true).await, "back");
}

async fn redis(server: &servers::Redis, metrics: &Metrics) -> Redis {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { redis: Some(written(&folder, &server.url())), ..Settings::default() };
    let redis = Redis::start(&settings, metrics).await.unwrap().unwrap();
    assert!(soon(Duration::from_secs(10), || redis.is_up()).await, "Redis is seen");
    redis
}

#[tokio::test]
async fn redis_runs_commands_and_scripts_and_tells_a_mistake_from_an_outage() {
    let server = servers::Redis::start().await;
    let redis = redis(&server, &Metrics::new().unwrap()).await;
    let script = redis::Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let add = async || redis.run::<i64>(script.key("n").arg(2)).await;
    let mut answers = Vec::new();
    for _ in 0..50 {
        // On a busy machine an answer may come too late; what was asked is done all the same.
        match add().await {
            Ok(sum) => answers.push(sum),
            Err(Away::Refused(why)) => panic!("{why}"),
            Err(_) => assert!(soon(Duration::from_secs(10), || redis.is_up()).await),
        }
    }
    let sum: i64 = server.ask(redis::cmd("GET").arg("n")).await;
    assert!(sum <= 100 && answers.iter().all(|answer| *answer <= sum));
    assert!(answers.windows(2).all(|pair| pair[0] < pair[1]) && answers.len() > 10, "{answers:?}");
    let wrong = redis::Script::new("return redis.call('NONSENSE')");
    let wrong = redis.run::<i64>(&wrong.prepare_invoke()).await.unwrap_err();
    assert!(matches!(wrong, Away::Refused(_)), "{wrong:?}");
    assert!(redis.is_up(), "a mistake of ours is no outage");
}

/// Asks until the answer is as wanted; no ask may take much longer than it may.
async fn comes(redis: &Redis, wanted: bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let began = Instant::now();
        let answered = redis.command::<()>(&redis::cmd("PING")).await.is_ok();
        assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());
        if answered == wanted && redis.is_up() == wanted {
            return true;
        }
        tokio::time::sleep(ms(10)).await;
    }
    false
}

#[tokio::test]
async fn a_redis_that_freezes_dies_and_returns_is_never_waited_for() {
    let mut server = servers::Redis::start().await;
    let metrics = Metrics::new().unwrap();
    let redis = redis(&server, &metrics).await;
    server.freeze();
    assert!(comes(&redis, false).await, "frozen");
    let began = Instant::now();
    for _ in 0..1000 {
        assert_eq!(redis.command::<()>(&redis::cmd("PING")).await, Err(Away::Gone));
    }
    assert!(began.elapsed() < ms(1000), "known to be away, it is not asked: {:?}", began.elapsed());
    server.thaw();
    assert!(comes(&redis, true).await, "thawed");
    server.kill();
    assert!(comes(&redis, false).await, "killed");
    server.restart().await;
    assert!(comes(&redis, true).await, "back");
    assert_eq!(metrics.store_up.with_label_values(&["redis"]).get(), 1);
    assert!(metrics.redis_failures.with_label_values(&["gone"]).get() >= 1000);
}

async fn component(gateway: &Gateway, name: &str) -> serde_json::Value {
    gateway.get("/readyz").await.expect(200)["components"][name].take()
}

#[tokio::test]
async fn a_gateway_goes_on_without_redis_and_says_so_once() {
    let mut server = servers::Redis::start().await;
    let upstream = Upstream::answering().await;
    let store = json!({"store": {"redis": {"env": "TEST_REDIS"}}});
    let gateway =
        Setup::one(Wire::OpenAi, &upstream).set(&store).env("TEST_REDIS", &server.url()).start().await;
    let turns = async |wanted: &str| {
        for _ in 0..500 {
            if component(&gateway, "redis").await["status"] == wanted {
                return;
            }
            tokio::time::sleep(ms(20)).await;
        }
        panic!("Redis is not `{wanted}`:\n{}", gateway.log());
    };
    turns("ok").await;
    server.kill();
    turns("away").await;
    let chat = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    gateway.post("/v1/chat/completions", &chat).await.expect(200);
    assert!((gateway.metric("sluice_store_up", &[("store", "redis")]).await) < 0.5);
    server.restart().await;
    turns("ok").await;
    let log = gateway.log();
    assert_eq!((log.matches("Redis is away").count(), log.matches("Redis is back").count()), (1, 1), "{log}");
}

#[tokio::test]
async fn a_gateway_on_postgres_says_what_it_stands_on_and_never_the_password() {
    let server = servers::Postgres::start().await;
    let upstream = Upstream::answering().await;
    let store = json!({"store": {"postgres": {"env": "TEST_POSTGRES"}}});
    let url = server.url().replace("postgres@", "postgres:hunter2@");
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&store).env("TEST_POSTGRES", &url).start().await;
    assert_eq!(component(&gateway, "database").await, json!({"status": "ok", "kind": "postgres"}));
    assert!(!gateway.log().contains("hunter2"));
    // Nor what Postgres says of tables that are there already.
    let again = Setup::one(Wire::OpenAi, &upstream).set(&store).env("TEST_POSTGRES", &url).start().await;
    assert!(!again.log().contains("already exists"), "{}", again.log());
}
