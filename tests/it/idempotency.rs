//! `Idempotency-Key`: a request that comes again gets the first reply.
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{
    Act, Answer, Gateway, Setup, Upstream, Wire, client::Ask, gateway::key, ms, servers::Postgres, soon,
};

fn chat(stream: bool) -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

fn ask(gateway: &Gateway, path: &str, word: &str, body: &Value) -> Ask {
    gateway.ask("POST", path).header("idempotency-key", word).json(body)
}

/// What must be the same in a repeat.
fn essence(answer: &Answer) -> (u16, Vec<u8>, Vec<Option<&str>>) {
    let headers = ["content-type", "x-request-id", "x-cache", "x-model-version", "x-cost-usd", "request-id"];
    (answer.status, answer.body.clone(), headers.iter().map(|name| answer.header(name)).collect())
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn a_repeat_gets_the_first_reply_on_every_endpoint() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let question = json!({"question": "Hi", "user_id": "u", "mode": "chat"});
    let mut messages = chat(false);
    messages["max_tokens"] = 64.into();
    for (path, body, asked) in [
        ("/query", question.clone(), 1),
        ("/stream", question, 1),
        ("/predict", json!({"text": "lovely"}), 0),
        ("/v1/chat/completions", chat(false), 1),
        ("/v1/chat/completions", chat(true), 1),
        ("/v1/messages", messages, 1),
        ("/v1/responses", json!({"model": "main", "input": "Hi"}), 1),
        ("/v1/embeddings", json!({"model": "embed", "input": "Hi"}), 1),
    ] {
        let (word, before) = (format!("k-{path}-{}", body["stream"]), upstream.asked());
        let first = ask(&gateway, path, &word, &body).send().await;
        assert_eq!((first.status, is_replay(&first)), (200, false), "{path}: {}", first.text());
        let again = ask(&gateway, path, &word, &body).header("x-request-id", "another").send().await;
        assert!(is_replay(&again), "{path}: {again:?}");
        assert_eq!(essence(&again), essence(&first), "{path}");
        assert_eq!(upstream.asked() - before, asked, "{path}");
    }
    assert!(
        (gateway.metric("sluice_idempotency_requests_total", &[("result", "replayed")]).await - 8.0).abs()
            < 0.1
    );
    // Without the header everything is as it always is.
    let before = upstream.asked();
    for _ in 0..2 {
        assert!(!is_replay(&gateway.post("/v1/chat/completions", &chat(false)).await));
    }
    assert_eq!(upstream.asked() - before, 2);
}

#[tokio::test]
async fn fifty_at_once_are_one_call_and_the_rest_are_told_to_come_back() {
    for stream in [false, true] {
        let upstream = Upstream::start(Act::default().after(ms(300))).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let body = chat(stream);
        let all = (0..50).map(|_| ask(&gateway, "/v1/chat/completions", "one", &body).send());
        let answers = join_all(all).await;
        let (good, told): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert!(told.iter().all(|answer| answer.status == 409 && answer.header("retry-after") == Some("1")));
        assert!(!told.is_empty());
        assert_eq!(told[0].json()["error"]["code"], "idempotency_key_in_use");
        assert_eq!(good.iter().filter(|answer| !is_replay(answer)).count(), 1);
        let again = ask(&gateway, "/v1/chat/completions", "one", &body).send().await;
        assert!(is_replay(&again) && again.body == good[0].body);
        assert_eq!(upstream.asked(), 1);
    }
}

#[tokio::test]
async fn another_request_with_the_same_key_is_refused_and_another_callers_is_its_own() {
    let upstream = Upstream::answering().await;
    let mut keys = vec![key("a", "sk-a"), key("b", "sk-b"), key("c", "sk-c")];
    keys[2]["tenant"] = "other".into();
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"auth": {"keys": keys}})).start().await;
    let ask = |who: &str, path: &str, body: &Value| ask(&gateway, path, "word", body).bearer(who);
    let path = "/v1/chat/completions";
    ask("sk-a", path, &chat(false)).send().await.expect(200);
    let other = ask("sk-a", path, &chat(true)).send().await;
    assert_eq!(other.expect(422)["error"]["code"], "idempotency_key_reused");
    ask("sk-a", "/v1/responses", &json!({"model": "main", "input": "Hi"})).send().await.expect(422);
    let problem = ask("sk-a", "/query", &json!({"question": "Hi", "user_id": "u"})).send().await;
    assert_eq!(problem.expect(422)["type"], "urn:sluice:problem:idempotency_key_reused");
    for who in ["sk-b", "sk-c"] {
        let first = ask(who, path, &chat(false)).send().await;
        assert_eq!((first.status, is_replay(&first)), (200, false));
        assert!(is_replay(&ask(who, path, &chat(false)).send().await));
    }
    ask("sk-wrong", path, &chat(false)).send().await.expect(401);
    assert_eq!(upstream.asked(), 3);
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused_in_the_words_of_the_api() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for bad in ["", "with space", &"x".repeat(256)] {
        let answer = ask(&gateway, "/v1/chat/completions", bad, &chat(false)).send().await;
        assert_eq!(answer.expect(400)["error"]["code"], "invalid_idempotency_key", "{bad}");
        let answer = ask(&gateway, "/v1/messages", bad, &chat(false)).send().await;
        assert_eq!(answer.expect(400)["error"]["type"], "invalid_request_error");
        assert!(answer.header("request-id").is_some());
    }
    let twice = ask(&gateway, "/query", "a", &json!({})).header("idempotency-key", "b").send().await;
    assert_eq!(twice.expect(400)["type"], "urn:sluice:problem:invalid_idempotency_key");
    ask(&gateway, "/v1/chat/completions", &"x".repeat(255), &chat(false)).send().await.expect(200);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn what_a_further_attempt_can_better_is_not_kept() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"retry": {"attempts": 1}})).start().await;
    let ask = |word: &str, body: &Value| ask(&gateway, "/v1/chat/completions", word, body);
    for (word, act, status) in [("busy", Act::busy(None), 429), ("failed", Act::failed(), 502)] {
        upstream.script([act]);
        assert_eq!(ask(word, &chat(false)).send().await.status, status);
        let again = ask(word, &chat(false)).send().await;
        assert_eq!((again.status, is_replay(&again)), (200, false));
    }
    // A stream that breaks off has the status of a good one.
    for (word, act) in [("cut", Act::default().cut_after(3)), ("hung", Act::default().hang_after(3))] {
        upstream.script([act]);
        let broken = ask(word, &chat(true)).stream().await.rest().await;
        assert!(broken.last().unwrap().data.as_deref().unwrap().contains("error"), "{broken:?}");
        let again = ask(word, &chat(true)).send().await;
        assert!(!is_replay(&again) && again.text().contains("[DONE]"));
        assert!(is_replay(&ask(word, &chat(true)).send().await));
    }
    // A mistake of the request itself is told anew, and may be mended under the same key.
    let bad = json!({"model": "main", "messages": "none"});
    ask("mended", &bad).send().await.expect(400);
    ask("mended", &chat(false)).send().await.expect(200);
    // What the provider finds wrong stays wrong.
    upstream.script([Act::status(400, &json!({"error": {"message": "no such thing", "code": "bad"}}))]);
    ask("refused", &chat(false)).send().await.expect(400);
    let asked = upstream.asked();
    assert!(is_replay(&ask("refused", &chat(false)).send().await));
    assert_eq!(upstream.asked(), asked);
}

#[tokio::test]
async fn a_call_whose_client_left_goes_on_and_the_repeat_gets_its_reply() {
    for stream in [false, true] {
        let upstream = Upstream::start(Act::say("one two three four").every(ms(60)).after(ms(200))).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let body = chat(stream);
        let left = tokio::time::timeout(ms(100), ask(&gateway, "/v1/chat/completions", "k", &body).send());
        assert!(left.await.is_err());
        let mut answer = Answer::default();
        for _ in 0..500 {
            answer = ask(&gateway, "/v1/chat/completions", "k", &body).send().await;
            if answer.status != 409 {
                break;
            }
            tokio::time::sleep(ms(10)).await;
        }
        assert_eq!((answer.status, is_replay(&answer)), (200, true), "{}", answer.text());
        assert!(answer.text().contains(if stream { "[DONE]" } else { "one two three four" }));
        assert_eq!(upstream.asked(), 1);
    }
}

#[tokio::test]
async fn a_stream_whose_client_left_is_not_spoken_into_the_void_for_ever() {
    let upstream = Upstream::start(Act::default().hang_after(3)).await;
    let patient = json!({"resume": {"grace": "200ms"}, "timeouts": {"first_token": "20s", "idle": "20s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient).start().await;
    let mut stream = ask(&gateway, "/v1/chat/completions", "k", &chat(true)).stream().await;
    stream.next().await.unwrap();
    drop(stream);
    upstream.gone(ms(5000)).await;
    upstream.set_default(Act::default());
    let again = ask(&gateway, "/v1/chat/completions", "k", &chat(true)).send().await;
    assert_eq!((again.status, is_replay(&again)), (200, false));
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_given_and_not_kept() {
    let upstream = Upstream::start(Act::say(&"many words ".repeat(400))).await;
    let small = json!({"idempotency": {"max_reply": "2KiB"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&small).start().await;
    for stream in [false, true] {
        let body = chat(stream);
        let plain = gateway.post("/v1/chat/completions", &body).await;
        for _ in 0..2 {
            let answer = ask(&gateway, "/v1/chat/completions", "k", &body).send().await;
            assert!(!is_replay(&answer));
            assert!(answer.body.len().abs_diff(plain.body.len()) < 200, "all of it is given");
            gateway.get("/health").await;
        }
    }
    assert_eq!(upstream.asked(), 6);
    assert!(
        (gateway.metric("sluice_idempotency_requests_total", &[("result", "unkept")]).await - 4.0).abs()
            < 0.1
    );
}

#[tokio::test]
async fn pages_of_other_origins_and_compression_work_as_without_a_key() {
    let upstream = Upstream::start(Act::say(&"many words ".repeat(400))).await;
    let cors = json!({"server": {"cors": {"origins": ["https://a.example", "https://b.example"]}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&cors).start().await;
    for (index, origin) in ["https://a.example", "https://b.example"].into_iter().enumerate() {
        let answer = ask(&gateway, "/v1/chat/completions", "k", &chat(false)).header("origin", origin);
        let answer = answer.header("accept-encoding", "gzip").send().await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(is_replay(&answer), index == 1);
    }
    let plain = ask(&gateway, "/v1/chat/completions", "k", &chat(false)).send().await;
    assert!(is_replay(&plain) && plain.text().contains("many words"));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_waited_for_at_the_end() {
    let upstream = Upstream::start(Act::default().after(ms(800))).await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let body = chat(false);
    let left = tokio::time::timeout(ms(200), ask(&gateway, "/v1/chat/completions", "k", &body).send());
    assert!(left.await.is_err());
    gateway.signal("TERM");
    assert!(gateway.exit(ms(5000)).await.unwrap().success());
    assert!(soon(ms(100), || upstream.seen()[0].gone.is_none()).await, "the call came to its end");
}

#[tokio::test]
async fn a_call_that_goes_on_by_itself_and_is_cut_at_the_end_leaves_its_record() {
    for path in ["/v1/chat/completions", "/stream"] {
        let upstream = Upstream::start(Act::default().hang_after(3)).await;
        let patient = json!({"server": {"drain": "60s"}, "timeouts": {"first_token": "60s", "idle": "60s"}});
        let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient).start().await;
        let mut body = chat(true);
        (body["prompt"], body["mode"], body["resume"]) = ("Hi".into(), "chat".into(), true.into());
        let mut stream = ask(&gateway, path, "k", &body).stream().await;
        stream.next().await.unwrap();
        drop(stream);
        gateway.signal("TERM");
        assert!(gateway.exit(ms(300)).await.is_none(), "it is waited for");
        gateway.signal("TERM");
        assert!(gateway.exit(ms(10_000)).await.unwrap().success());
        assert_eq!(gateway.audit(1).await[0]["outcome"], "cancelled", "{path}");
    }
}

#[tokio::test]
async fn an_answer_that_only_stands_in_for_one_is_not_kept() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let question = json!({"question": "Hi", "user_id": "u", "mode": "chat"});
    for asked in [1, 2] {
        let before = upstream.asked();
        let answer = ask(&gateway, "/query", "word", &question).send().await;
        assert_eq!(answer.expect(200)["fallback"], true, "attempt {asked}");
        assert!(!is_replay(&answer) && upstream.asked() > before, "attempt {asked}");
    }
}

#[tokio::test]
async fn a_database_that_hangs_holds_back_a_few_replies_and_gets_all_of_them_later() {
    let database = Postgres::start().await;
    let upstream = Upstream::answering().await;
    let start = async || {
        let store = json!({"store": {"postgres": {"env": "TEST_POSTGRES"}, "timeout": "1s"}});
        let setup = Setup::one(Wire::OpenAi, &upstream).set(&store).env("TEST_POSTGRES", &database.url());
        setup.start().await
    };
    let gateway = start().await;
    let path = "/v1/chat/completions";
    ask(&gateway, path, "before", &chat(false)).send().await.expect(200);
    database.freeze();
    let mut slow = 0;
    for index in 0..12 {
        let began = Instant::now();
        ask(&gateway, path, &format!("w{index}"), &chat(false)).send().await.expect(200);
        slow += usize::from(began.elapsed() >= ms(480));
        assert!(is_replay(&ask(&gateway, path, &format!("w{index}"), &chat(false)).send().await));
    }
    assert!((1..=4).contains(&slow), "{slow} of 12 waited");
    database.thaw();
    let mut connection = sqlx::PgConnection::connect(&database.url()).await.unwrap();
    let mut rows = 0;
    for _ in 0..1000 {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM sluice.idempotency");
        rows = count.fetch_one(&mut connection).await.unwrap();
        if rows == 13_i64 {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(rows, 13);
    // Another gateway reads what is there when it starts.
    let (other, asked) = (start().await, upstream.asked());
    for index in 0..12 {
        let again = ask(&other, path, &format!("w{index}"), &chat(false)).send().await;
        assert!(is_replay(&again), "w{index}");
    }
    assert_eq!(upstream.asked(), asked);
}

#[tokio::test]
async fn one_tenants_replies_do_not_push_out_anothers() {
    let upstream = Upstream::start(Act::say(&"many words ".repeat(100))).await;
    let folder = tempfile::tempdir().unwrap();
    let mut keys = vec![key("a", "sk-a"), key("b", "sk-b")];
    keys[1]["tenant"] = "other".into();
    let settings = json!({
        "auth": {"keys": keys},
        "idempotency": {"max_bytes": "32KiB", "max_reply": "8KiB"},
        "store": {"sqlite": folder.path().join("sluice.db")},
    });
    let start = async || Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut gateway = start().await;
    let path = "/v1/chat/completions";
    let of = |gateway: &Gateway, who: &str, word: &str| ask(gateway, path, word, &chat(false)).bearer(who);
    for word in ["x", "y", "z"] {
        of(&gateway, "sk-a", word).send().await.expect(200);
    }
    for index in 0..60 {
        of(&gateway, "sk-b", &index.to_string()).send().await.expect(200);
    }
    for round in 0..2 {
        for word in ["x", "y", "z"] {
            assert!(is_replay(&of(&gateway, "sk-a", word).send().await), "{word}, round {round}");
        }
        assert!(is_replay(&of(&gateway, "sk-b", "59").send().await));
        assert!(gateway.metric("sluice_idempotency_size_bytes", &[]).await <= 32.0 * 1024.0);
        gateway.signal("TERM");
        gateway.exit(ms(10_000)).await.unwrap();
        gateway = start().await;
    }
}
