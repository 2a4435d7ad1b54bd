//! The unmodified SDKs of OpenAI and Anthropic as clients, against both wires.
use std::path::Path;

use serde_json::json;
use tokio::process::Command;

use crate::support::{Act, Setup, Upstream, Wire, key};

/// The folder of the repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

async fn run(script: &str, wire: Wire) {
    let python = Path::new(ROOT).join(".cache/venv/bin/python");
    assert!(python.exists(), "the SDKs are not installed: run ./test once, it makes {}", python.display());
    let upstream = Upstream::answering().await;
    let tools = Upstream::start(Act::call_tool("weather", &json!({"city": "Köln"})).chunks_of(3)).await;
    let busy = Upstream::start(Act::busy(Some(17))).await;
    let refusing = Upstream::start(Act::status(
        400,
        &json!({"type": "error", "error": {"type": "invalid_request_error", "message": "bad top_k", "param": "top_k"}}),
    ))
    .await;
    let provider =
        |upstream: &Upstream| json!({"kind": wire.kind(), "base_url": wire.base_url(upstream.address)});
    let route = |name: &str| json!({"targets": [{"provider": name, "model": "model-a"}]});
    let settings = json!({
        "auth": {"keys": [key("sdk", "sk-sdk")]},
        "providers": {"tools": provider(&tools), "busy": provider(&busy), "refusing": provider(&refusing)},
        "models": {"tools": route("tools"), "busy": route("busy"), "refusing": route("refusing")},
    });
    let gateway = Setup::one(wire, &upstream).set(&settings).start().await;
    let script = Path::new(ROOT).join("tests/python").join(script);
    let mut command = Command::new(python);
    command.arg(script).args([&gateway.url(), "sk-sdk", wire.kind()]).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
async fn openais_sdk_in_front_of_openais_wire() {
    run("sdk_openai.py", Wire::OpenAi).await;
}

#[tokio::test]
async fn openais_sdk_in_front_of_anthropics_wire() {
    run("sdk_openai.py", Wire::Anthropic).await;
}

#[tokio::test]
async fn anthropics_sdk_in_front_of_openais_wire() {
    run("sdk_anthropic.py", Wire::OpenAi).await;
}

#[tokio::test]
async fn anthropics_sdk_in_front_of_anthropics_wire() {
    run("sdk_anthropic.py", Wire::Anthropic).await;
}
