//! The record of every call: it is there, it is whole, and nobody changes it unseen.
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Row};

use crate::support::{Act, Answer, Gateway, Setup, Upstream, Wire, key, ms, soon};

fn chat(text: &str, stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": text}], "stream": stream})
}

fn question() -> Value {
    json!({"question": "How are you?", "user_id": "anna", "mode": "chat", "session_id": "s-1"})
}

/// A gateway with a key of each kind of person: `sk-app`, and `sk-admin` of the same tenant.
fn setup(upstream: &Upstream) -> Setup {
    let mut admin = key("admin", "sk-admin");
    admin["roles"] = json!(["admin"]);
    Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": [key("app", "sk-app"), admin]}}))
}

/// Asks as an application does.
async fn ask(gateway: &Gateway, path: &str, id: &str, body: &Value) -> Answer {
    gateway.ask("POST", path).bearer("sk-app").header("x-request-id", id).json(body).send().await
}

/// The record of a request, as the gateway tells it.
async fn record(gateway: &Gateway, id: &str) -> Value {
    gateway.get_as("sk-admin", &format!("/audit/{id}")).await.expect(200)["record"].clone()
}

/// Checks all records; tells whether they are sound, and what is said of them.
fn verified(gateway: &Gateway) -> (bool, String) {
    gateway.sluice(&["audit", "verify"])
}

fn sound(gateway: &Gateway) -> String {
    let (sound, told) = verified(gateway);
    assert!(sound, "{told}\n{}", gateway.log());
    told
}

async fn database(gateway: &Gateway) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let path = gateway.folder().join("sluice.db");
    AnyConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap()
}

#[tokio::test]
async fn a_record_is_there_as_soon_as_the_answer_is() {
    let upstream = Upstream::start(Act::say("I am well.")).await;
    let gateway = setup(&upstream).start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let whole = gateway
        .ask("POST", "/query")
        .bearer("sk-app")
        .header("traceparent", parent)
        .json(&question())
        .send()
        .await;
    whole.expect(200);
    let id = whole.header("x-request-id").unwrap().to_owned();
    let record_of = record(&gateway, &id).await;
    for (field, value) in [
        ("request_id", json!(id)),
        ("endpoint", json!("/query")),
        ("tenant", json!("default")),
        ("user_id", json!("anna")),
        ("session_id", json!("s-1")),
        ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("route", json!("main")),
        ("model", json!("model-a")),
        ("provider", json!("primary")),
        ("status", json!(200)),
        ("outcome", json!("complete")),
        ("stream", json!(false)),
        ("question", json!("How are you?")),
        ("answer", json!("I am well.")),
        ("cache", json!("bypass")),
    ] {
        assert_eq!(record_of[field], value, "`{field}` of {record_of}");
    }
    for field in
        ["policy_version", "price_version", "cost_usd", "latency_ms", "first_token_ms", "input_tokens"]
    {
        assert!(!record_of[field].is_null(), "`{field}` of {record_of}");
    }
    assert_eq!(record_of["attempts"][0]["provider"], "primary");
    assert!(record_of["attempts"][0]["output_tokens"].as_u64().unwrap() > 0, "{record_of}");

    ask(&gateway, "/v1/chat/completions", "own/id+1?&", &chat("Hi", true)).await;
    let record_of = record(&gateway, "own%2Fid+1%3F&").await;
    assert_eq!(
        (&record_of["stream"], &record_of["answer"]),
        (&json!(true), &json!("I am well.")),
        "{record_of}"
    );
    gateway.get_as("sk-admin", "/audit/nobody").await.expect(404);
    gateway.get_as("sk-app", "/audit/nobody").await.expect(403);
    sound(&gateway);
}

#[tokio::test]
async fn refusals_have_records_of_their_tenant_and_strangers_have_theirs() {
    let upstream = Upstream::start(Act::failed()).await;
    let mut app = key("app", "sk-app");
    let mut reviewer = key("reviewer", "sk-reviewer");
    app["tenant"] = "acme".into();
    reviewer["tenant"] = "acme".into();
    reviewer["roles"] = json!(["reviewer"]);
    let mut root = key("root", "sk-root");
    root["tenant"] = "*".into();
    root["roles"] = json!(["admin"]);
    let settings = json!({"auth": {"keys": [app, reviewer, root]}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let ask = |key: &str, id: &str, body: &Value| {
        gateway.ask("POST", "/v1/chat/completions").bearer(key).header("x-request-id", id).json(body).send()
    };
    let unknown = json!({"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]});
    for (id, body, status, outcome) in [
        ("failed", chat("Hi", false), 502, "upstream_failed"),
        ("unknown", unknown, 404, "model_not_found"),
        ("senseless", json!({"model": "main"}), 400, "invalid_value"),
    ] {
        ask("sk-app", id, &body).await.expect(status);
        let told = gateway.get_as("sk-reviewer", &format!("/audit/{id}")).await.expect(200);
        assert_eq!(
            (&told["record"]["outcome"], &told["record"]["status"]),
            (&json!(outcome), &json!(status)),
            "{told}"
        );
        assert_eq!(told["record"]["key"], "app", "{told}");
    }
    ask("sk-nobody", "stranger", &chat("Hi", false)).await.expect(401);
    gateway.get_as("sk-reviewer", "/audit/stranger").await.expect(404);
    // A stranger's refusal does not wait for its record.
    let mut told = 404;
    for _ in 0..100 {
        told = gateway.get_as("sk-root", "/audit/stranger").await.status;
        if told == 200 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(told, 200);
    sound(&gateway);
}

#[tokio::test]
async fn without_content_there_is_none_and_long_content_is_cut() {
    let upstream = Upstream::start(Act::say("A secret answer, and a long one.")).await;
    let gateway = setup(&upstream).set(&json!({"audit": {"content": "none"}})).start().await;
    ask(&gateway, "/query", "r", &question()).await.expect(200);
    let told = record(&gateway, "r").await;
    assert!(told["question"].is_null() && told["answer"].is_null(), "{told}");

    let gateway = setup(&upstream).set(&json!({"audit": {"max_content": 16}})).start().await;
    let long = json!({"question": "ü".repeat(100), "user_id": "u", "mode": "chat"});
    ask(&gateway, "/query", "r", &long).await.expect(200);
    let told = record(&gateway, "r").await;
    assert_eq!(told["question"], format!("[… cut, of 200 bytes …]{}", "ü".repeat(8)));
    assert_eq!(told["answer"], "A secret answer,[… cut, of 32 bytes …]");
    assert_eq!(told["answer_length"], 32);
}

#[tokio::test]
async fn whoever_changes_a_record_is_seen() {
    let upstream = Upstream::answering().await;
    let anchors = tempfile::tempdir().unwrap();
    let anchor_file = anchors.path().join("anchors.jsonl");
    let settings = json!({"audit": {"anchor_every": "1s", "anchor_file": anchor_file}});
    let mut gateway = setup(&upstream).set(&settings).start().await;
    for number in 0..5 {
        let id = format!("r-{number}");
        ask(&gateway, "/query", &id, &question()).await.expect(200);
        // Each is moved by itself, so that it is a block of its own.
        record(&gateway, &id).await;
    }
    gateway.signal("TERM");
    assert_eq!(gateway.exit(ms(5000)).await.unwrap().code(), Some(0));
    assert!(sound(&gateway).contains("5 records, 1 to 5"));
    let log = gateway.folder().join("log.jsonl");
    std::fs::write(&log, gateway.log()).unwrap();
    let log = log.display().to_string();
    assert!(gateway.sluice(&["audit", "verify", "--anchors", &log]).0);

    let mut sql = database(&gateway).await;
    let blocks = sqlx::query("SELECT first, frames FROM audit_blocks ORDER BY first")
        .fetch_all(&mut sql)
        .await
        .unwrap();
    let blocks: Vec<(i64, Vec<u8>)> = blocks.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(blocks.len(), 5);
    let set = |first: i64, bytes: Vec<u8>| {
        sqlx::query("UPDATE audit_blocks SET frames = $2 WHERE first = $1").bind(first).bind(bytes)
    };
    // The text of a record is changed, and its checksum made to fit.
    let mut changed = blocks[2].1.clone();
    let at = changed.windows(4).position(|word| word == b"anna").unwrap();
    changed[at..at + 4].copy_from_slice(b"emma");
    let sum = crc32(&changed[8..]);
    changed[4..8].copy_from_slice(&sum.to_le_bytes());
    for (what, bytes, expected) in [
        ("changed", changed, "what record 3 says was changed"),
        ("swapped", blocks[3].1.clone(), "record 3 is missing"),
        ("emptied", Vec::new(), "record 3 is missing"),
    ] {
        set(3, bytes).execute(&mut sql).await.unwrap();
        let (sound, told) = verified(&gateway);
        assert!(!sound && told.contains(expected), "{what}: {told}");
    }
    set(3, blocks[2].1.clone()).execute(&mut sql).await.unwrap();
    sound(&gateway);
    // The end is cut off, in the database and the journal alike: only the anchors know.
    sqlx::query("DELETE FROM audit_blocks WHERE first > 3").execute(&mut sql).await.unwrap();
    std::fs::remove_dir_all(gateway.folder().join("audit")).unwrap();
    let (sound, told) = verified(&gateway);
    assert!(!sound && told.contains("there was a record 5"), "{told}");
    std::fs::remove_file(&anchor_file).unwrap();
    let (sound, told) = gateway.sluice(&["audit", "verify", "--anchors", &log]);
    assert!(!sound && told.contains("there was a record 5"), "{told}");
}

/// Whether a text is in any file of the gateway's but its configuration.
fn is_anywhere(gateway: &Gateway, text: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![gateway.folder().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn what_a_user_said_is_erased_everywhere_and_the_chain_stays_sound() {
    let upstream = Upstream::start(Act::say("zebra answered")).await;
    let setup = setup(&upstream).env("SLUICE_ADMIN_KEY", "sk-admin");
    let mut gateway = setup.set(&json!({"audit": {"file": null}})).start().await;
    for (id, user, text) in
        [("a-1", "anna", "quokka one"), ("b-1", "bob", "walrus"), ("a-2", "anna", "quokka two")]
    {
        ask(&gateway, "/query", id, &json!({"question": text, "user_id": user, "mode": "chat"}))
            .await
            .expect(200);
    }
    assert_eq!(record(&gateway, "a-1").await["question"], "quokka one");
    // One that is in the journal only.
    ask(&gateway, "/query", "a-3", &json!({"question": "quokka three", "user_id": "anna", "mode": "chat"}))
        .await;
    assert!(!is_anywhere(&gateway, "quokka").is_empty());
    let erase = gateway.ask("POST", "/admin/erasures").bearer("sk-admin").json(&json!({"user_id": "anna"}));
    let done = erase.send().await.expect(200);
    assert_eq!((&done["records"], &done["tenant"]), (&json!(3), &json!("default")), "{done}");
    let told = record(&gateway, "a-1").await;
    assert_eq!(
        (&told["erased"], &told["question"], &told["user_id"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    assert_eq!(told["outcome"], "complete", "what became of it stays");
    assert_eq!(record(&gateway, "b-1").await["question"], "walrus");
    assert_eq!(is_anywhere(&gateway, "quokka"), [""; 0]);
    assert!(sound(&gateway).contains("3 of them erased"));
    let (well, told) = gateway.sluice(&["audit", "erase", "--user", "bob", "--at", &gateway.url()]);
    assert!(well && told.contains("1 records"), "{told}");
    assert_eq!(is_anywhere(&gateway, "walrus"), [""; 0]);
    // Afterwards they may speak again.
    ask(&gateway, "/query", "a-4", &json!({"question": "capybara", "user_id": "anna", "mode": "chat"})).await;
    assert_eq!(record(&gateway, "a-4").await["question"], "capybara");
    gateway.kill();
    gateway.restart().await;
    assert_eq!(record(&gateway, "a-4").await["question"], "capybara");
    sound(&gateway);
    let no = gateway.ask("POST", "/admin/erasures").bearer("sk-admin");
    no.json(&json!({"user_id": "anna", "tenant": "another"})).send().await.expect(403);
}

#[tokio::test]
async fn records_are_exported_as_lines_of_json() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    for (id, user) in [("a-1", "anna"), ("b-1", "bob"), ("a-2", "anna")] {
        ask(&gateway, "/query", id, &json!({"question": "Hi", "user_id": user, "mode": "chat"}))
            .await
            .expect(200);
    }
    let export = |more: &[&str]| -> Vec<Value> {
        let (well, text) = gateway.sluice(&[&["audit", "export"], more].concat());
        assert!(well, "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let ids = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["request_id"].as_str().unwrap().into()).collect()
    };
    // Half of them may still be in the journal only.
    let all = export(&[]);
    assert_eq!(ids(&all), ["a-1", "b-1", "a-2"]);
    assert_eq!(all.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(all[0]["hash"].as_str().unwrap().len() == 64 && all[0]["chain"].is_string());
    record(&gateway, "a-2").await;
    assert_eq!(ids(&export(&["--tenant", "default", "--user", "anna"])), ["a-1", "a-2"]);
    assert_eq!(export(&["--tenant", "nobody"]).len() + export(&["--to", "2020-01-01"]).len(), 0);
    assert_eq!(export(&["--from", "2020-01-01", "--to", "2099-01-01T00:00:00Z"]).len(), 3);
}

#[tokio::test]
async fn how_durable_records_are_can_be_chosen() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).set(&json!({"audit": {"durability": "relaxed"}})).start().await;
    ask(&gateway, "/query", "relaxed", &question()).await.expect(200);
    let told = async |id: &str| gateway.get_as("sk-admin", &format!("/audit/{id}")).await.status;
    let mut status = 404;
    for _ in 0..100 {
        status = told("relaxed").await;
        if status == 200 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(status, 200);
    gateway.rewrite(&json!({"audit": {"durability": "strict"}}));
    gateway.signal("HUP");
    assert!(soon(ms(5000), || gateway.log().contains("reloaded")).await);
    ask(&gateway, "/query", "strict", &question()).await.expect(200);
    record(&gateway, "strict").await;
    sound(&gateway);

    let gateway = setup(&upstream).set(&json!({"audit": {"durability": "off"}})).start().await;
    ask(&gateway, "/query", "off", &question()).await.expect(200);
    gateway.get_as("sk-admin", "/audit/off").await.expect(404);
    assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["status"], "off");
    assert!(!gateway.folder().join("audit").exists());
}

/// CRC-32, as zip and PNG have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}
