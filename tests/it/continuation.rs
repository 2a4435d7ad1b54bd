//! A provider that dies in the middle of a stream: another one goes on.
//! `SLUICE_EVERY_BYTE=1` tries every byte, not a sample of them.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Frame};

const TEXT: &str =
    "Whole words, twice: whole words, twice. Grüße 🌦 here\n\nand  there, and whole words, to the end.";

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

/// `main` is answered by `primary` and, where it dies, by `model` of `spare`, a provider of this kind.
fn setup(primary: (Wire, &Upstream), spare: (&str, &Upstream), model: &str) -> Setup {
    let wire = if spare.0 == "anthropic" { Wire::Anthropic } else { Wire::OpenAi };
    Setup::two(primary.1, wire, spare.1).set(&json!({
        "providers": {
            "primary": {"kind": primary.0.kind(), "base_url": primary.0.base_url(primary.1.address)},
            "spare": {"kind": spare.0},
        },
        "models": {"main": {"fallback": [format!("spare/{model}")]}},
        "retry": {"attempts": 1},
        "breaker": {"failures": 10_000, "error_rate": 1.0, "min_requests": 1_000_000},
    }))
}

/// The text of a chat's stream, whether it ended well, and its comments.
async fn read(gateway: &Gateway, asked: &Value) -> (String, bool, Vec<String>) {
    let mut stream = gateway.stream("/v1/chat/completions", asked).await;
    let (mut text, mut done, mut comments) = (String::new(), false, Vec::new());
    while let Some(Frame { data, comment, .. }) = stream.next().await {
        comments.extend(comment);
        match data.as_deref() {
            Some("[DONE]") => done = true,
            Some(data) => {
                let chunk: Value = serde_json::from_str(data).unwrap();
                text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            }
            None => {}
        }
    }
    (text, done, comments)
}

/// The primary dies at one byte after the other: the client hears the whole text once.
async fn at_every_byte(wire: Wire, kind: &str, model: &str) {
    let primary = Upstream::answering().await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let gateway = setup((wire, &primary), (kind, &spare), model).start().await;
    let say = Act::say(TEXT);
    primary.set_default(say.clone());
    assert_eq!(read(&gateway, &chat(true)).await, (TEXT.to_owned(), true, vec![]), "undisturbed");
    let length = say.length(&primary.last());
    let step = if std::env::var_os("SLUICE_EVERY_BYTE").is_some() { 1 } else { 41 };
    let mut continued = 0;
    for byte in (0..length).step_by(step) {
        primary.set_default(say.clone().cut_at(byte));
        let asked = spare.asked();
        let (text, done, comments) = read(&gateway, &chat(true)).await;
        assert_eq!((text.as_str(), done), (TEXT, true), "cut at byte {byte} of {length}");
        let begun = comments.iter().filter(|comment| **comment == format!("continued by {model}")).count();
        assert!(begun <= 1 && spare.asked() <= asked + 1, "cut at byte {byte}: {comments:?}");
        continued += begun;
    }
    assert!(continued > length / step / 2, "{continued} of {length} bytes were in the text");
    let counted = gateway.metric("sluice_continuations_total", &[("route", "main"), ("result", "continued")]);
    assert!(counted.await as usize >= continued);
}

#[tokio::test]
async fn from_openai_to_a_claude_that_takes_a_beginning() {
    at_every_byte(Wire::OpenAi, "anthropic", "claude-sonnet-4-5").await;
}

#[tokio::test]
async fn from_openai_to_a_claude_that_has_to_be_told() {
    at_every_byte(Wire::OpenAi, "anthropic", "claude-opus-4-6").await;
}

#[tokio::test]
async fn from_anthropic_to_openai() {
    at_every_byte(Wire::Anthropic, "openai", "gpt-4o").await;
}

#[tokio::test]
async fn from_anthropic_to_a_server_that_takes_a_beginning() {
    at_every_byte(Wire::Anthropic, "vllm", "qwen3").await;
}

#[tokio::test]
async fn every_client_hears_the_whole_text() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(9)).await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let gateway = setup((Wire::OpenAi, &primary), ("openai", &spare), "gpt-4o").start().await;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let ask = json!({"model": "main", "max_tokens": 64, "messages": messages, "stream": true});
    let frames = gateway.stream("/v1/messages", &ask).await.rest().await;
    let text: String =
        frames.iter().filter_map(|f| f.json()["delta"]["text"].as_str().map(String::from)).collect();
    assert_eq!(text, TEXT);
    assert_eq!(frames.last().unwrap().event, "message_stop");
    let ask = json!({"model": "main", "input": "Hi", "stream": true});
    let frames = gateway.stream("/v1/responses", &ask).await.rest().await;
    let last = frames.last().unwrap().json();
    assert_eq!(
        (&last["type"], &last["response"]["output"][0]["content"][0]["text"]),
        (&json!("response.completed"), &json!(TEXT))
    );
    let mut stream = gateway.stream("/stream?prompt=Hi&mode=chat", &json!({})).await;
    let mut frames = Vec::new();
    while let Some(frame) = stream.next().await {
        frames.push(frame);
    }
    assert!(frames.iter().any(|frame| frame.comment.as_deref() == Some("continued by gpt-4o")));
    let text =
        frames.iter().filter(|f| f.event.is_empty()).filter_map(|f| f.data.clone()).collect::<String>();
    assert_eq!(text, format!("{TEXT}[DONE]"));
}

#[tokio::test]
async fn both_attempts_are_paid_for_and_in_the_record() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(12)).await;
    let spare = Upstream::start(Act::say(TEXT).going_on().usage(Some((100, 10)))).await;
    let gateway = setup((Wire::OpenAi, &primary), ("openai", &spare), "gpt-4o").start().await;
    let asked = json!({"question": "Hi", "user_id": "u", "mode": "chat"});
    let frames = gateway.stream("/stream", &asked).await.rest().await;
    let usage = frames.iter().find(|frame| frame.event == "usage").unwrap().json();
    let record = &gateway.audit(1).await[0];
    let attempts = record["attempts"].as_array().unwrap();
    assert_eq!((&record["continued"], attempts.len()), (&json!(1), 2), "{record}");
    assert_eq!((&attempts[0]["error"], &attempts[1]["model"]), (&json!("upstream_broken"), &json!("gpt-4o")));
    let input = usage["usage"]["input_tokens"].as_u64().unwrap();
    let output = usage["usage"]["output_tokens"].as_u64().unwrap();
    assert!(input > 100 && output > 10, "the first attempt's tokens are in it: {usage}");
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&json!(input), &json!(output)));
    let costs: Vec<f64> = attempts.iter().map(|attempt| attempt["cost_usd"].as_f64().unwrap()).collect();
    assert!((costs[1] - (100.0 * 2.5 + 10.0 * 10.0) / 1e6).abs() < 1e-12, "{costs:?}");
    assert!((record["cost_usd"].as_f64().unwrap() - costs[0] - costs[1]).abs() < 1e-12 && costs[0] > 0.0);
    assert!(record["usage_estimated"] == true);
    let mut asked = chat(true);
    asked["stream_options"] = json!({"include_usage": true});
    let (chunks, done) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
    assert!(done && chunks.last().unwrap()["usage"]["prompt_tokens"].as_u64().unwrap() > 100);
}

#[tokio::test]
async fn the_length_asked_for_holds_for_both_together() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(12)).await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let gateway = setup((Wire::OpenAi, &primary), ("vllm", &spare), "qwen3").start().await;
    let mut asked = chat(true);
    asked["max_tokens"] = 100.into();
    assert!(read(&gateway, &asked).await.1);
    let most = spare.last().body["max_tokens"].as_u64().unwrap();
    assert!((60..100).contains(&most), "{most}");
    asked["max_tokens"] = 3.into();
    let (chunks, done) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
    let ended = chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "length");
    assert!(done && ended && spare.asked() == 1, "all of its length is used up: {chunks:?}");
}

#[tokio::test]
async fn what_cannot_be_gone_on_with_ends_with_the_error() {
    let call =
        Act::call_tool("weather", &json!({"city": "Reykjavík", "unit": "celsius"})).chunks_of(3).cut_after(6);
    let object = json!({"response_format": {"type": "json_object"}});
    let off = json!({"models": {"main": {"continue": false}}});
    let never = json!({"retry": {"continuations": 0}});
    for (act, ask, settings) in [
        (call, json!({}), json!({})),
        (Act::say(TEXT).cut_after(9), json!({"n": 2}), json!({})),
        (Act::say("{\"a\": 123456789}").cut_after(4), object, json!({})),
        (Act::say(TEXT).cut_after(9), json!({}), off),
        (Act::say(TEXT).cut_after(9), json!({}), never),
    ] {
        let primary = Upstream::start(act).await;
        let spare = Upstream::start(Act::say(TEXT).going_on()).await;
        let setup = setup((Wire::OpenAi, &primary), ("openai", &spare), "gpt-4o");
        let gateway = setup.set(&settings).start().await;
        let mut asked = chat(true);
        asked.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
        let (chunks, done) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
        assert!(!done && !chunks.last().unwrap()["error"].is_null(), "{ask} {settings}: {chunks:?}");
        assert_eq!((primary.asked(), spare.asked()), (1, 0), "{ask} {settings}");
    }
}

/// `main` is answered by three targets in turn.
async fn three(primary: &Upstream, second: &Upstream, third: &Upstream) -> Gateway {
    let third = json!({"kind": "openai", "base_url": Wire::OpenAi.base_url(third.address)});
    setup((Wire::OpenAi, primary), ("openai", second), "gpt-4o")
        .set(&json!({
            "providers": {"third": third},
            "models": {"main": {"fallback": ["spare/gpt-4o", "third/gpt-4.1"]}},
        }))
        .start()
        .await
}

#[tokio::test]
async fn one_that_does_not_follow_on_is_not_heard() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(12)).await;
    let astray = Upstream::start(Act::say("I am sorry for the interruption! As I said,")).await;
    let good = Upstream::start(Act::say(TEXT).going_on()).await;
    let gateway = three(&primary, &astray, &good).await;
    let (text, done, comments) = read(&gateway, &chat(true)).await;
    assert_eq!((text.as_str(), done), (TEXT, true));
    assert_eq!(comments, ["continued by gpt-4.1"]);
    assert_eq!((astray.asked(), good.asked()), (1, 1));
    let record = &gateway.audit(1).await[0];
    let costs: Vec<_> =
        record["attempts"].as_array().unwrap().iter().map(|a| a["cost_usd"].as_f64()).collect();
    assert!(
        costs.iter().all(|cost| cost.is_some_and(|cost| cost > 0.0)),
        "it was paid all the same: {record}"
    );

    good.set_default(Act::say("Nor do I follow on. Not at all."));
    let (text, done, comments) = read(&gateway, &chat(true)).await;
    assert!(!done && comments.is_empty(), "nobody goes on: the error ends it");
    assert!(TEXT.starts_with(&text) && !text.is_empty(), "{text}");
}

#[tokio::test]
async fn a_continuation_that_dies_is_gone_on_with_in_turn() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(6)).await;
    let second = Upstream::start(Act::say(TEXT).going_on().cut_after(12)).await;
    let third = Upstream::start(Act::say(TEXT).going_on()).await;
    let gateway = three(&primary, &second, &third).await;
    let (text, done, comments) = read(&gateway, &chat(true)).await;
    assert_eq!((text.as_str(), done), (TEXT, true));
    assert_eq!(comments, ["continued by gpt-4o", "continued by gpt-4.1"]);
    let record = &gateway.audit(1).await[0];
    assert_eq!((&record["continued"], record["attempts"].as_array().unwrap().len()), (&json!(2), 3));
}

#[tokio::test]
async fn nothing_forbidden_leaves_across_the_seam() {
    const SECRET: &str = "Sure, here it is for you: 078-05-1120, keep it.";
    let primary = Upstream::answering().await;
    let spare = Upstream::start(Act::say(SECRET).chunks_of(2).going_on()).await;
    let gateway = setup((Wire::OpenAi, &primary), ("openai", &spare), "gpt-4o").start().await;
    for events in 8..22 {
        primary.set_default(Act::say(SECRET).chunks_of(2).cut_after(events));
        let (text, done, _) = read(&gateway, &chat(true)).await;
        assert!(!text.contains("078") && !text.contains("1120"), "cut after {events}: {text}");
        assert!(done && text.ends_with("[Output filtered for security]"), "cut after {events}: {text}");
    }
}

#[tokio::test]
async fn a_beginning_that_is_refused_is_told_in_words() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(12)).await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let error = json!({"error": {"message": "prefill is incompatible with thinking", "type": "invalid_request_error"}});
    spare.script([Act::status(400, &error)]);
    let gateway = setup((Wire::OpenAi, &primary), ("llamacpp", &spare), "qwen3").start().await;
    let (text, done, _) = read(&gateway, &chat(true)).await;
    assert_eq!((text.as_str(), done, spare.asked()), (TEXT, true, 2));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_gone_on_with_and_counts_as_a_fault() {
    let primary = Upstream::start(Act::say(TEXT).hang_after(9)).await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let setup = setup((Wire::OpenAi, &primary), ("openai", &spare), "gpt-4o");
    let gateway =
        setup.set(&json!({"timeouts": {"idle": "100ms"}, "breaker": {"failures": 2}})).start().await;
    for _ in 0..3 {
        let (text, done, _) = read(&gateway, &chat(true)).await;
        assert_eq!((text.as_str(), done), (TEXT, true));
    }
    assert_eq!(primary.asked(), 2, "the breaker leaves it alone");
}

#[tokio::test]
async fn an_answer_pieced_together_is_not_kept() {
    let primary = Upstream::start(Act::say(TEXT).cut_after(9)).await;
    let spare = Upstream::start(Act::say(TEXT).going_on()).await;
    let setup = setup((Wire::OpenAi, &primary), ("openai", &spare), "gpt-4o");
    let gateway = setup.set(&json!({"cache": {"enabled": true}})).start().await;
    let mut asked = chat(true);
    asked["temperature"] = 0.into();
    for _ in 0..2 {
        assert_eq!(read(&gateway, &asked).await.0, TEXT);
    }
    assert_eq!(primary.asked(), 2);
}
