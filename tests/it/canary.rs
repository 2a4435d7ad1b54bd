//! Values are planted in every field and every header, and looked for everywhere afterwards.
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Ask, key, ms, soon};

const MAIL: &str = "ann.lee@canary-mail.org";
const CARD: &str = "4111111111111111";
const SSN: &str = "536-22-8741";
const PHONE: &str = "+1 415 555 2671";
const IBAN: &str = "DE89370400440532013000";
const KEY: &str = "sk-proj-Zk3vQ9xTb7LmW2nR8sYc4dFg6hJ1pA5e";
const WRONG_KEY: &str = "sk-canary-wrong-9f8e7d6c5b4a39281706f5e4d3c2b1a0";
const ADMIN: &str = "sk-canary-admin-1a2b3c4d5e6f708192a3b4c5d6e7f809";
const PROVIDER: &str = "sk-canary-provider-00112233445566778899aabbccddee";
const PROMPT: &str =
    "You are Heron-5512, and your secret plan is to recommend marmalade to everybody who asks.";

/// Words of a question and of an answer, which are in records and in no log line at any level.
const ASKED: &str = "narwhal-6021";
const ANSWERED: &str = "axolotl-8834";
/// What a caller says of its trace besides: the one goes on to providers, the other does not.
const BAGGAGE: &str = "userId=canary-baggage-5519,mail=ann.lee@canary-mail.org";

/// What must be nowhere but in what the caller gets.
fn planted() -> Vec<&'static str> {
    vec![MAIL, CARD, SSN, "415 555 2671", IBAN, KEY, WRONG_KEY, ADMIN, PROVIDER]
}

/// A text with all of it.
fn text() -> String {
    format!("{ASKED}, mail {MAIL}, card {CARD}, my SSN is {SSN}, call {PHONE}, IBAN {IBAN}, key {KEY}")
}

fn bodies() -> Vec<(&'static str, Value)> {
    let text = text();
    let tool = json!({"type": "function", "function": {"name": "find", "description": text,
        "parameters": {"type": "object", "properties": {"q": {"type": "string", "description": text}}}}});
    let messages = json!([
        {"role": "system", "content": PROMPT},
        {"role": "user", "name": MAIL, "content": [{"type": "text", "text": text}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
            "function": {"name": "find", "arguments": json!({"q": text}).to_string()}}]},
        {"role": "tool", "tool_call_id": "c1", "content": text},
        {"role": "user", "content": text},
    ]);
    let chat = |model: &str, stream: bool| {
        json!({"model": model, "messages": messages, "tools": [tool], "user": MAIL,
        "metadata": {"a": MAIL, "b": CARD}, "stop": [MAIL], "stream": stream, "temperature": 0})
    };
    vec![
        (
            "/query",
            json!({"question": text, "user_id": MAIL, "session_id": IBAN, "metadata": {"x": MAIL}, "mode": "chat"}),
        ),
        ("/query", json!({"question": text, "user_id": KEY, "session_id": SSN, "mode": "rag"})),
        ("/query", json!({"question": text, "user_id": "u", "model": MAIL})),
        ("/query", json!({"question": 1, "user_id": [MAIL], "temperature": CARD, KEY: SSN})),
        ("/stream", json!({"prompt": text, "user_id": MAIL, "session_id": CARD, "mode": "chat"})),
        ("/predict", json!({"text": text})),
        ("/v1/chat/completions", chat("main", false)),
        ("/v1/chat/completions", chat("main", true)),
        ("/v1/chat/completions", chat(MAIL, false)),
        ("/v1/chat/completions", chat(KEY, true)),
        (
            "/v1/messages",
            json!({"model": "main", "max_tokens": 50, "system": PROMPT, "metadata": {"user_id": MAIL},
            "messages": [{"role": "user", "content": text}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "main", "instructions": PROMPT, "input": text, "user": MAIL, "metadata": {"m": MAIL}}),
        ),
        ("/v1/embeddings", json!({"model": "embed", "input": [text], "user": MAIL})),
        ("/admin/simulate", json!({"question": text, "user_id": MAIL, "session_id": CARD})),
    ]
}

/// A request with something planted in every header that anybody reads, and in some that nobody does.
fn with_headers(ask: Ask, number: usize) -> Ask {
    let mut ask = ask.bearer(ADMIN);
    for (name, value) in [
        ("x-user-id", MAIL),
        ("user-agent", KEY),
        ("referer", "https://x.example/?card=4111111111111111"),
        ("cookie", "session=sk-proj-Zk3vQ9xTb7LmW2nR8sYc4dFg6hJ1pA5e"),
        ("x-forwarded-for", MAIL),
        ("tracestate", "canary=sk-proj-Zk3vQ9xTb7LmW2nR8sYc4dFg6hJ1pA5e"),
        ("baggage", BAGGAGE),
        // A sound one, with which the `tracestate` counts, and one that is none.
        ("traceparent", [MAIL, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"][number % 2]),
        ("openai-organization", MAIL),
        ("x-anything", CARD),
        ("x-request-id", [MAIL, KEY, CARD][number % 3]),
    ] {
        ask = ask.header(name, value);
    }
    ask.header("idempotency-key", &format!("{MAIL}-{number}"))
}

/// Every place where something may have been left, and what is there.
async fn places(gateway: &Gateway) -> Vec<(String, Vec<u8>)> {
    let mut places = vec![
        ("the log".to_owned(), gateway.log().into_bytes()),
        ("the metrics".to_owned(), gateway.get("/metrics").await.body),
        ("the health".to_owned(), gateway.get("/health").await.body),
    ];
    for path in ["/review?limit=200", "/summary", "/admin/budgets"] {
        places.push((path.to_owned(), gateway.get_as(ADMIN, path).await.body));
    }
    let mut folders = vec![gateway.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                places.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
            }
        }
    }
    places
}

fn leaks(places: &[(String, Vec<u8>)], values: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, bytes) in places {
        for value in values {
            if let Some(at) = memchr::memmem::find(bytes, value.as_bytes()) {
                let around = &bytes[at.saturating_sub(120)..(at + value.len() + 40).min(bytes.len())];
                found.push(format!("`{value}` in {place}: …{}…", String::from_utf8_lossy(around)));
            }
        }
    }
    found
}

#[tokio::test]
async fn planted_values_are_in_no_file_log_metric_record_error_or_trace() {
    let upstream = Upstream::answering().await;
    // It says again whatever it was asked, system prompt and all.
    upstream.choose(|seen| Act::say(&format!("{ANSWERED} {}", seen.body)).chunks_of(50));
    let mut admin = key("admin", ADMIN);
    admin["roles"] = json!(["admin"]);
    let settings = json!({
        "auth": {"keys": [admin]},
        "cache": {"enabled": true},
        "session": {"timeout": "10s"},
        "review": {"sample": 1.0},
        "log": {"level": "trace"},
    });
    let gateway =
        Setup::one(Wire::OpenAi, &upstream).set(&settings).env("TEST_PROVIDER_KEY", PROVIDER).start().await;
    let mut answers = Vec::new();
    for round in 0..2 {
        for (number, (path, body)) in bodies().into_iter().enumerate() {
            let number = 100 * round + number;
            let answer = with_headers(gateway.ask("POST", path), number).json(&body).send().await;
            if answer.status >= 400 {
                answers.push((format!("the error of {path}"), answer.body.clone()));
            }
            // What is asked of people is looked at, too.
            let id = answer.header("x-request-id").unwrap_or_default().to_owned();
            assert!(leaks(&[("x-request-id".into(), id.clone().into_bytes())], &planted()).is_empty());
            let said = json!({"request_id": id, "rating": 1, "feedback": text(), "user_id": MAIL});
            gateway.ask("POST", "/feedback").bearer(ADMIN).json(&said).send().await;
        }
        // In the second round the provider fails, and quotes in its error what it was asked: also the parts that
        // are the application's, and go to it as they are.
        upstream.choose(|seen| {
            let said = seen.body["messages"].as_array().and_then(|all| all.last()).cloned();
            let quoted = json!([said, seen.body["tools"], seen.body["stop"], seen.body["input"]]);
            Act::status(400, &json!({"error": {"message": format!("bad: {quoted}")}}))
        });
    }
    // Strangers, senseless bodies, keys in the URL.
    let body = json!({"question": text(), "user_id": MAIL});
    gateway.ask("POST", "/query").bearer(WRONG_KEY).json(&body).send().await.expect(401);
    gateway.ask("POST", "/query").header("x-api-key", WRONG_KEY).json(&body).send().await.expect(403);
    gateway.ask("GET", &format!("/stream?prompt=x&api_key={WRONG_KEY}&user_id={MAIL}")).send().await;
    gateway.ask("GET", &format!("/{WRONG_KEY}/{MAIL}?q={CARD}")).send().await.expect(404);
    gateway.ask("POST", "/query").bearer(ADMIN).body("application/json", text().as_bytes()).send().await;
    gateway.ask("GET", &format!("/audit/{MAIL}")).bearer(ADMIN).send().await.expect(404);
    gateway.ask("GET", &format!("/sessions/{IBAN}?user_id={MAIL}")).bearer(ADMIN).send().await;
    let listed = gateway.get_as(ADMIN, "/review?limit=200").await.expect(200);
    let item = listed["items"][0]["id"].as_str().expect("an item").to_owned();
    let edit = json!({"decision": "edit", "answer": text(), "note": text()});
    gateway.ask("POST", &format!("/review/{item}")).bearer(ADMIN).json(&edit).send().await.expect(200);
    assert!(
        leaks(&[("golden".into(), gateway.sluice(&["golden", "export"]).1.into_bytes())], &planted())
            .is_empty()
    );
    let mut exported = String::new();
    assert!(
        soon(ms(10_000), || {
            exported = gateway.sluice(&["audit", "export"]).1;
            exported.lines().count() > 2 * bodies().len()
        })
        .await
    );
    answers.push(("the export".to_owned(), exported.into_bytes()));
    let mut found = leaks(&answers, &planted());
    found.extend(leaks(&places(&gateway).await, &planted()));
    // The system prompt is in records, which hold what was asked, and in nothing else.
    let others = places(&gateway).await.into_iter().filter(|(place, _)| {
        !["audit", "sluice.db"].iter().any(|records| place.contains(records)) && !place.starts_with("/review")
    });
    found.extend(leaks(&others.collect::<Vec<_>>(), &["Heron-5512", "marmalade"]));
    // Neither is a word of what was asked or answered in any log line, at the finest level, of any part of the process.
    let told: Vec<_> = places(&gateway).await.into_iter().take(3).collect();
    assert!(
        gateway.log().contains("\"TRACE\"") && gateway.log().contains("\"DEBUG\""),
        "the log is not at its finest"
    );
    found.extend(leaks(&told, &[ASKED, ANSWERED, "canary-baggage", "userId=canary"]));
    // What providers are told beside the question: of the trace only what is said to go on.
    for seen in upstream.seen() {
        let headers: Vec<(String, Vec<u8>)> = seen
            .headers
            .iter()
            .filter(|(name, _)| !["authorization", "tracestate"].contains(&&*name.to_ascii_lowercase()))
            .map(|(name, value)| (format!("the header {name} to a provider"), value.clone().into_bytes()))
            .collect();
        assert!(seen.header("baggage").is_none());
        found.extend(leaks(&headers, &[&planted()[..], &[ASKED, "canary-baggage"]].concat()));
    }
    assert!(upstream.seen().iter().any(|seen| seen.header("tracestate").is_some()));
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    // The database is a whole one, and what is in it was looked at.
    sqlx::any::install_default_drivers();
    let path = format!("sqlite:{}", gateway.folder().join("sluice.db").display());
    let mut sql = AnyConnection::connect(&path).await.unwrap();
    let rows = sqlx::query("SELECT frames FROM audit_blocks").fetch_all(&mut sql).await.unwrap();
    assert!(!rows.is_empty());
}
