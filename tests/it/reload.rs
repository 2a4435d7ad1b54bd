//! The configuration: replaced as a whole, or not at all.
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, ms, soon};

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
}

fn fresh_route() -> Value {
    json!({"models": {"fresh": {"targets": [{"provider": "primary", "model": "model-b"}]}}})
}

async fn comes_to_answer(gateway: &Gateway, model: &str) -> bool {
    for _ in 0..100 {
        if gateway.post("/v1/chat/completions", &chat(model)).await.status == 200 {
            return true;
        }
        tokio::time::sleep(ms(50)).await;
    }
    false
}

#[tokio::test]
async fn a_changed_file_is_taken_up_by_itself() {
    let upstream = Upstream::answering().await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    gateway.post("/v1/chat/completions", &chat("fresh")).await.expect(404);
    gateway.rewrite(&fresh_route());
    assert!(comes_to_answer(&gateway, "fresh").await);
}

#[tokio::test]
async fn sighup_reloads() {
    let upstream = Upstream::answering().await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    gateway.rewrite(&fresh_route());
    gateway.signal("HUP");
    assert!(comes_to_answer(&gateway, "fresh").await);
}

#[tokio::test]
async fn a_new_key_of_a_provider_is_taken_up_from_its_file() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-old\n").unwrap();
    let keyed = json!({"kind": "openai", "base_url": Wire::OpenAi.base_url(upstream.address), "api_key": {"file": file}});
    let route = json!({"targets": [{"provider": "keyed", "model": "model-a"}]});
    let settings = json!({"providers": {"keyed": keyed}, "models": {"keyed": route}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    gateway.post("/v1/chat/completions", &chat("keyed")).await.expect(200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer sk-old"));
    std::fs::write(&file, "sk-new\n").unwrap();
    for _ in 0..100 {
        gateway.post("/v1/chat/completions", &chat("keyed")).await.expect(200);
        if upstream.last().header("authorization") == Some("Bearer sk-new") {
            return;
        }
        tokio::time::sleep(ms(50)).await;
    }
    panic!("{}", gateway.log());
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for bad in ["models: [", "modles: {}", "retry: {attempts: many}", ""] {
        gateway.overwrite(bad);
        gateway.signal("HUP");
        tokio::time::sleep(ms(300)).await;
        // An empty file is a good one: it asks for the defaults.
        if !bad.is_empty() {
            gateway.post("/v1/chat/completions", &chat("solo")).await.expect(200);
        }
    }
}

#[tokio::test]
async fn a_call_keeps_the_configuration_it_began_with() {
    let upstream = Upstream::start(Act::say("Hello, reloaded world").every(ms(100))).await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut asked = chat("solo");
    asked["stream"] = true.into();
    let mut stream = gateway.stream("/v1/chat/completions", &asked).await;
    gateway.rewrite(&fresh_route());
    gateway.signal("HUP");
    let (chunks, done) = stream.chunks().await;
    assert!(done && chunks.iter().all(|chunk| chunk["error"].is_null()));
}

#[test]
fn check_tells_every_mistake_at_once_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sluice.yaml");
    let text = "retry:\n  attempts: 0\ntimeouts:\n  total: soon\n";
    std::fs::write(&file, text).unwrap();
    let check = || {
        Command::new(crate::support::gateway::binary())
            .arg("check")
            .env("SLUICE_CONFIG", &file)
            .output()
            .unwrap()
    };
    let output = check();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("total") && said.contains('4') && said.contains('^'), "{said}");
    std::fs::write(&file, "retry:\n  attempts: 2\n").unwrap();
    assert!(check().status.success());
}

#[tokio::test]
async fn the_environment_wins_over_the_file() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).env("SLUICE__RETRY__ATTEMPTS", "1").start().await;
    gateway.post("/v1/chat/completions", &chat("solo")).await;
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn plain_yaml_configures_it() {
    let upstream = Upstream::answering().await;
    let text = format!(
        "providers:\n  local:\n    kind: openai\n    base_url: http://{}/v1\nmodels:\n  mine:\n    targets:\n      - {{provider: local, model: m}}\n",
        upstream.address
    );
    let gateway = Setup::yaml(&text).start().await;
    gateway.post("/v1/chat/completions", &chat("mine")).await.expect(200);
    assert_eq!(upstream.last().header("authorization"), None, "no key is configured, none is sent");
}

#[tokio::test]
async fn an_audit_file_that_was_moved_away_is_begun_anew_after_sighup() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("audit.jsonl"), folder.path().join("old.jsonl"));
    let settings = json!({"audit": {"file": file}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    std::fs::rename(&file, &old).unwrap();
    gateway.signal("HUP");
    assert!(soon(ms(5000), || file.exists()).await);
    gateway.post("/v1/chat/completions", &chat("solo")).await.expect(200);
    assert!(soon(ms(5000), || std::fs::metadata(&file).is_ok_and(|file| file.len() > 0)).await);
    assert_eq!(std::fs::metadata(&old).unwrap().len(), 0);
}
