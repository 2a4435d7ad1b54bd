//! What was said under a `session_id` is remembered: masked, bounded, for whom it belongs to.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms, servers, soon};

fn question(text: &str, user: &str, session: &str) -> Value {
    json!({"question": text, "user_id": user, "session_id": session, "mode": "chat", "use_cache": false})
}

/// What the model was asked, without the roles.
fn asked(upstream: &Upstream) -> Vec<String> {
    let messages = upstream.last().body["messages"].as_array().unwrap().clone();
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// Long enough for a busy machine.
fn patient() -> Value {
    json!({"session": {"timeout": "10s"}})
}

async fn gateway(upstream: &Upstream, change: &Value) -> Gateway {
    Setup::one(Wire::OpenAi, upstream).set(&patient()).set(change).start().await
}

#[tokio::test]
async fn a_question_comes_with_what_was_said_before() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream, &json!({})).await;
    upstream.script([Act::say("Nice to meet you."), Act::say("Ada.")]);
    let first = gateway.post("/query", &question("I am Ada.", "u", "s")).await;
    assert_eq!(first.header("x-session-history"), Some("0"));
    assert_eq!(first.expect(200)["session_id"], "s");
    let second = gateway.post("/query", &question("Who am I?", "u", "s")).await;
    assert_eq!(second.header("x-session-history"), Some("1"));
    let second = second.expect(200);
    assert_eq!(asked(&upstream), ["I am Ada.", "Nice to meet you.", "Who am I?"]);
    // The stream of the same session knows both; another's, and one without a session, know nothing.
    let mut body = question("And now?", "u", "s");
    let stream = gateway.post("/stream", &body).await;
    assert!(stream.text().contains("\"session_id\":\"s\""), "{}", stream.text());
    assert_eq!(asked(&upstream).len(), 5);
    gateway.post("/query", &question("Hi", "u", "s2")).await.expect(200);
    assert_eq!(asked(&upstream), ["Hi"]);
    body["session_id"] = Value::Null;
    let none = gateway.post("/query", &body).await;
    assert_eq!((none.header("x-session-history"), &none.expect(200)["session_id"]), (None, &Value::Null));
    assert_eq!(asked(&upstream), ["And now?"]);

    let shown = gateway.get("/sessions/s?user_id=u").await.expect(200);
    assert_eq!(
        (&shown["session_id"], &shown["summary"], &shown["dropped_turns"]),
        (&json!("s"), &Value::Null, &json!(0))
    );
    let turns = shown["turns"].as_array().unwrap();
    let texts: Vec<&str> = turns.iter().map(|turn| turn["text"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        ["I am Ada.", "Nice to meet you.", "Who am I?", "Ada.", "And now?", "Hello from upstream."]
    );
    assert_eq!((&turns[2]["role"], &turns[3]["role"]), (&json!("user"), &json!("assistant")));
    assert_eq!(turns[2]["request_id"], second["request_id"]);
    assert!(turns[2]["time"].as_str().unwrap().ends_with('Z'));
    gateway.get("/sessions/s").await.expect(404);
    gateway.get("/sessions/s?user_id=v").await.expect(404);
}

#[tokio::test]
async fn a_session_is_of_one_key_and_user_and_new_makes_one() {
    let upstream = Upstream::answering().await;
    let row = |name: &str, tenant: &str| {
        let mut row = key(name, &format!("sk-{name}"));
        row["tenant"] = tenant.into();
        row
    };
    let keys = json!([row("a", "t1"), row("a2", "t1"), row("b", "t2")]);
    let gateway = gateway(&upstream, &json!({"auth": {"keys": keys}})).await;
    let ask = async |key: &str, user: &str, session: &str| {
        let ask = gateway.ask("POST", "/query").bearer(key).json(&question("Hi", user, session));
        ask.send().await.expect(200)["session_id"].as_str().unwrap().to_owned()
    };
    ask("sk-a", "u", "a/b c?é").await;
    for (key, user) in [("sk-a2", "u"), ("sk-b", "u"), ("sk-a", "v")] {
        ask(key, user, "a/b c?é").await;
        assert_eq!(asked(&upstream).len(), 1, "{key} {user}");
    }
    ask("sk-a", "u", "a/b c?é").await;
    assert_eq!(asked(&upstream).len(), 3);
    let path = "/sessions/a%2Fb%20c%3F%C3%A9?user_id=u";
    assert_eq!(gateway.get_as("sk-a", path).await.expect(200)["turns"].as_array().unwrap().len(), 4);
    let made = ask("sk-a", "u", "new").await;
    assert_ne!(made, ask("sk-a", "u", "new").await);
    ask("sk-a", "u", &made).await;
    assert_eq!(asked(&upstream).len(), 3);
}

#[tokio::test]
async fn an_answer_that_broke_off_leaves_no_turn() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream, &json!({"retry": {"attempts": 1}})).await;
    let long = Act::say("one two three four five six").chunks_of(4);
    upstream.script([long.clone().cut_after(3), Act::failed(), Act::failed()]);
    let broken = gateway.post("/stream", &question("broken", "u", "s")).await;
    assert!(broken.text().contains("[ERROR:"), "{}", broken.text());
    gateway.post("/stream", &question("failed", "u", "s")).await;
    // What stands in for an answer is none.
    assert_eq!(gateway.post("/query", &question("failed", "u", "s")).await.expect(200)["fallback"], true);
    // A reader who leaves breaks it off.
    upstream.script([long.hang_after(3)]);
    let mut stream = gateway.stream("/stream", &question("left", "u", "s")).await;
    stream.next().await.expect("the beginning");
    drop(stream);
    upstream.gone(ms(10_000)).await;
    gateway.get("/sessions/s?user_id=u").await.expect(404);
    gateway.post("/query", &question("whole", "u", "s")).await.expect(200);
    assert_eq!(asked(&upstream), ["whole"]);
}

#[tokio::test]
async fn what_was_said_before_is_part_of_what_makes_questions_equal() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream, &json!({"cache": {"enabled": true}})).await;
    let ask = async |text: &str, session: &str| {
        let mut body = question(text, "u", session);
        body["use_cache"] = true.into();
        gateway.post("/query", &body).await.expect(200)["cache"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("red", "one").await, "miss");
    assert_eq!(ask("blue", "two").await, "miss");
    assert_eq!(ask("And?", "one").await, "miss");
    assert_eq!(ask("And?", "two").await, "miss", "its history is another");
    assert_eq!(asked(&upstream), ["blue", "Hello from upstream.", "And?"]);
    // The same conversation once more, answered from the cache, is a conversation, too.
    assert_eq!(ask("red", "three").await, "exact");
    assert_eq!(ask("And?", "three").await, "exact");
    let shown = gateway.get("/sessions/three?user_id=u").await.expect(200);
    assert_eq!(shown["turns"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_deleted_session_is_gone_from_the_files_and_stays_gone() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("s.db");
    let gateway = gateway(&upstream, &json!({"store": {"sqlite": database}})).await;
    upstream.script([Act::say("The canary-answer-4711 sings.")]);
    gateway.post("/query", &question("Where is canary-question-4711?", "u", "s")).await.expect(200);
    let files = || -> Vec<u8> {
        let files = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.flatten().collect()
    };
    let has = |word: &str| memchr::memmem::find(&files(), word.as_bytes()).is_some();
    assert!(has("canary-answer-4711") && has("canary-question-4711"));
    // One more that is under way while it is deleted.
    upstream.script([Act::say("late").after(ms(1500))]);
    let late = tokio::spawn({
        let ask = gateway.ask("POST", "/query").json(&question("late", "u", "s"));
        async move { ask.send().await.expect(200) }
    });
    assert!(soon(ms(10_000), || upstream.busy() == 1).await);
    assert_eq!(gateway.ask("DELETE", "/sessions/s?user_id=u").send().await.status, 204);
    gateway.ask("DELETE", "/sessions/s?user_id=u").send().await.expect(404);
    assert!(!has("canary"), "nothing is left in the database's files");
    late.await.unwrap();
    gateway.get("/sessions/s?user_id=u").await.expect(404);
    gateway.post("/query", &question("anew", "u", "s")).await.expect(200);
    assert_eq!(asked(&upstream), ["anew"]);
}

/// Answers summaries with `summary`, and all else with a long text.
fn summing_up(upstream: &Upstream, summary: Act) {
    upstream.choose(move |seen| {
        let text = seen.body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        if text.starts_with("Below is the older part") {
            summary.clone()
        } else {
            Act::say(&"word ".repeat(30))
        }
    });
}

async fn summed_up(gateway: &Gateway, event: &str, times: f64) {
    for _ in 0..1000 {
        if gateway.metric("sluice_session_events_total", &[("event", event)]).await >= times {
            return;
        }
        tokio::time::sleep(ms(10)).await;
    }
    panic!("no {event}:\n{}", gateway.log());
}

#[tokio::test]
async fn what_is_over_the_bound_is_summed_up_after_the_reply_and_paid_for_by_the_caller() {
    let redis = servers::Redis::start().await;
    for shared in [false, true] {
        let upstream = Upstream::answering().await;
        let session = json!({"max_tokens": 150, "keep_turns": 1, "summary_model": "solo"});
        let mut change = json!({"session": session});
        if shared {
            change["store"] = json!({"redis": {"env": "TEST_REDIS"}, "redis_timeout": "5s"});
        }
        let setup = Setup::one(Wire::OpenAi, &upstream).set(&patient()).set(&change);
        let gateway = setup.env("TEST_REDIS", &redis.url()).start().await;
        summing_up(&upstream, Act::failed());
        for text in ["one", "two", "three", "four"] {
            gateway.post("/query", &question(text, "u", "s")).await.expect(200);
        }
        summed_up(&gateway, "summary_failed", 1.0).await;
        let shown = gateway.get("/sessions/s?user_id=u").await.expect(200);
        assert_eq!(
            (shown["turns"].as_array().unwrap().len(), &shown["dropped_turns"]),
            (8, &json!(0)),
            "nothing is lost"
        );
        summing_up(&upstream, Act::say("They counted to four."));
        gateway.post("/query", &question("five", "u", "s")).await.expect(200);
        summed_up(&gateway, "summarised", 1.0).await;
        let shown = gateway.get("/sessions/s?user_id=u").await.expect(200);
        assert_eq!(shown["summary"], "They counted to four.");
        assert_eq!(shown["turns"][0]["text"], "five", "the last turn stays word for word");
        gateway.post("/query", &question("six", "u", "s")).await.expect(200);
        let seen = upstream.seen();
        let told = |text: &str| {
            let found = seen.iter().rev().find(|seen| {
                let last = seen.body["messages"].as_array().unwrap().last().unwrap().clone();
                last["content"] == text
            });
            found.unwrap().body["messages"][0]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!(told("six"), "[Summary of this conversation so far: They counted to four.]\n\nfive");
        // It is a call of the caller's, of its own model, and has a record.
        let summary =
            gateway.audit(7).await.into_iter().find(|record| record["endpoint"] == "session summary");
        let summary = summary.expect("a record of the summary");
        assert_eq!((&summary["user_id"], &summary["tenant"]), (&json!("u"), &json!("default")));
    }
}

#[tokio::test]
async fn without_a_model_for_it_the_oldest_turns_are_dropped_and_that_is_told() {
    let upstream = Upstream::answering().await;
    let change = json!({"session": {"max_turns": 2}, "auth": {"keys": [admin()]}});
    let gateway = gateway(&upstream, &change).await;
    let ask = async |text: &str| {
        let ask = gateway.ask("POST", "/query").bearer("sk-admin").header("x-sluice-explain", "1");
        ask.json(&question(text, "u", "s")).send().await.expect(200)
    };
    for text in ["one", "two", "three"] {
        ask(text).await;
    }
    let told = ask("four").await;
    assert_eq!(asked(&upstream), ["two", "Hello from upstream.", "three", "Hello from upstream.", "four"]);
    let stage =
        told["explain"]["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "session");
    assert_eq!(stage.unwrap()["given"], 2);
    let shown = gateway.get_as("sk-admin", "/sessions/s?user_id=u").await.expect(200);
    assert_eq!((shown["turns"].as_array().unwrap().len(), &shown["dropped_turns"]), (4, &json!(2)));
}

fn admin() -> Value {
    let mut row = key("admin", "sk-admin");
    row["roles"] = json!(["app", "admin"]);
    row
}

#[tokio::test]
async fn while_the_store_is_away_questions_go_on_without_or_are_refused() {
    let upstream = Upstream::answering().await;
    let mut redis = servers::Redis::start().await;
    let change = json!({"store": {"redis": {"env": "TEST_REDIS"}, "redis_timeout": "500ms"}});
    let setup = Setup::one(Wire::OpenAi, &upstream).set(&patient()).set(&change);
    let mut gateway = setup.env("TEST_REDIS", &redis.url()).start().await;
    gateway.post("/query", &question("one", "u", "s")).await.expect(200);
    redis.kill();
    let answer = gateway.post("/query", &question("two", "u", "s")).await;
    assert_eq!(answer.header("x-session-history"), Some("unavailable"));
    answer.expect(200);
    assert_eq!(asked(&upstream), ["two"]);
    gateway.get("/sessions/s?user_id=u").await.expect(503);
    gateway.rewrite(&json!({"session": {"on_failure": "refuse"}}));
    gateway.signal("HUP");
    let mut status = 200;
    for _ in 0..1000 {
        status = gateway.post("/query", &question("three", "u", "s")).await.status;
        if status == 503 {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(status, 503);
    // Who has no session does not mind.
    gateway.post("/query", &json!({"question": "Hi", "user_id": "u"})).await.expect(200);
}
