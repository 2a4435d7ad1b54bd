//! A user is forgotten everywhere: in every file, database and Redis, and in what the process keeps.
use std::path::Path;

use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Row};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms, servers, soon};

const SAID: &str = "quokka-4711";

fn setup(upstream: &Upstream) -> Setup {
    let mut admin = key("admin", "sk-admin");
    admin["roles"] = json!(["admin"]);
    Setup::one(Wire::OpenAi, upstream)
        .set(&json!({
            "auth": {"keys": [admin]},
            "cache": {"enabled": true, "ttl": "1h"},
            "review": {"cache": true, "sample": 1.0},
            "session": {"timeout": "10s"},
            "audit": {"file": null, "key": {"env": "TEST_AUDIT_KEY"}},
            "log": {"level": "error"},
        }))
        .env("TEST_AUDIT_KEY", "a key of the audit that is long enough")
}

async fn post(gateway: &Gateway, path: &str, body: &Value, word: Option<&str>) -> crate::support::Answer {
    let ask = gateway.ask("POST", path).bearer("sk-admin").json(body);
    match word {
        Some(word) => ask.header("idempotency-key", word).send().await,
        None => ask.send().await,
    }
}

fn question(user: &str, what: &str) -> Value {
    json!({"question": format!("Where is {SAID} {what} of {user}?"), "user_id": user, "mode": "chat", "session_id": "s"})
}

/// Has a user leave words wherever words can be left. Gives the event that a stream ended with.
async fn talk(gateway: &Gateway, user: &str) -> String {
    let told =
        post(gateway, "/query", &question(user, "one"), Some(&format!("word-{user}"))).await.expect(200);
    let said = json!({"request_id": told["request_id"], "rating": 1, "feedback": format!("no {SAID}"), "user_id": user});
    post(gateway, "/feedback", &said, Some(&format!("rate-{user}"))).await.expect(201);
    let chat = json!({"model": "main", "user": user, "temperature": 0, "messages": [{"role": "user", "content": format!("{SAID} two of {user}")}]});
    post(gateway, "/v1/chat/completions", &chat, Some(&format!("chat-{user}"))).await.expect(200);
    let mut stream =
        gateway.ask("POST", "/stream").bearer("sk-admin").json(&question(user, "three")).stream().await;
    let frames = stream.rest().await;
    let listed = gateway.get_as("sk-admin", "/review?limit=200").await.expect(200);
    let own = |item: &&Value| {
        item["question"].as_str().is_some_and(|text| text.ends_with(&format!("one of {user}?")))
    };
    let item = listed["items"].as_array().unwrap().iter().find(own).expect("an item")["id"].clone();
    let edit = json!({"decision": "edit", "answer": format!("{SAID} is edited for {user}"), "note": SAID});
    post(gateway, &format!("/review/{}", item.as_str().unwrap()), &edit, None).await.expect(200);
    frames.iter().rev().nth(1).unwrap().id.clone().unwrap()
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if memchr::memmem::find(&std::fs::read(&path).unwrap_or_default(), text.as_bytes())
                .is_some()
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Erases a user; tells of how many records.
async fn erase(gateway: &Gateway, user: &str) -> u64 {
    let done = post(gateway, "/admin/erasures", &json!({"user_id": user}), None).await.expect(200);
    done["records"].as_u64().unwrap()
}

/// What this process kept of a user is not given any more.
async fn is_forgotten_by(gateway: &Gateway, upstream: &Upstream, user: &str, last: &str) {
    let asked = upstream.asked();
    let again = post(gateway, "/query", &question(user, "one"), Some(&format!("word-{user}"))).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, None), "a reply is kept");
    assert_eq!(again.json()["cache"], "miss", "an answer is cached");
    assert_eq!(upstream.asked(), asked + 1);
    let resumed =
        gateway.ask("GET", "/stream?prompt=x").bearer("sk-admin").header("last-event-id", last).send().await;
    assert_eq!(resumed.status, 404, "a stream is kept: {}", resumed.text());
}

async fn is_known_to(gateway: &Gateway, user: &str) {
    let again = post(gateway, "/query", &question(user, "one"), Some(&format!("word-{user}"))).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert!(gateway.get_as("sk-admin", &format!("/sessions/s?user_id={user}")).await.status == 200);
}

#[tokio::test]
async fn on_one_machine_no_file_holds_a_word_and_nothing_is_given_any_more() {
    let upstream = Upstream::start(Act::say("Here it is.")).await;
    let gateway = setup(&upstream).start().await;
    let (anna, bob) = (talk(&gateway, "anna").await, talk(&gateway, "bob").await);
    assert!(
        soon(ms(5000), || !holding(gateway.folder(), &format!("{SAID} is edited for bob")).is_empty()).await
    );
    assert_eq!(erase(&gateway, "anna").await, 3);
    let held = holding(gateway.folder(), "of anna");
    assert!(held.is_empty(), "{held:?}");
    assert!(!holding(gateway.folder(), "of bob").is_empty(), "others keep theirs");
    is_known_to(&gateway, "bob").await;
    gateway.get_as("sk-admin", "/sessions/s?user_id=anna").await.expect(404);
    is_forgotten_by(&gateway, &upstream, "anna", &anna).await;
    erase(&gateway, "bob").await;
    erase(&gateway, "anna").await;
    let held = holding(gateway.folder(), SAID);
    assert!(held.is_empty(), "{held:?}\n{}", gateway.log());
    is_forgotten_by(&gateway, &upstream, "bob", &bob).await;
    let (sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(sound && told.contains("of them erased"), "{told}");
    assert!(!gateway.sluice(&["golden", "export"]).1.contains(SAID));
}

/// Waits until a gateway does not give anna's first reply once more.
async fn hears_of_it(gateway: &Gateway) {
    for _ in 0..200 {
        let again = post(gateway, "/query", &question("anna", "one"), Some("word-anna")).await;
        if again.header("idempotency-replayed").is_none() {
            return;
        }
        tokio::time::sleep(ms(50)).await;
    }
    panic!("the other gateway gives the reply once more");
}

#[tokio::test]
async fn gateways_that_share_only_a_redis_forget_too_also_what_they_missed() {
    let upstream = Upstream::start(Act::say("Here it is.")).await;
    let redis = servers::Redis::start().await;
    let gateway = |key: &str| {
        let store = json!({"store": {"redis": {"env": "TEST_REDIS"}, "redis_timeout": "5s"},
            "auth": {"pepper": {"env": "TEST_PEPPER"}}, "log": {"level": "warn"}});
        let setup = setup(&upstream).set(&store).env("TEST_REDIS", &redis.url());
        setup.env("TEST_PEPPER", "a pepper that is certainly long enough").env("TEST_AUDIT_KEY", key)
    };
    let shared = "a key of the audit that is long enough";
    let (one, two) = (gateway(shared).start().await, gateway(shared).start().await);
    let other = gateway("another key of the audit, as long as it has to be").start().await;
    let ask = async |gateway: &Gateway, user: &str| {
        // Without a session, whose turns would make it another question.
        let body = json!({"question": format!("Is {SAID} {user}'s?"), "user_id": user, "mode": "chat"});
        post(gateway, "/query", &body, None).await.expect(200)["cache"].clone()
    };
    talk(&one, "anna").await;
    for gateway in [&two, &other] {
        for (user, cache) in [("anna", "miss"), ("anna", "exact"), ("bob", "miss"), ("bob", "exact")] {
            assert_eq!(ask(gateway, user).await, cache);
        }
    }
    is_known_to(&two, "anna").await;
    // One of them hears nothing for a while.
    two.signal("STOP");
    erase(&one, "anna").await;
    assert!(memchr::memmem::find(&redis_text(&redis).await, b"of anna").is_none());
    for _ in 0..200 {
        if other.log().contains("has another key") {
            break;
        }
        tokio::time::sleep(ms(50)).await;
    }
    // It says so, and then does it.
    let mut cache = ask(&other, "anna").await;
    for _ in 0..200 {
        if cache == "miss" {
            break;
        }
        tokio::time::sleep(ms(50)).await;
        cache = ask(&other, "anna").await;
    }
    assert_eq!(cache, "miss", "{}", other.log());
    two.signal("CONT");
    let asked = upstream.asked();
    hears_of_it(&two).await;
    assert!(upstream.asked() > asked, "nobody was asked anew");
    assert_eq!(ask(&two, "anna").await, "miss", "an answer is cached");
    assert_eq!(ask(&two, "bob").await, "exact", "others keep theirs");
    // What is said afterwards stays: an erasure is done once.
    assert_eq!(ask(&one, "anna").await, "miss");
    tokio::time::sleep(ms(2500)).await;
    assert_eq!(ask(&one, "anna").await, "exact");
}

/// All texts in all tables, and all bytes.
async fn postgres(url: &str) -> String {
    sqlx::any::install_default_drivers();
    let mut sql = AnyConnection::connect(url).await.unwrap();
    let tables =
        "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'sluice'";
    let tables = sqlx::query(tables).fetch_all(&mut sql).await.unwrap();
    let mut text = String::new();
    for table in tables {
        let name: String = table.get(0);
        let all = format!("SELECT CAST(t AS TEXT) FROM sluice.{name} t");
        for row in sqlx::query(sqlx::AssertSqlSafe(all)).fetch_all(&mut sql).await.unwrap() {
            text += &row.get::<String, _>(0);
            text.push('\n');
        }
    }
    text
}

/// What Redis holds, under names and in values.
async fn redis_text(server: &servers::Redis) -> Vec<u8> {
    let keys: Vec<String> = server.ask(redis::cmd("KEYS").arg("*")).await;
    let mut all = Vec::new();
    for key in keys {
        all.extend_from_slice(key.as_bytes());
        let dumped: Option<Vec<u8>> = server.ask(redis::cmd("DUMP").arg(&key)).await;
        all.extend(dumped.unwrap_or_default());
    }
    all
}

#[tokio::test]
async fn gateways_that_share_redis_and_postgres_all_forget() {
    let upstream = Upstream::start(Act::say("Here it is.")).await;
    let (sql, redis) = (servers::Postgres::start().await, servers::Redis::start().await);
    let gateway = || {
        let store = json!({"store": {"postgres": {"env": "TEST_POSTGRES"}, "redis": {"env": "TEST_REDIS"},
            "redis_timeout": "5s", "timeout": "10s"}, "auth": {"pepper": {"env": "TEST_PEPPER"}}});
        let setup = setup(&upstream).set(&store).env("TEST_POSTGRES", &sql.url());
        setup.env("TEST_REDIS", &redis.url()).env("TEST_PEPPER", "a pepper that is certainly long enough")
    };
    let (one, two) = (gateway().start().await, gateway().start().await);
    let (anna, _) = (talk(&one, "anna").await, talk(&one, "bob").await);
    // The other gateway has them in memory, too.
    is_known_to(&two, "anna").await;
    // A record is a block of bytes, in which texts stand as they are.
    let hex: String = SAID.bytes().map(|byte| format!("{byte:02x}")).collect();
    let has = async |what: &str| {
        let text = postgres(&sql.url()).await;
        let bytes: String = what.bytes().map(|byte| format!("{byte:02x}")).collect();
        text.contains(what) || text.contains(&bytes)
    };
    assert!(postgres(&sql.url()).await.contains(&hex));
    assert_eq!(erase(&one, "anna").await, 3);
    assert!(!has("of anna").await);
    assert!(has("of bob").await);
    let held = redis_text(&redis).await;
    assert!(memchr::memmem::find(&held, b"of anna").is_none());
    is_forgotten_by(&one, &upstream, "anna", &anna).await;
    erase(&one, "anna").await;
    // Where it is said to be done, the journal holds no word any more.
    for _ in 0..5 {
        let asked = post(&one, "/query", &question("anna", "one"), None).await;
        assert_eq!(asked.status, 200);
        erase(&one, "anna").await;
        assert!(holding(one.folder(), "of anna").is_empty(), "{:?}", holding(one.folder(), "of anna"));
    }
    // The other one hears of it within a few seconds.
    hears_of_it(&two).await;
    erase(&two, "anna").await;
    let files = [holding(one.folder(), "of anna"), holding(two.folder(), "of anna")].concat();
    assert!(files.is_empty() && !has("of anna").await, "{files:?}");
    let (sound, told) = one.sluice(&["audit", "verify"]);
    assert!(sound, "{told}");
}

#[tokio::test]
async fn a_safety_identifier_names_the_user_where_user_does_not() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let chat = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    let calls = [
        ("/v1/chat/completions", chat.clone(), "one"),
        ("/v1/responses", json!({"model": "main", "input": "Hi"}), "one"),
        (
            "/v1/chat/completions",
            json!({"model": "main", "user": "two", "messages": chat["messages"]}),
            "two",
        ),
        ("/v1/chat/completions", json!({"model": "main", "user": "", "messages": chat["messages"]}), "one"),
    ];
    for (path, mut body, user) in calls {
        body["safety_identifier"] = "one".into();
        let answer = post(&gateway, path, &body, None).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        answer.expect(200);
        let record = gateway.get_as("sk-admin", &format!("/audit/{id}")).await.expect(200)["record"].clone();
        assert_eq!(record["user_id"], user, "{path}: {record}");
        assert_eq!(upstream.last().body["safety_identifier"], "one");
    }
    let erased = async |user: &str| {
        let body = json!({"user_id": user});
        post(&gateway, "/admin/erasures", &body, None).await.expect(200)["records"].as_u64().unwrap()
    };
    assert_eq!((erased("one").await, erased("two").await), (3, 1));
    // Embeddings know no such name.
    let embed = json!({"model": "main", "input": "Hi", "safety_identifier": "three"});
    post(&gateway, "/v1/embeddings", &embed, None).await;
    assert_eq!(erased("three").await, 0);
}
