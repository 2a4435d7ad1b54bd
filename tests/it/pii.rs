//! Personal data and secrets: what the model sees, what the caller gets back, and where they are found afterwards.
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire};

const CHAT: &str = "/v1/chat/completions";
const MAIL: &str = "ann.lee@canary-mail.org";
const CARD: &str = "4111 1111 1111 1111";
const KEY: &str = "sk-proj-Zk3vQ9xTb7LmW2nR8sYc4dFg6hJ1pA5e";

/// A provider that says what it was asked last.
async fn echo() -> Upstream {
    let upstream = Upstream::answering().await;
    upstream.choose(|seen| Act::say(&last_words(&seen.body)).chunks_of(3));
    upstream
}

fn last_words(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    match &last["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn chat(text: &str, stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": text}], "stream": stream, "temperature": 0})
}

async fn streamed(gateway: &Gateway, body: &Value) -> String {
    let (chunks, done) = gateway.stream(CHAT, body).await.chunks().await;
    assert!(done);
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn the_model_sees_placeholders_and_the_caller_his_own_values() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let text = format!("Write to {MAIL} and to bob@example.org, then to {MAIL} again; pay with {CARD}.");
    let seen = "Write to [EMAIL_1] and to [EMAIL_2], then to [EMAIL_1] again; pay with [CARD_1].";
    let body = gateway.post(CHAT, &chat(&text, false)).await.expect(200);
    assert_eq!(body["choices"][0]["message"]["content"], *text);
    assert_eq!(last_words(&upstream.last().body), seen);
    assert_eq!(streamed(&gateway, &chat(&text, true)).await, text);
    let body = gateway
        .post("/query", &json!({"question": text, "user_id": "u", "mode": "chat", "use_cache": false}))
        .await
        .expect(200);
    assert_eq!(body["answer"], *text);
    let messages = json!({"model": "main", "max_tokens": 50, "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]});
    let body = gateway.post("/v1/messages", &messages).await.expect(200);
    assert_eq!(body["content"][0]["text"], *text);
    let body = gateway.post("/v1/responses", &json!({"model": "main", "input": text})).await.expect(200);
    assert_eq!(body["output"][0]["content"][0]["text"], *text);
    for asked in upstream.seen() {
        assert_eq!(last_words(&asked.body), seen, "{}", asked.body);
    }
    assert!(
        gateway.metric("sluice_guard_findings_total", &[("type", "email"), ("action", "mask")]).await >= 15.0
    );
}

#[tokio::test]
async fn tool_arguments_come_back_as_good_json() {
    let upstream = Upstream::answering().await;
    let secret = r"Pass\w0rd!x";
    let asked = format!("my password is {secret} and my mail {MAIL}");
    for chunk in [1, 2, 5, 64] {
        upstream.choose(move |_| {
            Act::call_tool("save", &json!({"mail": "[EMAIL_1]", "word": "[SECRET_1]"})).chunks_of(chunk)
        });
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let body = gateway.post(CHAT, &chat(&asked, false)).await.expect(200);
        let arguments =
            body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(arguments, json!({"mail": MAIL, "word": secret}));
        let (chunks, _) = gateway.stream(CHAT, &chat(&asked, true)).await.chunks().await;
        let pieces = chunks.iter().filter_map(|chunk| {
            chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()
        });
        let arguments: Value = serde_json::from_str(&pieces.collect::<String>()).unwrap();
        assert_eq!(arguments, json!({"mail": MAIL, "word": secret}), "{chunk} characters a chunk");
    }
}

#[tokio::test]
async fn what_tools_and_earlier_turns_said_is_masked_and_the_system_prompt_is_not() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let body = json!({"model": "main", "user": MAIL, "metadata": {"phone": "4155550123"}, "messages": [
        {"role": "system", "content": "Contact desk@example.com for help."},
        {"role": "user", "content": [{"type": "text", "text": format!("I am {MAIL}")}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": format!("{{\"mail\":\"{MAIL}\",\"card\":4111111111111111}}")}}]},
        {"role": "tool", "tool_call_id": "c1", "content": format!("found {MAIL}")},
        {"role": "user", "content": "and?"},
    ]});
    gateway.post(CHAT, &body).await.expect(200);
    let seen = upstream.last().body.to_string();
    for hidden in [MAIL, "4111111111111111", "4155550123"] {
        assert!(!seen.contains(hidden), "{seen}");
    }
    assert!(seen.contains("desk@example.com") && seen.contains("found [EMAIL_1]"), "{seen}");
    let arguments = &upstream.last().body["messages"][2]["tool_calls"][0]["function"]["arguments"];
    let arguments: Value = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"mail": "[EMAIL_1]", "card": "[CARD_1]"}));
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"pii": {"system": true}})).start().await;
    gateway.post(CHAT, &body).await.expect(200);
    assert!(!upstream.last().body.to_string().contains("desk@example.com"));
}

#[tokio::test]
async fn a_placeholder_that_the_caller_wrote_himself_stays_what_it_is() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let text = format!("The template has [EMAIL_1] in it; send it to {MAIL}.");
    assert_eq!(streamed(&gateway, &chat(&text, true)).await, text);
    assert_eq!(last_words(&upstream.last().body), "The template has [EMAIL_1] in it; send it to [EMAIL_2].");
}

#[tokio::test]
async fn whatever_else_a_provider_is_told_is_masked() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let schema = json!({"type": "object", "properties": {"to": {"type": "string", "enum": [MAIL], "description": format!("like {MAIL}")}}});
    let body = json!({"model": "main", "stop": [MAIL, "\n\n"], "user": MAIL, "metadata": {"about": MAIL}, "prompt_cache_key": MAIL,
        "tools": [{"type": "function", "function": {"name": "send", "description": format!("Sends as {MAIL}"), "parameters": schema}},
            {"type": "custom", "custom": {"name": "note", "description": format!("As {MAIL} writes")}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "messages": [{"role": "user", "name": "ann", "content": "hello"}]});
    gateway.post(CHAT, &body).await;
    let seen = upstream.seen().first().unwrap().body.clone();
    assert!(!seen.to_string().contains(MAIL), "{seen}");
    assert_eq!(seen["stop"], json!(["[EMAIL_1]", "\n\n"]));
    let user = seen["user"].as_str().unwrap();
    assert!(user.starts_with("[EMAIL:") && user.len() == "[EMAIL:3f9a12c4]".len(), "{user}");
    let parameters = &seen["tools"][0]["function"]["parameters"]["properties"]["to"];
    assert_eq!((&parameters["enum"], &parameters["type"]), (&json!(["[EMAIL_1]"]), &json!("string")));
}

#[tokio::test]
async fn a_file_that_is_text_is_masked_though_it_comes_in_base64() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let csv = format!("name,mail\nAnn,{MAIL}\n");
    for (said, masked) in [
        (csv.as_bytes(), "name,mail\nAnn,[EMAIL_1]\n".as_bytes()),
        (b"no one in here", b"no one in here"),
        (b"%PDF-1.7 jane@example.com", b"%PDF-1.7 jane@example.com"),
    ] {
        let file = json!({"filename": "people.csv", "file_data": format!("data:text/csv;base64,{}", STANDARD.encode(said))});
        let question = json!({"type": "text", "text": "Who is in it?"});
        let body = json!({"model": "main", "messages": [{"role": "user", "content": [{"type": "file", "file": file}, question]}]});
        gateway.post(CHAT, &body).await.expect(200);
        let seen = upstream.last().body["messages"][0]["content"][0]["file"]["file_data"].clone();
        let data = seen.as_str().unwrap().strip_prefix("data:text/csv;base64,").unwrap();
        assert_eq!(STANDARD.decode(data).unwrap(), masked);
    }
}

#[tokio::test]
async fn what_documents_write_is_never_taken_for_somebodys_value() {
    let upstream = echo().await;
    let documents = tempfile::tempdir().unwrap();
    let text = "# Letters\n\nThe template for letters begins with Dear [EMAIL_1] and EMAIL\\_2, and ends with regards.\n";
    std::fs::write(documents.path().join("letters.md"), text).unwrap();
    let settings = json!({"knowledge": {"path": documents.path()}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let question = format!("How does the template for letters begin? I am {MAIL}.");
    let body = json!({"question": question, "user_id": "u", "mode": "rag", "use_cache": false});
    let answer = gateway.post("/query", &body).await.expect(200)["answer"].as_str().unwrap().to_owned();
    // The model repeats all that it was given, the passage and the question.
    let seen = last_words(&upstream.last().body);
    assert!(seen.contains("Dear [EMAIL_1] and EMAIL\\_2") && seen.contains("I am [EMAIL_3]"), "{seen}");
    assert!(
        answer.contains("Dear [EMAIL_1] and EMAIL\\_2") && answer.contains(&format!("I am {MAIL}")),
        "{answer}"
    );
}

#[tokio::test]
async fn in_a_conversation_a_value_keeps_its_placeholder() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let ask = async |text: &str, session: &str| {
        let body = json!({"question": text, "user_id": "u", "session_id": session, "mode": "chat", "use_cache": false});
        gateway.post("/query", &body).await.expect(200)["answer"].as_str().unwrap().to_owned()
    };
    let all = |body: &Value| {
        let messages = body["messages"].as_array().unwrap().clone();
        messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&format!("I am {MAIL}"), "s").await, format!("I am {MAIL}"));
    let first = last_words(&upstream.last().body);
    assert_eq!(ask("And bob@example.org is a friend", "s").await, "And bob@example.org is a friend");
    // The model answers with what stands in an earlier turn.
    upstream.choose(|seen| Act::say(seen.body["messages"][0]["content"].as_str().unwrap_or_default()));
    assert_eq!(ask(&format!("Who am I, if not {MAIL}?"), "s").await, format!("I am {MAIL}"));
    let seen = all(&upstream.last().body);
    assert_eq!((&seen[0], &seen[1]), (&first, &first));
    assert_eq!(seen[4], format!("Who am I, if not {}?", &first[5..]));
    assert!(!seen.concat().contains('@'), "{seen:?}");
    // Shown masked; another conversation has other numbers.
    let shown = gateway.get("/sessions/s?user_id=u").await.text();
    assert!(shown.contains(&first) && !shown.contains('@'), "{shown}");
    ask(&format!("I am {MAIL}"), "s2").await;
    assert_ne!(last_words(&upstream.last().body), first);
}

#[tokio::test]
async fn people_whose_names_are_masked_are_told_apart() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for user in [MAIL, "bob@example.org", MAIL] {
        let body = json!({"question": "hi", "user_id": user, "session_id": user, "mode": "chat", "use_cache": false});
        let ask = gateway.ask("POST", "/query").header("x-request-id", user).json(&body);
        let reply = ask.send().await;
        assert_ne!(reply.header("x-request-id"), Some(user), "no name of somebody is the id of a request");
        reply.expect(200);
    }
    let body = json!({"model": KEY, "messages": [{"role": "user", "content": "hi"}]});
    gateway.post(CHAT, &body).await.expect(404);
    let records = gateway.audit(4).await;
    let users: Vec<&str> = records[..3].iter().map(|record| record["user_id"].as_str().unwrap()).collect();
    assert!(users[0].starts_with("[EMAIL:") && users[0].len() == "[EMAIL:3f9a12c4]".len(), "{users:?}");
    assert_eq!((users[0] == users[2], users[0] == users[1]), (true, false), "{users:?}");
    assert_eq!(records[0]["session_id"], users[0]);
    assert!(!gateway.log().contains('@') && !gateway.log().contains(KEY), "{}", gateway.log());
}

#[tokio::test]
async fn what_the_settings_block_is_refused_and_what_they_log_goes_on() {
    let upstream = echo().await;
    let settings = json!({"pii": {"input": {"card": "block", "email": "log"},
        "custom": [{"name": "staff", "pattern": "EMP-[0-9]{6}"}]}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let body = gateway.post(CHAT, &chat(&format!("charge {CARD}"), false)).await.expect(400);
    assert!(!body.to_string().contains("4111"), "{body}");
    assert_eq!(upstream.asked(), 0);
    let text = format!("mail {MAIL} about EMP-123456");
    assert_eq!(streamed(&gateway, &chat(&text, true)).await, text);
    assert_eq!(last_words(&upstream.last().body), format!("mail {MAIL} about [STAFF_1]"));
}

#[tokio::test]
async fn secrets_of_others_do_not_leave_in_an_answer() {
    for chunk in [1, 4, 200] {
        let upstream = Upstream::start(Act::say(&format!("Use {KEY} for it.")).chunks_of(chunk)).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        assert_eq!(streamed(&gateway, &chat("Which key?", true)).await, "Use sk-[SECRET] for it.");
        let body = gateway.post(CHAT, &chat("Which key?", false)).await.expect(200);
        assert_eq!(body["choices"][0]["message"]["content"], "Use sk-[SECRET] for it.");
    }
}

#[tokio::test]
async fn callers_share_a_cached_answer_but_no_value() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"cache": {"enabled": true}})).start().await;
    for mail in [MAIL, "carol@example.org", "dave@example.net"] {
        for stream in [false, true] {
            let text = format!("Greet {mail}!");
            let said = if stream {
                streamed(&gateway, &chat(&text, true)).await
            } else {
                let body = gateway.post(CHAT, &chat(&text, false)).await.expect(200);
                body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
            };
            assert_eq!(said, text);
        }
    }
    assert_eq!(upstream.asked(), 1, "the key of the cache has placeholders");
}

#[tokio::test]
async fn planted_values_are_found_nowhere() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream)
        .set(&json!({"cache": {"enabled": true}, "log": {"level": "debug"}}))
        .start()
        .await;
    let text = format!("mail {MAIL}, card {CARD}, key {KEY}");
    let planted = [MAIL, "4111 1111", KEY];
    gateway.post(CHAT, &chat(&text, false)).await.expect(200);
    streamed(&gateway, &chat(&text, true)).await;
    gateway.post("/query", &json!({"question": text, "user_id": "u"})).await;
    gateway.post("/v1/embeddings", &json!({"model": "embed", "input": [text]})).await;
    gateway.post("/predict", &json!({"text": text})).await.expect(200);
    // Errors of the gateway and of the provider, too.
    gateway.post(CHAT, &json!({"model": "nobody", "messages": [{"role": "user", "content": text}]})).await;
    upstream.choose(|seen| {
        Act::status(400, &json!({"error": {"message": format!("bad: {}", last_words(&seen.body))}}))
    });
    gateway.post(CHAT, &chat(&format!("{text}!"), false)).await;
    gateway.audit(6).await;
    let metrics = gateway.get("/metrics").await.text();
    let seen: String = upstream.seen().iter().map(|seen| seen.body.to_string()).collect();
    for value in planted {
        assert!(!gateway.log().contains(value), "in the log: {value}");
        assert!(!metrics.contains(value), "in the metrics: {value}");
        assert!(!seen.contains(value), "at the provider: {value}");
        for file in std::fs::read_dir(gateway.folder()).unwrap().flatten() {
            let bytes = std::fs::read(file.path()).unwrap_or_default();
            let held = bytes.windows(value.len()).any(|window| window == value.as_bytes());
            assert!(!held, "in {}: {value}", file.path().display());
        }
    }
}

#[tokio::test]
async fn a_value_across_two_parts_is_masked_and_given_back() {
    let upstream = echo().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let (name, host) = MAIL.split_at(9);
    let parts = json!([
        {"type": "text", "text": format!("Write to {name}")},
        {"type": "text", "text": format!("{host}, please")},
    ]);
    let body = json!({"model": "main", "messages": [{"role": "user", "content": parts}]});
    let answer = gateway.post(CHAT, &body).await.expect(200);
    assert_eq!(last_words(&upstream.last().body), "Write to [EMAIL_1], please");
    assert_eq!(answer["choices"][0]["message"]["content"], format!("Write to {MAIL}, please"));
}

/// A provider that lends any model by its name would be asked, and records would have it.
#[tokio::test]
async fn a_name_of_a_model_that_holds_something_personal_is_no_model() {
    let upstream = Upstream::answering().await;
    let lent = json!({"providers": {"primary": {"models": ["*"]}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&lent).start().await;
    let ask = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    gateway.post(CHAT, &ask("primary/any-model")).await.expect(200);
    for model in [MAIL.to_owned(), format!("primary/{MAIL}")] {
        let refused = gateway.post(CHAT, &ask(&model)).await.expect(404);
        assert!(!refused.to_string().contains(MAIL), "{refused}");
    }
    assert_eq!(upstream.asked(), 1);
    assert!(!gateway.log().contains(MAIL));
}

/// A stream of so many choices, whose pieces come in turns.
fn in_turns(texts: &[&str], piece: usize) -> Act {
    let mut left: Vec<Vec<char>> = texts.iter().map(|text| text.chars().collect()).collect();
    let mut body = String::new();
    while left.iter().any(|text| !text.is_empty()) {
        for (choice, text) in left.iter_mut().enumerate().filter(|(_, text)| !text.is_empty()) {
            let text: String = text.drain(..piece.min(text.len())).collect();
            let choices = json!([{"index": choice, "delta": {"content": text}, "finish_reason": null}]);
            body += &format!(
                "data: {}\n\n",
                json!({"id": "c", "object": "chat.completion.chunk", "choices": choices})
            );
        }
    }
    for choice in 0..texts.len() {
        let choices = json!([{"index": choice, "delta": {}, "finish_reason": "stop"}]);
        body += &format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "choices": choices})
        );
    }
    Act::page("text/event-stream", &format!("{body}data: [DONE]\n\n"))
}

#[tokio::test]
async fn records_of_several_choices_hold_no_value_however_their_pieces_come() {
    const SECRETS: [&str; 3] =
        ["zara.quill@leaktest.example", "4539 1488 0343 6467", "DE89370400440532013000"];
    let said = format!("Mail {}, card {}, account {}.", SECRETS[0], SECRETS[1], SECRETS[2]);
    for piece in [1, 3, 7] {
        let upstream = Upstream::start(in_turns(&[&said, "Another answer.", &said], piece)).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let asked =
            json!({"model": "main", "n": 3, "stream": true, "messages": [{"role": "user", "content": said}]});
        let (chunks, done) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
        assert!(done && !chunks.is_empty());
        let record = gateway.audit(1).await[0].to_string();
        for secret in SECRETS {
            assert!(!record.contains(secret) && !record.contains(&secret[..9]), "{piece} a piece: {record}");
        }
        assert!(record.contains("Another answer."), "each choice can be read: {record}");
    }
}
