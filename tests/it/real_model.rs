//! A model server that nobody here wrote: llama.cpp with SmolLM2, reached
//! both as an OpenAI and as an Anthropic provider.
use std::{path::Path, process::Stdio, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{Gateway, Setup, Upstream, Wire};

/// The folder of the repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Starts the model server; gives its address.
async fn serve() -> (Child, String) {
    let python = Path::new(ROOT).join(".cache/model/bin/python");
    assert!(python.exists(), "the model is not installed: run ./test once, it makes {}", python.display());
    let mut command = Command::new(python);
    command.arg(Path::new(ROOT).join("tests/python/serve_model.py"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wait = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(address) = line.strip_prefix("ready http://") {
                return address.trim_end_matches('/').to_owned();
            }
        }
        panic!("the model server ended before it was ready");
    };
    let address =
        tokio::time::timeout(Duration::from_secs(120), wait).await.expect("the model loads within 2 minutes");
    (child, address)
}

async fn gateway(wire: Wire, address: &str) -> Gateway {
    let unused = Upstream::answering().await;
    let provider = json!({"base_url": wire.base_url(address)});
    let timeouts = json!({"first_token": "120s", "idle": "60s", "total": "180s"});
    // One attempt is enough, although llama.cpp promises to keep a connection and closes it after a stream.
    let settings =
        json!({"providers": {"primary": provider}, "timeouts": timeouts, "retry": {"attempts": 1}});
    Setup::one(wire, &unused).set(&settings).start().await
}

#[tokio::test]
async fn it_answers_through_every_api_and_both_wires() {
    let (_server, address) = serve().await;
    for wire in Wire::BOTH {
        let gateway = gateway(wire, &address).await;
        let question = "What is the capital of France?";
        let asked = json!({"question": question, "user_id": "u", "mode": "chat", "max_tokens": 12});
        let body = gateway.post("/query", &asked).await.expect(200);
        assert!(!body["answer"].as_str().unwrap().is_empty(), "{body}");
        assert!(
            body["usage"]["input_tokens"].as_u64() > Some(0)
                && body["usage"]["output_tokens"].as_u64() > Some(0),
            "{body}"
        );

        let mut messages = gateway.stream("/stream", &asked).await.messages().await;
        assert_eq!(messages.pop().as_deref(), Some("[DONE]"));
        assert!(!messages.concat().is_empty());

        let mut chat =
            json!({"model": "main", "max_tokens": 12, "messages": [{"role": "user", "content": question}]});
        let body = gateway.post("/v1/chat/completions", &chat).await.expect(200);
        assert!(!body["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{body}");
        assert!(body["usage"]["completion_tokens"].as_u64() > Some(0), "{body}");
        let body = gateway.post("/v1/messages", &chat).await.expect(200);
        assert!(!body["content"][0]["text"].as_str().unwrap().is_empty(), "{body}");

        chat["stream"] = true.into();
        let frames = gateway.stream("/v1/messages", &chat).await.rest().await;
        assert_eq!(frames.last().unwrap().event, "message_stop");
        chat["stream_options"] = json!({"include_usage": true});
        let (chunks, done) = gateway.stream("/v1/chat/completions", &chat).await.chunks().await;
        assert!(
            done && chunks.last().unwrap()["usage"]["completion_tokens"].as_u64() > Some(0),
            "{chunks:?}"
        );
    }
}
