//! Whatever is answered where models are asked leaves exactly one record: also a reply that is given once more, the
//! rest of a stream, and a refusal while the gateway drains.
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms, soon};

fn setup(upstream: &Upstream) -> Setup {
    let mut admin = key("admin", "sk-admin");
    (admin["roles"], admin["tenant"]) = (json!(["admin"]), json!("acme"));
    Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": [admin]}}))
}

/// All records.
fn exported(gateway: &Gateway) -> Vec<Value> {
    let (well, text) = gateway.sluice(&["audit", "export"]);
    assert!(well, "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_reply_that_is_given_once_more_says_so_and_costs_nothing() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let chat =
        |stream| json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream});
    for (path, body) in [
        ("/query", json!({"question": "Hi", "user_id": "u", "mode": "chat"})),
        ("/stream", json!({"prompt": "Hi", "mode": "chat"})),
        ("/v1/chat/completions", chat(false)),
        ("/v1/chat/completions", chat(true)),
    ] {
        let before = exported(&gateway).len();
        let word = format!("word-{path}-{}", body["stream"]);
        let ask = |id: &str| {
            let ask = gateway.ask("POST", path).bearer("sk-admin").header("idempotency-key", &word);
            ask.header("x-request-id", id).json(&body)
        };
        let (first, again) = (format!("first-{before}"), format!("again-{before}"));
        assert_eq!(ask(&first).send().await.status, 200);
        assert_eq!(ask(&again).send().await.header("idempotency-replayed"), Some("true"));
        let records = exported(&gateway).split_off(before);
        assert_eq!(records.len(), 2, "{path}: {records:?}");
        assert_eq!(records[0]["request_id"], *first);
        assert!(records[0]["cost_usd"].as_f64().unwrap() > 0.0 && records[0]["replay_of"].is_null());
        for (field, value) in [
            ("request_id", json!(again)),
            ("replay_of", json!(first)),
            ("cost_usd", json!(0.0)),
            ("output_tokens", json!(0)),
            ("endpoint", json!(path)),
            ("key", json!("admin")),
            ("tenant", json!("acme")),
            ("status", json!(200)),
        ] {
            assert_eq!(records[1][field], value, "`{field}` of {}", records[1]);
        }
    }
    // A key that is in use for something else is a refusal as any other.
    let other =
        gateway.ask("POST", "/query").bearer("sk-admin").header("idempotency-key", "word-/query-null");
    let other = other.json(&json!({"question": "Hello", "user_id": "u"}));
    other.send().await.expect(422);
    assert_eq!(exported(&gateway).last().unwrap()["outcome"], "idempotency_key_reused");
    assert!(gateway.sluice(&["audit", "verify"]).0);
}

#[tokio::test]
async fn a_stream_that_is_gone_on_with_says_of_which_it_is_the_rest() {
    let upstream = Upstream::start(Act::say("one two three").chunks_of(3).every(ms(10))).await;
    let gateway = setup(&upstream).start().await;
    let ask = gateway.ask("POST", "/stream").bearer("sk-admin").header("x-request-id", "whole");
    let mut stream =
        ask.header("x-sluice-resume", "1").json(&json!({"prompt": "Hi", "mode": "chat"})).stream().await;
    let first = loop {
        let frame = stream.next().await.unwrap();
        if let Some(id) = frame.id {
            break id;
        }
    };
    drop(stream);
    let rest = gateway.ask("GET", "/stream?prompt=Hi").bearer("sk-admin").header("x-request-id", "rest");
    let rest = rest.header("last-event-id", &first).send().await;
    assert!(rest.status == 200 && rest.text().trim_end().ends_with("[DONE]"));
    let mut records = exported(&gateway);
    records.sort_by_key(|record| record["request_id"].to_string());
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((&records[0]["request_id"], &records[0]["replay_of"]), (&json!("rest"), &json!("whole")));
    assert_eq!((&records[1]["request_id"], &records[1]["outcome"]), (&json!("whole"), &json!("complete")));
}

#[tokio::test]
async fn who_is_refused_while_the_gateway_drains_has_a_record() {
    let upstream = Upstream::start(Act::say("Hello").every(ms(400))).await;
    let mut gateway = setup(&upstream).start().await;
    let body = json!({"prompt": "Hi", "mode": "chat"});
    let mut running = gateway.ask("POST", "/stream").bearer("sk-admin").json(&body).stream().await;
    running.next().await.unwrap();
    // Half a head keeps the connection open: it is no idle one.
    let mut late = TcpStream::connect(gateway.address).await.unwrap();
    late.write_all(b"POST /query HTTP/1.1\r\nhost: a\r\nx-request-id: late\r\n").await.unwrap();
    tokio::time::sleep(ms(100)).await;
    gateway.signal("TERM");
    assert!(soon(ms(5000), || gateway.log().contains("stopping")).await);
    late.write_all(b"authorization: Bearer sk-admin\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let mut told = Vec::new();
    late.read_to_end(&mut told).await.unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("draining"), "{told}");
    running.rest().await;
    assert_eq!(gateway.exit(ms(10_000)).await.unwrap().code(), Some(0));
    let records = exported(&gateway);
    let late: Vec<_> = records.iter().filter(|record| record["request_id"] == "late").collect();
    let [late] = late[..] else { panic!("{records:?}") };
    for (field, value) in
        [("outcome", "draining"), ("tenant", "acme"), ("key", "admin"), ("endpoint", "/query")]
    {
        assert_eq!(late[field], value, "{late}");
    }
    assert_eq!(records.len(), 2, "{records:?}");
}

#[tokio::test]
async fn where_there_is_nothing_to_check_that_is_said() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    let (sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(sound && told.contains("0 records"), "{told}");
    gateway.kill();
    // Without the journal nobody knows what it held.
    std::fs::remove_dir_all(gateway.folder().join("audit")).unwrap();
    let (sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!sound && told.contains("there is no journal"), "{told}");
    assert!(!gateway.folder().join("audit").exists(), "it is looked at, not made");
    for file in ["sluice.db", "sluice.db-wal", "sluice.db-shm"] {
        let _ = std::fs::remove_file(gateway.folder().join(file));
    }
    for command in ["verify", "export"] {
        let (sound, told) = gateway.sluice(&["audit", command]);
        assert!(!sound && told.contains("there are no records"), "{told}");
    }
    assert!(!gateway.folder().join("sluice.db").exists());
    std::fs::create_dir(gateway.folder().join("audit")).unwrap();
    let (sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!sound && told.contains("there is no database"), "{told}");
    assert!(!gateway.folder().join("sluice.db").exists(), "it is looked for, not made");
}
