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

/// Starts the model server; gives its address. It writes all that it reads and says into `log`, where there is one.
async fn serve(log: Option<std::fs::File>) -> (Child, String) {
    let python = Path::new(ROOT).join(".cache/model/bin/python");
    assert!(python.exists(), "the model is not installed: run ./test once, it makes {}", python.display());
    let mut command = Command::new(python);
    command.arg(Path::new(ROOT).join("tests/python/serve_model.py"));
    command.args(log.is_some().then_some("verbose"));
    let errors = log.map_or_else(Stdio::null, Stdio::from);
    let mut child = command.stdout(Stdio::piped()).stderr(errors).kill_on_drop(true).spawn().unwrap();
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
    let (_server, address) = serve(None).await;
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

/// Conversations with values that nobody else may see; `SLUICE_MODEL_CONVERSATIONS=100` for many.
#[tokio::test]
async fn callers_get_their_values_back_and_the_model_never_has_them() {
    let count: usize =
        std::env::var("SLUICE_MODEL_CONVERSATIONS").map_or(3, |count| count.parse().expect("a number"));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("model.log");
    let (_server, address) = serve(Some(std::fs::File::create(&log).unwrap())).await;
    let gateway = gateway(Wire::OpenAi, &address).await;
    let (mut repeated, mut planted) = (0, Vec::new());
    for number in 0..count {
        let mail = format!("kim.q{number:03}@canary-{}.org", number * 7919 % 9973);
        let phone = format!("+49 30 {:07}", 4_000_000 + number * 7919);
        let key = format!(
            "ghp_{:016x}{:016X}zQ9w",
            0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1),
            !number
        );
        let value = [&mail, &phone, &key][number % 3].clone();
        let sentence = ["Please write to", "You can call", "The key is"][number % 3];
        // The values of an earlier turn, and of this one.
        let asked = format!("Repeat word for word: {sentence} {value} today.");
        let messages = json!([
            {"role": "user", "content": format!("Repeat word for word: Kim has {mail} and {phone}.")},
            {"role": "assistant", "content": format!("Kim has {mail} and {phone}.")},
            {"role": "user", "content": asked},
        ]);
        let body = json!({"model": "main", "max_tokens": 32, "temperature": 0, "messages": messages, "stream": number % 2 == 0});
        let answer: String = if number % 2 == 0 {
            let (chunks, done) = gateway.stream("/v1/chat/completions", &body).await.chunks().await;
            assert!(done, "conversation {number}");
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
        } else {
            let body = gateway.post("/v1/chat/completions", &body).await.expect(200);
            body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        for placeholder in ["[EMAIL_1", "[PHONE_1", "[SECRET_1"] {
            assert!(!answer.contains(placeholder), "conversation {number}: {answer}");
        }
        repeated += usize::from(answer.contains(&value));
        planted.extend([mail, phone, key]);
    }
    println!("{repeated} of {count} answers had the value in its place");
    assert!(repeated * 10 >= count * 8, "{repeated} of {count}");
    let log = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    // What the model was asked is in its log.
    assert!(log.contains("[EMAIL_1]") && log.contains("[PHONE_1]"), "{} bytes", log.len());
    for value in &planted {
        assert!(!log.contains(value.as_str()), "in the model's log: {value}");
    }
    println!("none of {} values in {} bytes of the model's log", planted.len(), log.len());
}
