//! What people say of answers: feedback, and the queue of those that wait for a reviewer.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms, soon};

fn row(name: &str, tenant: &str, roles: &[&str]) -> Value {
    let mut row = key(name, &format!("sk-{name}"));
    row["tenant"] = tenant.into();
    row["roles"] = json!(roles);
    row
}

fn setup(upstream: &Upstream, change: &Value) -> Setup {
    let keys = json!([
        row("app", "t1", &["app"]),
        row("ada", "t1", &["reviewer"]),
        row("bob", "t1", &["reviewer"]),
        row("boss", "t1", &["admin"]),
        row("other", "t2", &["app", "reviewer"]),
    ]);
    let setup =
        Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": keys}, "retry": {"attempts": 1}}));
    setup.set(change)
}

async fn ask(gateway: &Gateway, question: &str) -> Value {
    let body = json!({"question": question, "user_id": "u", "mode": "chat"});
    gateway.ask("POST", "/query").bearer("sk-app").json(&body).send().await.expect(200)
}

async fn rate(gateway: &Gateway, key: &str, body: &Value, status: u16) -> Value {
    gateway.ask("POST", "/feedback").bearer(key).json(body).send().await.expect(status)
}

async fn items(gateway: &Gateway, key: &str, query: &str) -> Vec<Value> {
    let listed = gateway.get_as(key, &format!("/review?{query}")).await.expect(200);
    listed["items"].as_array().unwrap().clone()
}

async fn decide(gateway: &Gateway, key: &str, id: &Value, body: &Value, status: u16) -> Value {
    let path = format!("/review/{}", id.as_str().unwrap());
    gateway.ask("POST", &path).bearer(key).json(body).send().await.expect(status)
}

#[tokio::test]
async fn feedback_is_kept_counted_by_the_week_and_a_bad_one_is_looked_at() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream, &json!({"audit": {"content": "masked"}})).start().await;
    let ids =
        [ask(&gateway, "one").await, ask(&gateway, "two").await].map(|answer| answer["request_id"].clone());
    let good = json!({"request_id": ids[0], "rating": 5, "feedback": "My SSN is 536-22-8741, thanks"});
    let kept = rate(&gateway, "sk-app", &good, 201).await;
    assert_eq!((&kept["request_id"], &kept["rating"]), (&ids[0], &json!(5)));
    assert!(!kept["feedback"].as_str().unwrap().contains("8741"), "{kept}");
    let at = kept["timestamp"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(), "{at}");
    assert!(items(&gateway, "sk-ada", "reason=feedback").await.is_empty());
    rate(&gateway, "sk-app", &json!({"request_id": ids[1], "rating": 1, "feedback": "wrong"}), 201).await;
    // Said twice, the last word counts, and it is one item.
    rate(&gateway, "sk-app", &json!({"request_id": ids[1], "rating": 2, "feedback": "still wrong"}), 201)
        .await;
    // Others have a word of their own: it takes the place of nobody's.
    for rater in ["u1", "u2"] {
        let other = json!({"request_id": ids[1], "rating": 4, "user_id": rater});
        rate(&gateway, "sk-app", &other, 201).await;
    }
    rate(
        &gateway,
        "sk-app",
        &json!({"request_id": ids[1], "rating": 1, "feedback": "no use", "user_id": "u3"}),
        201,
    )
    .await;
    rate(&gateway, "sk-app", &json!({"request_id": ids[1], "rating": 2, "feedback": "still wrong"}), 201)
        .await;
    let found = items(&gateway, "sk-ada", "reason=feedback").await;
    assert_eq!(found.len(), 1, "{found:?}");
    // What each said is there, whoever spoke last.
    let mut said: Vec<(i64, &str)> = found[0]["ratings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|said| (said["rating"].as_i64().unwrap(), said["feedback"].as_str().unwrap()))
        .collect();
    said.sort_unstable();
    assert_eq!(said, [(1, "no use"), (2, "still wrong")]);
    let one =
        gateway.get_as("sk-ada", &format!("/review/{}", found[0]["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(one["ratings"], found[0]["ratings"]);
    assert_eq!((&found[0]["rating"], &found[0]["feedback"]), (&json!(2), &json!("still wrong")));
    assert_eq!((&found[0]["question"], &found[0]["answer"]), (&json!("two"), &json!("Hello from upstream.")));
    assert_eq!((&found[0]["request_id"], &found[0]["status"]), (&ids[1], &json!("open")));
    // A request that is not there, and one of another tenant, look the same.
    let unknown = rate(&gateway, "sk-app", &json!({"request_id": "nobody", "rating": 3}), 404).await;
    let theirs = rate(&gateway, "sk-other", &json!({"request_id": ids[0], "rating": 3}), 404).await;
    assert_eq!(unknown["detail"], theirs["detail"]);
    let wrong = json!({"request_id": "", "rating": 6, "feedback": "x".repeat(2001), "more": 1});
    let wrong = rate(&gateway, "sk-app", &wrong, 422).await;
    assert_eq!(wrong["errors"].as_array().unwrap().len(), 4, "{wrong}");
    let missing = rate(&gateway, "sk-app", &json!({}), 422).await;
    assert_eq!(missing["errors"].as_array().unwrap().len(), 2, "{missing}");
    let summary = gateway.get_as("sk-boss", "/summary").await.expect(200);
    let week = &summary["feedback_by_week"][0];
    assert_eq!((&week["rated"], &week["positive_share"]), (&json!(5), &json!(0.6)), "{summary}");
    assert!(week["week"].as_str().unwrap().parse::<jiff::civil::Date>().is_ok());
}

#[tokio::test]
async fn a_fallback_waits_for_a_reviewer_who_claims_and_decides_it() {
    let upstream = Upstream::answering().await;
    let mut gateway = setup(&upstream, &json!({})).start().await;
    upstream.script([Act::failed()]);
    assert_eq!(ask(&gateway, "Is tea green?").await["fallback"], true);
    let found = items(&gateway, "sk-ada", "status=open&reason=fallback").await;
    assert_eq!((found.len(), &found[0]["question"]), (1, &json!("Is tea green?")), "{found:?}");
    let id = &found[0]["id"];
    assert!(items(&gateway, "sk-other", "").await.is_empty());
    gateway.ask("GET", "/review").bearer("sk-app").send().await.expect(403);
    decide(&gateway, "sk-other", id, &json!({"decision": "reject"}), 404).await;
    let claimed = decide(&gateway, "sk-ada", id, &json!({"decision": "claim"}), 200).await;
    assert_eq!((&claimed["status"], &claimed["claimed_by"]), (&json!("claimed"), &json!("ada")));
    let refused = decide(&gateway, "sk-bob", id, &json!({"decision": "reject"}), 409).await;
    assert!(refused["detail"].as_str().unwrap().contains("`ada` is looking"), "{refused}");
    assert_eq!(items(&gateway, "sk-bob", "status=open").await.len(), 0);
    assert_eq!(items(&gateway, "sk-bob", "status=claimed").await.len(), 1);
    decide(&gateway, "sk-ada", id, &json!({"decision": "release"}), 200).await;
    decide(&gateway, "sk-bob", id, &json!({"decision": "edit"}), 422).await;
    decide(&gateway, "sk-bob", id, &json!({"decision": "maybe"}), 422).await;
    let edited = json!({"decision": "edit", "answer": "Some of it.", "note": "from the handbook"});
    let edited = decide(&gateway, "sk-bob", id, &edited, 200).await;
    assert_eq!((&edited["status"], &edited["decided_by"]), (&json!("edited"), &json!("bob")));
    assert_eq!(
        (&edited["corrected_answer"], &edited["note"]),
        (&json!("Some of it."), &json!("from the handbook"))
    );
    decide(&gateway, "sk-ada", id, &json!({"decision": "approve"}), 409).await;
    assert_eq!(
        gateway.get_as("sk-ada", &format!("/review/{}", id.as_str().unwrap())).await.expect(200)["status"],
        "edited"
    );
    assert!(gateway.log().contains("review item decided"));
    // It lasts over a restart, and is a golden item.
    gateway.signal("TERM");
    gateway.exit(ms(20_000)).await.unwrap();
    let golden = gateway.sluice(&["golden", "export", "--tenant", "t1"]).1;
    let golden: Value = serde_json::from_str(golden.trim()).unwrap();
    assert_eq!((&golden["input"], &golden["expected"]), (&json!("Is tea green?"), &json!("Some of it.")));
    assert_eq!(gateway.sluice(&["golden", "export", "--tenant", "t2"]).1, "");
    gateway.restart().await;
    assert_eq!(items(&gateway, "sk-ada", "status=edited").await.len(), 1);
    // Who edited too early takes it back.
    decide(&gateway, "sk-ada", id, &json!({"decision": "reject"}), 200).await;
    assert_eq!(gateway.sluice(&["golden", "export", "--tenant", "t1"]).1, "");
}

#[tokio::test]
async fn of_two_reviewers_at_once_one_decides() {
    let upstream = Upstream::answering().await;
    let gateway =
        setup(&upstream, &json!({"review": {"sample": 1.0}, "audit": {"content": "masked"}})).start().await;
    ask(&gateway, "one").await;
    let found = items(&gateway, "sk-ada", "reason=sample").await;
    let path = format!("/review/{}", found[0]["id"].as_str().unwrap());
    let deciding = (0..8).map(|number| {
        let key = if number % 2 == 0 { "sk-ada" } else { "sk-bob" };
        let ask = gateway.ask("POST", &path).bearer(key).json(&json!({"decision": "approve"}));
        tokio::spawn(async move { ask.send().await.status })
    });
    let mut statuses = Vec::new();
    for status in deciding.collect::<Vec<_>>() {
        statuses.push(status.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test]
async fn what_is_cut_or_little_supported_waits_too_and_too_many_are_only_counted() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream, &json!({"review": {"max_open": 2}})).start().await;
    upstream.script([Act::say("Your number is 536-22-8741.")]);
    ask(&gateway, "Which number?").await;
    let found = items(&gateway, "sk-ada", "reason=blocked").await;
    assert_eq!(found.len(), 1);
    assert!(!found[0].to_string().contains("8741"), "{found:?}");
    // Answered from the handbook by a model that says what the handbook does not.
    let body = json!({"question": "How do I limit requests per user?", "user_id": "u", "mode": "rag"});
    gateway.ask("POST", "/query").bearer("sk-app").json(&body).send().await.expect(200);
    let found = items(&gateway, "sk-ada", "reason=low_confidence").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["confidence"].as_f64().unwrap() < 0.4);
    let page = gateway.get_as("sk-ada", "/review?limit=1").await.expect(200);
    let next = format!("limit=1&after={}", page["next"].as_str().unwrap());
    assert_eq!(items(&gateway, "sk-ada", &next).await[0]["reason"], "low_confidence");
    gateway.get_as("sk-ada", "/review?after=nope").await.expect(422);
    upstream.script([Act::failed()]);
    ask(&gateway, "third").await;
    let mut full = 0.0;
    for _ in 0..1000 {
        full = gateway.metric("sluice_review_items_total", &[("result", "full")]).await;
        if full > 0.0 {
            break;
        }
        tokio::time::sleep(ms(10)).await;
    }
    assert!(full > 0.0 && items(&gateway, "sk-ada", "").await.len() == 2);
    for wrong in ["status=done", "reason=x", "since=yesterday", "limit=0"] {
        gateway.get_as("sk-ada", &format!("/review?{wrong}")).await.expect(422);
    }
    assert!(items(&gateway, "sk-ada", "since=2100-01-01").await.is_empty());
}

#[tokio::test]
async fn an_erasure_takes_the_words_of_a_user_from_sessions_feedback_and_reviews() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let change = json!({"store": {"sqlite": folder.path().join("s.db")}, "review": {"sample": 1.0},
        "session": {"timeout": "10s"}, "audit": {"content": "masked"}});
    let gateway = setup(&upstream, &change).start().await;
    let body = json!({"question": "canary-7319 one", "user_id": "u", "session_id": "s", "mode": "chat"});
    let answer = gateway.ask("POST", "/query").bearer("sk-app").json(&body).send().await.expect(200);
    let words = json!({"request_id": answer["request_id"], "rating": 1, "feedback": "canary-7319 two"});
    rate(&gateway, "sk-app", &words, 201).await;
    assert!(!items(&gateway, "sk-ada", "").await.is_empty());
    let wanted = json!({"user_id": "u"});
    gateway.ask("POST", "/admin/erasures").bearer("sk-boss").json(&wanted).send().await.expect(200);
    let has = || {
        let files = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap());
        memchr::memmem::find(&files.flatten().collect::<Vec<u8>>(), b"canary-7319").is_some()
    };
    assert!(soon(ms(10_000), || !has()).await, "the words are still in the database's files");
    gateway.get_as("sk-app", "/sessions/s?user_id=u").await.expect(404);
    assert!(items(&gateway, "sk-ada", "").await.iter().all(|item| item["question"] == ""));
}
