//! The audit in trouble: processes that are killed, disks that are full, databases that are locked or gone.
//! `SLUICE_KILL_ROUNDS` sets how often a gateway is killed under load; 3 by default.
use std::{
    collections::HashMap,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use sluice::{
    audit,
    observe::Metrics,
    settings::Span,
    store::{self, sql::Sql},
};
use sqlx::{AnyConnection, Connection, Executor};

use crate::support::{
    Act, Gateway, Setup, Upstream, Wire,
    client::Ask,
    key, ms,
    records::{Word, record},
    servers,
};

/// How long a start may take, whatever was left behind: two seconds for a release build. Another one reads a journal
/// many times slower, and shares its machine with other tests.
fn longest_start() -> Duration {
    if std::env::var_os("SLUICE_TEST_BINARY").is_some() { ms(2000) } else { ms(15_000) }
}

fn chat(text: &str, stream: bool) -> Value {
    let options = if stream { json!({"include_usage": true}) } else { Value::Null };
    json!({"model": "main", "messages": [{"role": "user", "content": text}], "stream": stream, "stream_options": options})
}

fn setup(upstream: &Upstream) -> Setup {
    let mut admin = key("admin", "sk-admin");
    admin["roles"] = json!(["admin"]);
    Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": [admin]}, "audit": {"file": null}}))
}

fn asked(gateway: &Gateway, id: &str, body: &Value) -> Ask {
    gateway.ask("POST", "/v1/chat/completions").bearer("sk-admin").header("x-request-id", id).json(body)
}

/// All records, by their request's id.
fn exported(gateway: &Gateway) -> HashMap<String, Vec<Value>> {
    let (well, text) = gateway.sluice(&["audit", "export"]);
    assert!(well, "{text}");
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        found.entry(line["request_id"].as_str().unwrap_or_default().into()).or_default().push(line);
    }
    found
}

fn sound(gateway: &Gateway) {
    let (sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(sound, "{told}\n{}", gateway.log());
}

/// Waits until `holds`.
async fn until(what: &str, gateway: &Gateway, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + ms(20_000);
    while !holds().await {
        assert!(Instant::now() < end, "{what}\n{}", gateway.log());
        tokio::time::sleep(ms(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answered_call_is_without_its_record_after_kill_9() {
    const PER_SECOND: u64 = 200;
    let rounds = std::env::var("SLUICE_KILL_ROUNDS").map_or(3, |text| text.parse().expect("a whole number"));
    let upstream = Upstream::start(Act::say("Right answer.").after(ms(5))).await;
    let settings = json!({"admit": {"max_in_flight": 4096}, "log": {"level": "error"}});
    let mut gateway = setup(&upstream).set(&settings).start().await;
    // Of each answer whose last byte came: its id, and the tokens that it told of.
    let records: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    for round in 0..rounds {
        let (going, address, whole) = (Arc::new(AtomicBool::new(true)), gateway.address, records.clone());
        let asking = going.clone();
        let load = tokio::spawn(async move {
            let (began, mut asks) = (Instant::now(), tokio::task::JoinSet::new());
            for number in 0.. {
                let at = began + Duration::from_micros(number * 1_000_000 / PER_SECOND);
                tokio::time::sleep_until(at.into()).await;
                if !asking.load(SeqCst) {
                    break;
                }
                let (id, stream, whole) = (format!("{round}-{number}"), number % 2 == 0, whole.clone());
                asks.spawn(async move {
                    let ask = Ask::new(address, "POST", "/v1/chat/completions").bearer("sk-admin");
                    let ask = ask.header("x-request-id", &id).json(&chat("Hi", stream));
                    let Ok(answer) = ask.try_send().await else { return };
                    if let Some(tokens) = output_tokens(answer.status, &answer.text(), stream) {
                        whole.lock().unwrap().push((id, tokens));
                    }
                });
            }
            while asks.join_next().await.is_some() {}
        });
        let before = records.lock().unwrap().len();
        until("nothing is answered", &gateway, async || records.lock().unwrap().len() >= before + 30).await;
        tokio::time::sleep(ms(u64::from(rand::random::<u16>()) % 500)).await;
        gateway.kill();
        going.store(false, SeqCst);
        load.await.unwrap();
        let began = Instant::now();
        gateway.restart().await;
        assert!(began.elapsed() < longest_start(), "it took {:?} to start", began.elapsed());
        sound(&gateway);
    }
    let (records, whole) = (exported(&gateway), std::mem::take(&mut *records.lock().unwrap()));
    println!("{} whole answers, {} records", whole.len(), records.len());
    assert!(whole.len() >= 30 * rounds, "{}", whole.len());
    for (id, tokens) in whole {
        let found = records.get(&id).map(Vec::as_slice).unwrap_or_default();
        let [record] = found else { panic!("{} records of {id}", found.len()) };
        assert_eq!(
            (&record["output_tokens"], &record["outcome"]),
            (&json!(tokens), &json!("complete")),
            "{record}"
        );
        assert!(record["cost_usd"].as_f64().unwrap() > 0.0, "{record}");
    }
}

/// The tokens that a whole answer told of; `None` where it is not whole.
fn output_tokens(status: u16, text: &str, stream: bool) -> Option<u64> {
    if status != 200 {
        return None;
    }
    let told = |value: &Value| value["usage"]["completion_tokens"].as_u64();
    if !stream {
        return told(&serde_json::from_str(text).ok()?);
    }
    if !text.trim_end().ends_with("data: [DONE]") {
        return None;
    }
    text.lines().rev().find_map(|line| told(&serde_json::from_str(line.strip_prefix("data: ")?).ok()?))
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_once_its_record_is_on_the_disk() {
    let upstream = Upstream::start(Act::say("One two three four five six").chunks_of(3).cut_after(4)).await;
    // The record waits for the other call's, which does not end.
    let mut gateway = setup(&upstream).set(&json!({"audit": {"gather": "300ms"}})).start().await;
    let paths = [
        ("/v1/chat/completions", chat("Hi", true)),
        (
            "/v1/messages",
            json!({"model": "main", "max_tokens": 9, "stream": true, "messages": chat("Hi", true)["messages"]}),
        ),
        ("/v1/responses", json!({"model": "main", "stream": true, "input": "Hi"})),
        ("/stream", json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})),
    ];
    for (path, body) in paths {
        upstream.set_default(Act::hang());
        let other = asked(&gateway, "other", &chat("Hi", false)).try_send();
        let broken = async {
            until("the other call is under way", &gateway, async || upstream.busy() == 1).await;
            upstream.set_default(Act::say("One two three four five six").chunks_of(3).cut_after(4));
            let ask =
                gateway.ask("POST", path).bearer("sk-admin").header("x-request-id", "broken").json(&body);
            ask.stream().await.rest().await
        };
        tokio::select! {
            _ = other => panic!("the other call has ended"),
            frames = broken => assert!(!frames.is_empty(), "{path}"),
        }
        gateway.kill();
        gateway.restart().await;
        let records: Vec<_> = exported(&gateway).remove("broken").into_iter().flatten().collect();
        let records: Vec<_> = records.iter().filter(|record| record["endpoint"] == path).collect();
        assert_eq!(records.len(), 1, "{path}: {records:?}");
        assert_eq!(records[0]["outcome"], "upstream_broken", "{path}: {records:?}");
        assert!(gateway.sluice(&["audit", "verify"]).0);
    }
}

#[tokio::test]
async fn a_check_without_the_pepper_says_so_and_makes_none() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    asked(&gateway, "one", &chat("Hi", false)).send().await.expect(200);
    gateway.kill();
    let (pepper, away) = (gateway.folder().join("sluice.pepper"), gateway.folder().join("away"));
    std::fs::rename(&pepper, &away).unwrap();
    for arguments in [&["audit", "verify"][..], &["audit", "export", "--tenant", "default", "--user", "u1"]] {
        let (is_well, told) = gateway.sluice(arguments);
        assert!(!is_well && told.contains("sluice.pepper") && told.contains("put it back"), "{told}");
        assert!(!pepper.exists(), "{arguments:?}");
    }
    // A new one would end the chain: nothing is written with it.
    let listen = ["--listen", "127.0.0.1:0"];
    let (starts, told) = gateway.sluice(&listen);
    assert!(!starts && told.contains("sluice.pepper") && !pepper.exists(), "{told}");
    std::fs::write(&pepper, "another pepper of thirty-two letters").unwrap();
    let (starts, told) = gateway.sluice(&listen);
    assert!(
        !starts && told.contains("is not the one that the records in the database were made with"),
        "{told}"
    );
    std::fs::rename(&away, &pepper).unwrap();
    gateway.restart().await;
    sound(&gateway);
}

#[tokio::test]
async fn a_torn_end_is_left_out_and_the_start_is_quick() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    for number in 0..20 {
        asked(&gateway, &format!("r-{number}"), &chat("Hi", false)).send().await.expect(200);
    }
    gateway.kill();
    // A record of which only a part was written when the machine stopped.
    let folder = gateway.folder().join("audit");
    let segments = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.filter(|path| path.extension().is_some_and(|ext| ext == "segment")).max().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[end..end + 200].fill(7);
    std::fs::write(&segment, bytes).unwrap();
    let began = Instant::now();
    gateway.restart().await;
    println!("started after {:?}", began.elapsed());
    assert!(began.elapsed() < longest_start(), "it took {:?} to start", began.elapsed());
    assert!(gateway.log().contains("cut off"), "{}", gateway.log());
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    sound(&gateway);
    // And one of the gateway's own, that tells of it.
    assert_eq!(exported(&gateway).len(), 22);
}

/// The journal's newest segment.
fn segment(gateway: &Gateway) -> std::path::PathBuf {
    let segments = std::fs::read_dir(gateway.folder().join("audit")).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    segments.filter(|path| path.extension().is_some_and(|ext| ext == "segment")).max().unwrap()
}

/// A gateway that was killed with records in its journal that its database does not have, after it had noted how far
/// they go.
async fn killed(upstream: &Upstream, many: u64) -> Gateway {
    let mut gateway = setup(upstream).start().await;
    asked(&gateway, "first", &chat("Hi", false)).send().await.expect(200);
    gateway.get_as("sk-admin", "/audit/first").await.expect(200);
    let mut other = database(&format!("sqlite:{}", gateway.folder().join("sluice.db").display())).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    for number in 1..many {
        asked(&gateway, &format!("r-{number}"), &chat("Hi", false)).send().await.expect(200);
    }
    let (path, noted) = (gateway.folder().join("audit/watermark"), format!(" {many:020} "));
    until("it is not noted", &gateway, async || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&noted))
    })
    .await;
    gateway.kill();
    other.execute("ROLLBACK").await.unwrap();
    gateway
}

#[tokio::test]
async fn a_flipped_bit_of_the_last_record_is_seen_before_and_after_the_next_start() {
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    sound(&gateway);
    let path = segment(&gateway);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    flipped[end - 20] ^= 4;
    // Its number is of no use either: it was noted, and is not there.
    let mut cut = whole.clone();
    cut[end - 30..=end].fill(0);
    for (what, bytes) in [("cut", cut), ("flipped", flipped)] {
        std::fs::write(&path, bytes).unwrap();
        let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
        assert!(!is_sound && told.contains("NOT SOUND") && told.contains("record 3"), "{what}: {told}");
    }
    gateway.restart().await;
    let log = gateway.log();
    assert_eq!(log.matches("a copy of the journal's newest segment is kept aside").count(), 1, "{log}");
    for path in ["/readyz", "/health"] {
        let told = gateway.get(path).await.expect(200)["components"]["audit"].clone();
        assert_eq!((&told["status"], &told["damaged_segments"]), (&json!("damaged"), &json!(1)), "{told}");
    }
    assert!(gateway.metric("sluice_audit_damaged_segments", &[]).await > 0.0);
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("cannot all be read"), "{told}");
}

#[tokio::test]
async fn a_segment_that_is_gone_is_missed_though_no_record_of_it_was_noted() {
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    gateway.restart().await;
    gateway.get_as("sk-admin", "/audit/r-2").await.expect(200);
    asked(&gateway, "lost", &chat("Hi", false)).send().await.expect(200);
    gateway.kill();
    std::fs::remove_file(segment(&gateway)).unwrap();
    // Just as if the records had come within the second before the end.
    let lost = |gateway: &Gateway| {
        let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
        assert!(!is_sound && told.contains("NOT SOUND") && told.contains("segment"), "{told}");
        told
    };
    let told = lost(&gateway);
    assert!(told.contains("segment 2 of the journal was begun, and is not there"), "{told}");
    gateway.restart().await;
    let log = gateway.log();
    assert!(log.contains("an audit segment that was begun is not there"), "{log}");
    assert!(!log.contains("is kept aside"), "there was nothing to keep: {log}");
    assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["damaged_segments"], 1);
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    assert!(lost(&gateway).contains("stands for a segment that a start found missing"));
}

#[tokio::test]
async fn a_journal_without_its_watermark_is_in_doubt_until_the_next_start() {
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    std::fs::remove_file(gateway.folder().join("audit/watermark")).unwrap();
    let whole = std::fs::read(segment(&gateway)).unwrap();
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(segment(&gateway)).unwrap();
        }
        let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
        assert!(!is_sound && told.contains("IN DOUBT") && told.contains("`watermark` is missing"), "{told}");
    }
    std::fs::write(gateway.folder().join("audit/0000000000000001.segment"), whole).unwrap();
    gateway.restart().await;
    assert!(
        gateway.log().contains("nothing tells how far the audit's journal had come"),
        "{}",
        gateway.log()
    );
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(is_sound && told.contains("after record 3 nothing told how far the journal had come"), "{told}");
}

/// Zeros the last record of the journal's newest segment, as if it had never been written.
fn last_zeroed(gateway: &Gateway) {
    let path = segment(gateway);
    let mut bytes = std::fs::read(&path).unwrap();
    // Behind the segment's own beginning each record begins with its length, and a checksum that is not counted.
    let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut last, mut at) = (0, 76);
    while length(at) > 0 {
        (last, at) = (at, at + 8 + length(at));
    }
    bytes[last..at].fill(0);
    std::fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn a_line_of_the_watermark_that_cannot_be_read_is_in_doubt_until_the_next_start() {
    const LINE: usize = 209;
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    sound(&gateway);
    let path = gateway.folder().join("audit/watermark");
    let whole = std::fs::read(&path).unwrap();
    last_zeroed(&gateway);
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("there was a record 3, as the `watermark`"), "{told}");
    assert!(!told.contains("anchor tells"), "none was given: {told}");
    // The line that tells of the last record, whatever was done to it.
    let number = format!(" {:020} ", 3);
    let line = whole.chunks(LINE).position(|line| String::from_utf8_lossy(line).contains(&number)).unwrap();
    let mut flipped = whole.clone();
    flipped[line * LINE + 50] ^= 1;
    let mut zeroed = whole.clone();
    zeroed[line * LINE..][..LINE].fill(0);
    let mut torn = whole.clone();
    torn[line * LINE + 100..][..50].copy_from_slice(&whole[(1 - line) * LINE + 100..][..50]);
    for (what, bytes) in [("zeroed", zeroed), ("torn", torn), ("flipped", flipped)] {
        std::fs::write(&path, bytes).unwrap();
        let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
        let words = "1 of the 4 lines that tell how far the journal had come";
        assert!(
            !is_sound && told.contains("IN DOUBT (exit status 3)") && told.contains(words),
            "{what}: {told}"
        );
        assert!(!told.contains("NOT SOUND"), "{what}: {told}");
    }
    for _ in 0..2 {
        // It is told for good, once, and is no damage.
        gateway.restart().await;
        assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["damaged_segments"], 0);
        let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
        assert!(is_sound && told.matches("(`watermark`) could not be read").count() == 1, "{told}");
        gateway.kill();
    }
    assert_eq!(std::fs::read(&path).unwrap().len(), 4 * LINE);
}

#[tokio::test]
async fn a_database_file_that_is_removed_is_noticed_and_what_comes_then_is_kept() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    asked(&gateway, "before", &chat("Hi", false)).send().await.expect(200);
    gateway.get_as("sk-admin", "/audit/before").await.expect(200);
    let (path, aside) = (gateway.folder().join("sluice.db"), gateway.folder().join("aside.db"));
    let up =
        async |gateway: &Gateway| gateway.metric("sluice_store_up", &[("store", "database")]).await > 0.5;
    for (what, id) in [("was removed", "meanwhile"), ("was replaced by another file", "then")] {
        std::fs::rename(&path, &aside).unwrap();
        if what.contains("replaced") {
            std::fs::write(&path, "").unwrap();
        }
        // Nobody has to ask for anything.
        until("it is not noticed", &gateway, async || !up(&gateway).await).await;
        asked(&gateway, id, &chat("Hi", false)).send().await.expect(200);
        until("it is not told", &gateway, async || {
            let told = gateway.get("/readyz").await.expect(200)["components"].clone();
            told["database"]["status"] == "away" && told["audit"]["status"] == "behind"
        })
        .await;
        until("its cause is not said", &gateway, async || gateway.log().contains(what)).await;
        gateway.get_as("sk-admin", &format!("/audit/{id}")).await.expect(503);
        std::fs::rename(&aside, &path).unwrap();
        until("it is not back", &gateway, async || up(&gateway).await).await;
        until("it is not found", &gateway, async || {
            gateway.get_as("sk-admin", &format!("/audit/{id}")).await.status == 200
        })
        .await;
        sound(&gateway);
    }
    // For good: all that it had is gone with it, and the next start moves the rest into a new one.
    std::fs::remove_file(&path).unwrap();
    until("it is not noticed", &gateway, async || !up(&gateway).await).await;
    for number in 0..20 {
        asked(&gateway, &format!("late-{number}"), &chat("Hi", false)).send().await.expect(200);
    }
    gateway.signal("TERM");
    assert!(gateway.exit(ms(20_000)).await.is_some(), "{}", gateway.log());
    gateway.restart().await;
    for number in 0..20 {
        gateway.get_as("sk-admin", &format!("/audit/late-{number}")).await.expect(200);
    }
}

/// All that is in a folder: names, and what the files hold.
fn held(folder: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut held = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => held.extend(self::held(&path)),
            // Whoever reads the database says so there.
            false if path.to_string_lossy().ends_with("-shm") => {}
            false => drop(held.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    held
}

#[tokio::test]
async fn a_second_gateway_is_refused_before_it_touches_anything() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).set(&json!({"store": {"timeout": "1s"}})).start().await;
    asked(&gateway, "r-1", &chat("Hi", false)).send().await.expect(200);
    gateway.get_as("sk-admin", "/audit/r-1").await.expect(200);
    let other = tempfile::tempdir().unwrap();
    let second = |listen: &str, own: bool| {
        let mut command = Command::new(crate::support::gateway::binary());
        command.args(["--listen", listen]).env("SLUICE_CONFIG", gateway.folder().join("sluice.yaml"));
        command.env("TEST_PROVIDER_KEY", "sk-provider");
        if own {
            command.env("SLUICE__AUDIT__FOLDER", other.path().join("audit"));
            command.env("SLUICE__STORE__SQLITE", other.path().join("sluice.db"));
            command.env("SLUICE__BUDGET__JOURNAL", other.path().join("budget.journal"));
        }
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        String::from_utf8(done.stderr).unwrap()
    };
    // What the gateway itself had to write is written.
    let mut before = held(gateway.folder());
    until("it does not rest", &gateway, async || {
        tokio::time::sleep(ms(300)).await;
        let now = held(gateway.folder());
        std::mem::replace(&mut before, now.clone()) == now
    })
    .await;
    let taken = gateway.address.to_string();
    for own in [false, true] {
        let told = second(&taken, own);
        assert!(told.contains(&format!("cannot listen on {taken}")), "{told}");
    }
    let told = second("127.0.0.1:0", false);
    assert!(
        told.contains("another gateway runs with the same folder") && told.contains("stop that"),
        "{told}"
    );
    assert!(held(other.path()).is_empty());
    let now = held(gateway.folder());
    let changed: Vec<_> = now.keys().filter(|path| now.get(*path) != before.get(*path)).collect();
    assert!(changed.is_empty() && now.len() == before.len(), "{changed:?}");
    asked(&gateway, "r-2", &chat("Hi", false)).send().await.expect(200);
    sound(&gateway);
}

#[tokio::test]
async fn damage_to_records_that_the_database_has_is_told_before_and_after_the_next_start() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    for number in 0..5 {
        asked(&gateway, &format!("r-{number}"), &chat("Hi", false)).send().await.expect(200);
    }
    gateway.get_as("sk-admin", "/audit/r-4").await.expect(200);
    let path = gateway.folder().join("audit/watermark");
    until("it is not noted", &gateway, async || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&format!(" {:020} ", 5)))
    })
    .await;
    gateway.kill();
    sound(&gateway);
    let path = segment(&gateway);
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[end - 2000..end].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("NOT SOUND") && told.contains("the database has them"), "{told}");
    gateway.restart().await;
    assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["damaged_segments"], 1);
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("cannot all be read"), "{told}");
}

/// Takes all records out of the journal's newest segment, as if they had never been written.
fn emptied(gateway: &Gateway) {
    let path = segment(gateway);
    let mut bytes = std::fs::read(&path).unwrap();
    // Behind the segment's own beginning.
    bytes[76..].fill(0);
    std::fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn what_is_gone_from_the_journal_and_from_the_database_is_missed() {
    let upstream = Upstream::answering().await;
    for all in [true, false] {
        let mut gateway = setup(&upstream).start().await;
        // Two blocks of the database.
        for id in ["r-1", "r-2"] {
            asked(&gateway, id, &chat("Hi", false)).send().await.expect(200);
            gateway.get_as("sk-admin", &format!("/audit/{id}")).await.expect(200);
        }
        let path = gateway.folder().join("audit/watermark");
        until("it is not noted", &gateway, async || {
            let told = std::fs::read(&path).unwrap();
            String::from_utf8_lossy(&told[209 * 2..]).contains(&format!(" {:020} ", 2))
        })
        .await;
        gateway.kill();
        sound(&gateway);
        emptied(&gateway);
        // Only whoever moved them has noted them: as if they had come in the last moment.
        let mut noted = std::fs::read(&path).unwrap();
        noted[..209 * 2].fill(0);
        std::fs::write(&path, noted).unwrap();
        let mut other = database(&format!("sqlite:{}", gateway.folder().join("sluice.db").display())).await;
        let changes = match all {
            true => {
                ["DELETE FROM audit_blocks", "DELETE FROM audit_ids", "DELETE FROM audit_chains"].as_slice()
            }
            false => &["DELETE FROM audit_blocks WHERE first > 1", "DELETE FROM audit_ids WHERE first > 1"],
        };
        for change in changes {
            other.execute(*change).await.unwrap();
        }
        other.close().await.unwrap();
        let lost = |gateway: &Gateway| {
            let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
            assert!(!is_sound && told.contains("NOT SOUND"), "{told}");
            told
        };
        let told = lost(&gateway);
        assert!(told.contains("the database had records up to 2"), "{told}");
        gateway.restart().await;
        let log = gateway.log();
        assert!(log.contains("a copy of the journal's newest segment is kept aside"), "{log}");
        assert_eq!(log.contains("a chain of its own begins"), !all, "{log}");
        assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["damaged_segments"], 1);
        asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
        gateway.get_as("sk-admin", "/audit/after").await.expect(200);
        lost(&gateway);
        // It goes on from there, and is told of once.
        gateway.kill();
        gateway.restart().await;
        assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["damaged_segments"], 1);
        for file in std::fs::read_dir(gateway.folder().join("audit")).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|ext| ext == "damaged") {
                std::fs::remove_file(file).unwrap();
            }
        }
        sound(&gateway);
    }
}

#[tokio::test]
async fn an_earlier_chain_that_is_nowhere_any_more_is_missed() {
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    // A segment of nobody's chain in the place of the one that there was: its beginning has no key.
    let path = segment(&gateway);
    let mut head = std::fs::read(&path).unwrap()[..76].to_vec();
    head[16..32].fill(7);
    head[32..40].copy_from_slice(&1_u64.to_le_bytes());
    head[40..72].fill(0);
    let sum = crc32fast::hash(&head[..72]);
    head[72..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, head).unwrap();
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("there was a record 3, as the `watermark`"), "{told}");
    assert!(!told.contains("anchor tells"), "none was given: {told}");
    gateway.restart().await;
    let log = gateway.log();
    assert!(log.contains("neither in the journal nor in the database"), "{log}");
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains(".damaged"), "{told}");
}

#[tokio::test]
async fn a_journal_that_is_new_beside_a_database_with_records_is_in_doubt_and_told_of() {
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    let folder = gateway.folder().join("audit");
    std::fs::remove_dir_all(&folder).unwrap();
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("there is no journal"), "{told}");
    std::fs::create_dir(&folder).unwrap();
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("IN DOUBT") && told.contains("folder is empty"), "{told}");
    assert!(told.starts_with("chain ") && told.contains("the journal's folder: IN DOUBT"), "{told}");
    gateway.restart().await;
    assert!(gateway.log().contains("the audit's journal is new"), "{}", gateway.log());
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(is_sound && told.contains("record 1 tells of a start: the journal was new"), "{told}");
    // It is told for good, and once.
    gateway.kill();
    gateway.restart().await;
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(is_sound && told.matches("the journal was new").count() == 1, "{told}");
}

#[tokio::test]
async fn damage_in_the_database_shows_while_the_gateway_runs() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    asked(&gateway, "r-1", &chat("Hi", false)).send().await.expect(200);
    gateway.get_as("sk-admin", "/audit/r-1").await.expect(200);
    let told =
        async |gateway: &Gateway| gateway.get("/readyz").await.expect(200)["components"]["audit"].clone();
    assert_eq!(told(&gateway).await["damaged_blocks"], 0);
    let mut other = database(&format!("sqlite:{}", gateway.folder().join("sluice.db").display())).await;
    other.execute("UPDATE audit_blocks SET ended = ended - 1").await.unwrap();
    until("it is not seen", &gateway, async || told(&gateway).await["damaged_blocks"] == 1).await;
    assert_eq!(told(&gateway).await["status"], "damaged");
    assert!(gateway.metric("sluice_audit_damaged_blocks", &[]).await > 0.0);
    assert_eq!(gateway.log().matches("audit records in the database are damaged").count(), 1);
    // A gateway that starts knows of it, whatever it has looked at: by now all is well.
    let note = gateway.folder().join("audit/damaged-blocks");
    until("it is not noted", &gateway, async || note.exists()).await;
    gateway.kill();
    other.execute("UPDATE audit_blocks SET ended = ended + 1").await.unwrap();
    gateway.restart().await;
    assert_eq!(told(&gateway).await["damaged_blocks"], 1);
    until("it does not end", &gateway, async || told(&gateway).await["status"] == "ok").await;
    until("it is still noted", &gateway, async || !note.exists()).await;
    sound(&gateway);
}

#[tokio::test]
async fn an_end_that_a_crash_has_cut_is_in_doubt_and_told_of_after_the_next_start() {
    let upstream = Upstream::answering().await;
    let mut gateway = killed(&upstream, 3).await;
    let path = segment(&gateway);
    let mut bytes = std::fs::read(&path).unwrap();
    // Another record, of which the first sector was written: its length, and not all of it.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[end..end + 4].copy_from_slice(&2000_u32.to_le_bytes());
    let sector = (end + 4).next_multiple_of(512);
    bytes[end + 4..sector].fill(b'x');
    std::fs::write(&path, bytes).unwrap();
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("IN DOUBT") && told.contains("record 4 cannot be read"), "{told}");
    let began = Instant::now();
    gateway.restart().await;
    assert!(began.elapsed() < longest_start(), "it took {:?} to start", began.elapsed());
    assert_eq!(gateway.get("/readyz").await.expect(200)["components"]["audit"]["damaged_segments"], 0);
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(is_sound && told.contains("after record 3 it found"), "{told}");
}

#[tokio::test]
async fn a_segment_whose_beginning_is_damaged_is_told() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream).start().await;
    asked(&gateway, "r-1", &chat("Hi", false)).send().await.expect(200);
    sound(&gateway);
    gateway.kill();
    let folder = gateway.folder().join("audit");
    let segments = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.filter(|path| path.extension().is_some_and(|ext| ext == "segment")).max().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (is_sound, told) = gateway.sluice(&["audit", "verify"]);
    assert!(!is_sound && told.contains("cannot all be read"), "{told}");
}

/// `SLUICE_START_RECORDS` makes it more records.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_wait_for_what_is_still_to_be_moved() {
    const KEY: &str = "a key of the audit that is long enough";
    let many =
        std::env::var("SLUICE_START_RECORDS").map_or(5000, |text| text.parse().expect("a whole number"));
    let place = tempfile::tempdir().unwrap();
    let (folder, sqlite) = (place.path().join("audit"), place.path().join("sluice.db"));
    let stores =
        store::Settings { sqlite: sqlite.clone(), timeout: Span::millis(1000), ..store::Settings::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let sql = Sql::open(&stores, &[audit::TABLES], &metrics).await.unwrap();
    let settings = audit::Settings { folder: folder.clone(), ..audit::Settings::default() };
    let spelling = audit::Spelling { settings: &settings, log: None, masks: Arc::new(Word(None)) };
    let ends = audit::Ends {
        settle: Arc::new(|_| unreachable!("all is counted")),
        done: Arc::new(|_, _| {}),
        anchored: Arc::new(|_| {}),
    };
    let archive = audit::Archive::new(sql.clone(), Arc::new(audit::Key::new(KEY.as_bytes())));
    let lock = audit::Lock::take(&settings).unwrap();
    let (writer, filing) = audit::open(&spelling, ends, archive, metrics, lock).await.unwrap();
    // The database takes nothing, so that all of it stays in the journal.
    let mut other = database(&format!("sqlite:{}", sqlite.display())).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let text = "What is a breaker, and when does it open? ".repeat(10);
    let mut last = None;
    for number in 0..many {
        let record = record(&format!("r-{number}"), "anna", &text, SystemTime::now());
        // Its places are as many as calls may be under way.
        let place = loop {
            match writer.reserve() {
                Ok(place) => break place,
                Err(_) => tokio::time::sleep(ms(1)).await,
            }
        };
        last = Some(writer.record(place, record));
    }
    last.unwrap().wait().await.unwrap();
    writer.close();
    drop((writer, filing));
    sql.close().await;
    other.execute("ROLLBACK").await.unwrap();
    // And an end that was cut.
    let segments = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let segments: Vec<_> =
        segments.filter(|path| path.extension().is_some_and(|ext| ext == "segment")).collect();
    let mut bytes = std::fs::read(segments.iter().max().unwrap()).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[end..end + 4].copy_from_slice(&2000_u32.to_le_bytes());
    bytes[end + 4..(end + 4).next_multiple_of(512)].fill(b'x');
    std::fs::write(segments.iter().max().unwrap(), bytes).unwrap();

    let upstream = Upstream::answering().await;
    let change =
        json!({"audit": {"folder": folder, "key": {"env": "TEST_AUDIT_KEY"}}, "store": {"sqlite": sqlite}});
    let began = Instant::now();
    let gateway = setup(&upstream).set(&change).env("TEST_AUDIT_KEY", KEY).start().await;
    let took = began.elapsed();
    assert!(took < longest_start(), "it took {took:?} to start with {many} records");
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    until("the records are not moved", &gateway, async || {
        gateway.metric("sluice_audit_unfiled_records", &[]).await < 1.0
    })
    .await;
    println!(
        "{many} records in {} segments: started after {took:?}, moved after {:?}",
        segments.len(),
        began.elapsed()
    );
    sound(&gateway);
    let (_, text) = gateway.sluice(&["audit", "export", "--tenant", "tenant"]);
    assert_eq!(text.lines().count(), many);
}

/// A file system of its own that is soon full. Only root can make one.
struct Small(std::path::PathBuf);

impl Small {
    /// Mounts one. Who cannot, and knows that, leaves these tests out by `SLUICE_NO_MOUNT=1`.
    fn mount(path: &std::path::Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(path.to_owned()));
        }
        let left_out = std::env::var_os("SLUICE_NO_MOUNT").is_some();
        assert!(
            left_out,
            "what becomes of a full disk is NOT tested: a small file system can be mounted by root only. Run this test \
             as root (`sudo ./test`, or `unshare --user --map-root-user --mount ./test`), or set SLUICE_NO_MOUNT=1"
        );
        eprintln!("left out, as SLUICE_NO_MOUNT asks for: what becomes of a full disk");
        None
    }

    fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        // All of it is said: in a name space of its own there is no table to look it up in.
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(&self.0).status();
        assert!(mount.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_before_a_model_is_asked_and_room_is_enough_to_go_on() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(&place.path().join("disk"), "5m") else { return };
    let upstream = Upstream::answering().await;
    let folder = place.path().join("disk/audit");
    let settings = json!({"audit": {"folder": folder, "max_content": "256KiB"}, "limits": {"requests_per_minute": {"user": null}}});
    let gateway = setup(&upstream).set(&settings).start().await;
    let long = "long ".repeat(40_000);
    let (mut answered, mut refused) = (0, 0);
    for number in 0..60 {
        let asked_before = upstream.asked();
        let answer = asked(&gateway, &format!("r-{number}"), &chat(&long, number % 2 == 0)).send().await;
        match answer.status {
            200 => answered += 1,
            503 => {
                assert_eq!(answer.json()["error"]["code"], "audit_unavailable");
                assert!(answer.header("retry-after").is_some());
                assert_eq!(upstream.asked(), asked_before, "a model was asked");
                refused += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(answered > 5 && refused > 5, "{answered} answered, {refused} refused");
    assert_eq!(gateway.get("/readyz").await.status, 503);
    assert!(gateway.metric("sluice_audit_disk_up", &[]).await < 1.0);
    let told = gateway.log().matches("audit records cannot be written").count();
    assert_eq!(told, 1, "it is said once");
    disk.resize("64m");
    until("it does not go on", &gateway, async || gateway.get("/readyz").await.status == 200).await;
    asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
    until("it is not said", &gateway, async || gateway.log().contains("can be written again")).await;
    sound(&gateway);
    assert_eq!(
        exported(&gateway).values().flatten().filter(|record| record["status"] == 200).count(),
        answered + 1
    );
    drop(gateway);
}

#[tokio::test]
async fn a_database_whose_disk_was_full_is_written_again_once_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("disk");
    let Some(_disk) = Small::mount(&path, "8m") else { return };
    let upstream = Upstream::answering().await;
    let settings = json!({
        "store": {"sqlite": path.join("sluice.db")}, "limits": {"requests_per_minute": {"user": null, "address": null}},
    });
    let gateway = setup(&upstream).set(&settings).start().await;
    let database =
        async || gateway.get("/health").await.expect(200)["components"]["database"]["status"].clone();
    asked(&gateway, "before", &chat("Hi", false)).send().await.expect(200);
    gateway.get_as("sk-admin", "/audit/before").await.expect(200);
    assert_eq!(database().await, "ok");
    // The journal, on another disk, takes what the database does not.
    let filler = path.join("filler");
    assert!(std::fs::write(&filler, vec![1; 16 << 20]).is_err(), "there is room");
    let (long, mut calls) = ("long ".repeat(4_000), 0);
    until("the database takes all", &gateway, async || {
        asked(&gateway, &format!("r-{calls}"), &chat(&long, false)).send().await.expect(200);
        calls += 1;
        gateway.log().contains("audit records cannot be moved into the database")
            && database().await == "away"
    })
    .await;
    // Tried more than once, by more than one.
    for number in 0..4 {
        asked(&gateway, &format!("more-{number}"), &chat(&long, false)).send().await.expect(200);
        let feedback = json!({"request_id": "before", "rating": 4});
        gateway.ask("POST", "/feedback").bearer("sk-admin").json(&feedback).send().await;
        assert_eq!(gateway.get_as("sk-admin", &format!("/audit/more-{number}")).await.status, 503);
        assert_eq!(database().await, "away");
    }
    std::fs::remove_file(&filler).unwrap();
    until("they are not filed", &gateway, async || {
        gateway.metric("sluice_audit_unfiled", &[]).await < 1.0 && database().await == "ok"
    })
    .await;
    let told = gateway.log();
    assert_eq!(told.matches("the database is away").count(), 1, "{told}");
    assert_eq!(told.matches("the database is back").count(), 1, "{told}");
    for id in ["before", "r-0", "more-3"] {
        gateway.get_as("sk-admin", &format!("/audit/{id}")).await.expect(200);
    }
    let feedback = json!({"request_id": "before", "rating": 5});
    gateway.ask("POST", "/feedback").bearer("sk-admin").json(&feedback).send().await.expect(201);
    sound(&gateway);
    let records = exported(&gateway);
    assert!((0..calls).all(|number| records.contains_key(&format!("r-{number}"))));
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_caller_was_told_that_there_is_none_says_so_when_there_is_room() {
    const CALLS: usize = 40;
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(&place.path().join("disk"), "5m") else { return };
    // All have their places before the first record is written.
    let upstream = Upstream::start(Act::say("Right answer.").after(ms(2500))).await;
    let folder = place.path().join("disk/audit");
    let settings = json!({
        "audit": {"folder": folder, "max_content": "256KiB"},
        "timeouts": {"first_token": "30s", "total": "60s"},
        "admit": {"max_in_flight": 4096},
    });
    let gateway = setup(&upstream).set(&settings).start().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..CALLS {
        let id = format!("r-{number}");
        let ask =
            asked(&gateway, &id, &chat(&format!("{number} {}", "long ".repeat(50_000)), number % 2 == 0));
        calls.spawn(async move {
            let answer = ask.send().await;
            let stream = answer.text().contains("data: ");
            let whole = answer.status == 200 && (!stream || !answer.text().contains("audit_unavailable"));
            (id, answer.status, whole)
        });
    }
    let mut given = HashMap::new();
    while let Some(call) = calls.join_next().await {
        let (id, status, whole) = call.unwrap();
        assert!(whole || matches!(status, 200 | 503), "{id}: {status}");
        given.insert(id, whole);
    }
    let refused = given.values().filter(|whole| !**whole).count();
    assert!((1..CALLS).contains(&refused), "{refused} of {CALLS} were told that there is no record");
    assert_eq!(upstream.asked(), CALLS, "the disk was full when they ended, not when they began");
    disk.resize("64m");
    until("it does not go on", &gateway, async || gateway.get("/readyz").await.status == 200).await;
    until("records still wait", &gateway, async || {
        gateway.metric("sluice_audit_pending_records", &[]).await < 1.0
    })
    .await;
    let mut records = exported(&gateway);
    for (id, whole) in &given {
        let found = records.remove(id).unwrap_or_default();
        let [record] = &found[..] else { panic!("{} records of {id}", found.len()) };
        let answered = if *whole { Value::Null } else { json!(false) };
        assert_eq!((&record["answered"], &record["outcome"]), (&answered, &json!("complete")), "{id}");
    }
    sound(&gateway);
    drop((gateway, disk));
}

async fn database(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.unwrap()
}

#[tokio::test]
async fn a_locked_database_is_waited_for_in_the_journal_or_refuses_as_it_is_set() {
    let upstream = Upstream::answering().await;
    for on_failure in ["spool", "refuse"] {
        let settings = json!({"audit": {"on_failure": on_failure}, "store": {"timeout": "300ms"}});
        let gateway = setup(&upstream).set(&settings).start().await;
        asked(&gateway, "before", &chat("Hi", false)).send().await.expect(200);
        let path = gateway.folder().join("sluice.db");
        let mut other = database(&format!("sqlite:{}", path.display())).await;
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        asked(&gateway, "during", &chat("Hi", false)).send().await.expect(200);
        until("it is not noticed", &gateway, async || {
            gateway.metric("sluice_audit_database_up", &[]).await < 1.0
        })
        .await;
        let more = asked(&gateway, "more", &chat("Hi", false)).send().await;
        assert_eq!(more.status, if on_failure == "spool" { 200 } else { 503 });
        assert_eq!(gateway.get("/readyz").await.status, more.status);
        assert!(gateway.metric("sluice_audit_unfiled_records", &[]).await > 0.0);
        gateway.get_as("sk-admin", "/audit/during").await.expect(503);
        other.execute("ROLLBACK").await.unwrap();
        until("it does not go on", &gateway, async || {
            gateway.metric("sluice_audit_unfiled_records", &[]).await < 1.0
                && gateway.get("/readyz").await.status == 200
        })
        .await;
        asked(&gateway, "after", &chat("Hi", false)).send().await.expect(200);
        gateway.get_as("sk-admin", "/audit/during").await.expect(200);
        sound(&gateway);
        let log = gateway.log();
        assert_eq!(log.matches("cannot be moved into the database").count(), 1, "{log}");
    }
}

#[tokio::test]
async fn two_gateways_on_a_postgres_that_restarts_have_all_their_records() {
    let upstream = Upstream::answering().await;
    let mut postgres = servers::Postgres::start().await;
    let gateway = || {
        let settings = json!({
            "store": {"postgres": {"env": "TEST_POSTGRES"}, "timeout": "1s"},
            "audit": {"key": {"env": "TEST_AUDIT_KEY"}},
        });
        let setup = setup(&upstream).set(&settings).env("TEST_POSTGRES", &postgres.url());
        setup.env("TEST_AUDIT_KEY", "a key of the audit that is long enough")
    };
    let gateways = [gateway().start().await, gateway().start().await];
    let ask = async |id: &str| {
        for (number, gateway) in gateways.iter().enumerate() {
            asked(gateway, &format!("{id}-{number}"), &chat("Hi", false)).send().await.expect(200);
        }
    };
    ask("before").await;
    gateways[1].get_as("sk-admin", "/audit/before-1").await.expect(200);
    postgres.kill();
    ask("during").await;
    gateways[0].get_as("sk-admin", "/audit/during-0").await.expect(503);
    postgres.restart().await;
    for gateway in &gateways {
        until("it does not go on", gateway, async || {
            gateway.metric("sluice_audit_unfiled_records", &[]).await < 1.0
        })
        .await;
    }
    ask("after").await;
    // Each finds what the other has moved.
    let seen = gateways[0].get_as("sk-admin", "/audit/during-1").await.expect(200);
    assert_eq!(seen["record"]["outcome"], "complete");
    gateways[1].get_as("sk-admin", "/audit/after-1").await.expect(200);
    let (sound, told) = gateways[0].sluice(&["audit", "verify"]);
    assert!(sound && told.matches("sound").count() == 2, "{told}");
    let erase =
        gateways[0].ask("POST", "/admin/erasures").bearer("sk-admin").json(&json!({"user_id": "nobody"}));
    assert_eq!(erase.send().await.expect(200)["records"], 0);
}
