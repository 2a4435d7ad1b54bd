//! A provider that fails before the first content never shows.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire, ms};

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

/// Every way to fail before the first content.
fn failures() -> Vec<(&'static str, Act)> {
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":";
    vec![
        ("cut before the status line", Act::close()),
        ("cut within the status line", Act::default().cut_at(7)),
        ("cut within the headers", Act::default().cut_at(40)),
        ("cut before the body", Act::raw(&long.as_bytes()[..long.len() - 6])),
        ("cut within a whole body", Act::raw(long.as_bytes())),
        ("500", Act::failed()),
        ("502 with a page", Act::status(502, &json!("<html>Bad Gateway</html>"))),
        ("503", Act::status(503, &json!({"error": {"message": "loading"}}))),
        ("529", Act::status(529, &overloaded)),
        ("429", Act::busy(None)),
        ("429 with a long wait", Act::busy(Some(60))),
        ("408", Act::status(408, &json!({}))),
        ("an error first", Act::error_first()),
        ("no HTTP", Act::raw(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n\x00\xff")),
        ("no JSON", Act::page("application/json", "<html>")),
        ("a login page", Act::page("text/html", "<html>log in</html>")),
        ("nothing", Act::page("application/json", "")),
        ("an empty stream", Act::page("text/event-stream", "")),
        ("a stream of garbage", Act::page("text/event-stream", "data: {\"id\":\n\ndata: \u{1}\n\n")),
        ("a rejected key", Act::status(401, &json!({"error": {"message": "bad key sk-provider"}}))),
        ("silence", Act::hang()),
    ]
}

#[tokio::test]
async fn a_whole_answer_comes_from_the_fallback() {
    answers_come_from_the_fallback(false).await;
}

#[tokio::test]
async fn a_streamed_answer_comes_from_the_fallback() {
    answers_come_from_the_fallback(true).await;
}

/// One gateway for all of them: each has a route and a provider of its own, so that none knows of another.
async fn answers_come_from_the_fallback(streamed: bool) {
    futures_util::future::join_all(Wire::BOTH.map(|wire| answers_of(wire, streamed))).await;
}

async fn answers_of(wire: Wire, streamed: bool) {
    let spare = Upstream::start(Act::say("From the spare.")).await;
    // One of them never says a word.
    let mut setup = Setup::two(&spare, wire, &spare).set(&json!({"timeouts": {"total": "3s"}}));
    let mut cases = Vec::new();
    for (number, (what, act)) in failures().into_iter().enumerate() {
        let primary = Upstream::start(act).await;
        let (model, name) = (format!("model-{number}"), format!("primary-{number}"));
        let base_url = Wire::OpenAi.base_url(primary.address);
        let key = json!({"env": "TEST_PROVIDER_KEY"});
        let provider = json!({"kind": Wire::OpenAi.kind(), "base_url": base_url, "api_key": key});
        let targets = json!([{"provider": name, "model": "model-a"}]);
        setup = setup.set(&json!({
            "providers": {&*name: provider},
            "models": {&*model: {"targets": targets, "fallback": ["spare/model-b"]}},
        }));
        cases.push((what, model, primary));
    }
    let gateway = setup.start().await;
    for (what, model, primary) in cases {
        let asked = spare.asked();
        let mut chat = chat(streamed);
        chat["model"] = model.into();
        if streamed {
            let mut stream = gateway.stream("/v1/chat/completions", &chat).await;
            assert_eq!(stream.head.status, 200, "{what}");
            let (chunks, done) = stream.chunks().await;
            let text: String =
                chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
            assert!(done, "{what}: {chunks:?}");
            assert_eq!(text, "From the spare.", "{what}");
            assert!(chunks.iter().all(|chunk| chunk["error"].is_null()), "{what}");
        } else {
            let answer = gateway.post("/v1/chat/completions", &chat).await;
            let body = answer.expect(200);
            assert_eq!(body["choices"][0]["message"]["content"], "From the spare.", "{what}");
        }
        assert!(primary.asked() >= 1, "{what}: the primary was asked first");
        assert_eq!(spare.asked(), asked + 1, "{what}: the spare was asked once");
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_failed_over() {
    let primary = Upstream::answering().await;
    let spare = Upstream::start(Act::say("From the spare.")).await;
    let nowhere = json!({"providers": {"primary": {"base_url": "http://127.0.0.1:1/v1"}}});
    let gateway = Setup::two(&primary, Wire::OpenAi, &spare).set(&nowhere).start().await;
    let body =
        gateway.post("/query", &json!({"question": "Hi", "user_id": "u", "mode": "chat"})).await.expect(200);
    assert_eq!(body["answer"], "From the spare.");
}

#[tokio::test]
async fn a_transient_failure_is_retried_at_the_same_provider() {
    for act in [Act::failed(), Act::close(), Act::busy(None), Act::status(425, &json!({}))] {
        let upstream = Upstream::answering().await;
        upstream.script([act]);
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        gateway.post("/v1/chat/completions", &chat(false)).await.expect(200);
        assert_eq!(upstream.asked(), 2);
    }
}

#[tokio::test]
async fn a_callers_own_mistake_is_neither_retried_nor_failed_over() {
    for code in [400, 413, 422] {
        let error = json!({"error": {"message": "bad `top_k`", "type": "invalid_request_error", "param": "top_k", "code": null}});
        let primary = Upstream::start(Act::status(code, &error)).await;
        let spare = Upstream::answering().await;
        let gateway = Setup::two(&primary, Wire::OpenAi, &spare).start().await;
        let body = gateway.post("/v1/chat/completions", &chat(false)).await.expect(code);
        assert_eq!(body["error"]["message"], "bad `top_k`");
        assert_eq!(body["error"]["param"], "top_k");
        assert_eq!((primary.asked(), spare.asked()), (1, 0));
    }
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_is_kept() {
    let upstream = Upstream::answering().await;
    upstream.script([Act::busy(None).header("retry-after-ms", "300")]);
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"retry": {"cap": "1s"}})).start().await;
    let began = std::time::Instant::now();
    gateway.post("/v1/chat/completions", &chat(false)).await.expect(200);
    assert!(began.elapsed() >= ms(300), "asked again after {:?}", began.elapsed());
}

#[tokio::test]
async fn attempts_have_an_end() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"retry": {"attempts": 3}})).start().await;
    gateway.post("/v1/chat/completions", &chat(false)).await.expect(502);
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test]
async fn each_wait_has_an_end() {
    let upstream = Upstream::start(Act::hang()).await;
    let gateway =
        Setup::one(Wire::OpenAi, &upstream).set(&json!({"timeouts": {"total": "2s"}})).start().await;
    let began = std::time::Instant::now();
    let body = gateway.post("/v1/chat/completions", &chat(false)).await.expect(504);
    assert_eq!(body["error"]["code"], "upstream_timeout");
    assert!(began.elapsed() < ms(9000));
}

#[tokio::test]
async fn an_answer_after_content_is_never_begun_anew() {
    let primary = Upstream::start(Act::default().cut_after(4)).await;
    let spare = Upstream::answering().await;
    let off = json!({"models": {"main": {"continue": false}}});
    let gateway = Setup::two(&primary, Wire::OpenAi, &spare).set(&off).start().await;
    let (chunks, done) = gateway.stream("/v1/chat/completions", &chat(true)).await.chunks().await;
    assert!(!done && !chunks.last().unwrap()["error"].is_null(), "{chunks:?}");
    assert_eq!((primary.asked(), spare.asked()), (1, 0));
}

#[tokio::test]
async fn weighted_versions_are_sticky_by_user() {
    let upstream = Upstream::answering().await;
    let target = |model: &str| json!({"provider": "primary", "model": model, "version": model, "weight": 50});
    let split = json!({"models": {"main": {"targets": [target("model-a"), target("model-b")]}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&split).start().await;
    let mut versions = std::collections::BTreeSet::new();
    for user in 0..24 {
        let asked = json!({"question": "Hi", "user_id": format!("user-{user}"), "mode": "chat"});
        let first = gateway.post("/query", &asked).await;
        let again = gateway.post("/query", &asked).await;
        assert_eq!(first.header("x-model-version"), again.header("x-model-version"), "user-{user}");
        versions.insert(first.header("x-model-version").unwrap().to_owned());
    }
    assert_eq!(versions.len(), 2, "both versions are used");
}

#[tokio::test]
async fn a_model_that_its_provider_does_not_have_is_no_mistake_of_the_caller() {
    let missing =
        json!({"error": {"message": "The model `model-a` does not exist", "code": "model_not_found"}});
    let first = Upstream::start(Act::status(404, &missing)).await;
    let spare = Upstream::answering().await;
    let gateway = Setup::two(&first, Wire::OpenAi, &spare).start().await;
    let ask = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
        gateway.post("/v1/chat/completions", &body).await
    };
    for _ in 0..8 {
        ask("main").await.expect(200);
    }
    assert_eq!(
        (first.asked(), spare.asked()),
        (8, 8),
        "asked once each: nothing heals it, and no breaker opens"
    );
    let told = ask("solo").await.expect(502);
    assert_eq!(told["error"]["code"], "upstream_rejected");
    assert!(!told.to_string().contains("model-a"), "{told}");
    // A wrong address says nothing at all.
    for said in [json!({}), json!({"detail": "Not Found"})] {
        first.set_default(Act::status(404, &said));
        assert_eq!(ask("solo").await.expect(502)["error"]["code"], "upstream_rejected", "{said}");
    }
    // What the caller named is for the caller to hear of.
    let file = json!({"error": {"message": "No such file: file-123", "code": "not_found"}});
    first.set_default(Act::status(404, &file));
    let told = ask("main").await.expect(404);
    assert_eq!(told["error"]["message"], "No such file: file-123");
}
