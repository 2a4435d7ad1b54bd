//! What a reviewer approved or edited is given to equal questions of the tenant, by the cache.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, key, ms, soon};

const RIGHT: &str = "Tea is a drink.";

fn setup(upstream: &Upstream) -> Setup {
    let row = |name: &str, tenant: &str, roles: &[&str]| {
        let mut row = key(name, &format!("sk-{name}"));
        row["tenant"] = tenant.into();
        row["roles"] = json!(roles);
        row
    };
    let keys = [row("boss", "t1", &["admin"]), row("other", "t2", &["app"])];
    Setup::one(Wire::OpenAi, upstream).set(&json!({
        "auth": {"keys": keys},
        "cache": {"enabled": true, "ttl": "50ms"},
        "review": {"cache": true, "sample": 1.0},
        "audit": {"file": null},
    }))
}

async fn ask(gateway: &Gateway, key: &str, question: &str) -> Value {
    let body = json!({"question": question, "user_id": "u", "mode": "chat"});
    gateway.ask("POST", "/query").bearer(key).json(&body).send().await.expect(200)
}

/// Asks until the answer is this one: decisions are taken up a moment later.
async fn until(gateway: &Gateway, question: &str, answer: &str) -> Value {
    for _ in 0..500 {
        let told = ask(gateway, "sk-boss", question).await;
        if told["answer"] == answer {
            return told;
        }
        tokio::time::sleep(ms(20)).await;
    }
    panic!("`{question}` is not answered with `{answer}`:\n{}", gateway.log());
}

/// Decides the oldest open item of a question.
async fn decide(gateway: &Gateway, question: &str, decision: &Value) -> String {
    let mut found = None;
    for _ in 0..100 {
        let listed = gateway.get_as("sk-boss", "/review?status=open&limit=200").await.expect(200);
        found = listed["items"].as_array().unwrap().iter().find(|item| item["question"] == question).cloned();
        if found.is_some() {
            break;
        }
        tokio::time::sleep(ms(20)).await;
    }
    let id = found.expect("an item")["id"].as_str().unwrap().to_owned();
    send(gateway, &id, decision).await;
    id
}

async fn send(gateway: &Gateway, id: &str, decision: &Value) {
    gateway.ask("POST", &format!("/review/{id}")).bearer("sk-boss").json(decision).send().await.expect(200);
}

#[tokio::test]
async fn an_edited_answer_is_given_to_its_tenant_until_it_is_taken_back() {
    let upstream = Upstream::start(Act::say("Tea is a star.")).await;
    let mut gateway = setup(&upstream).start().await;
    let question = "What is tea?";
    ask(&gateway, "sk-boss", question).await;
    let edit = json!({"decision": "edit", "answer": RIGHT});
    let id = decide(&gateway, question, &edit).await;
    let told = until(&gateway, question, RIGHT).await;
    assert_eq!(
        (&told["cache"], &told["source"], &told["confidence"]),
        (&json!("exact"), &json!("cache"), &json!(1.0))
    );
    let path = format!("/audit/{}", told["request_id"].as_str().unwrap());
    assert_eq!(gateway.get_as("sk-boss", &path).await.expect(200)["record"]["approved"], *id);
    let body = json!({"prompt": question, "user_id": "another", "mode": "chat"});
    let mut stream = gateway.ask("POST", "/stream").bearer("sk-boss").json(&body).stream().await;
    assert_eq!(stream.messages().await, [RIGHT, "[DONE]"]);
    assert_eq!(ask(&gateway, "sk-other", question).await["answer"], "Tea is a star.", "another tenant's");
    // It outlives the process.
    gateway.signal("TERM");
    gateway.exit(ms(20_000)).await.unwrap();
    gateway.restart().await;
    until(&gateway, question, RIGHT).await;
    send(&gateway, &id, &json!({"decision": "reject"})).await;
    until(&gateway, question, "Tea is a star.").await;
}

#[tokio::test]
async fn a_bad_rating_that_a_reviewer_agrees_with_ends_it_and_so_does_an_erasure() {
    let upstream = Upstream::start(Act::say("Tea is a star.")).await;
    let gateway = setup(&upstream).start().await;
    for question in ["What is tea?", "What is coffee?"] {
        ask(&gateway, "sk-boss", question).await;
        decide(&gateway, question, &json!({"decision": "approve"})).await;
        // It says the same, but for good.
        let approved = async || {
            let told = ask(&gateway, "sk-boss", question).await;
            told["confidence"] == 1.0
        };
        let mut is = approved().await;
        for _ in 0..500 {
            if is {
                break;
            }
            tokio::time::sleep(ms(20)).await;
            is = approved().await;
        }
        assert!(is, "{}", gateway.log());
    }
    let told = until(&gateway, "What is tea?", "Tea is a star.").await;
    let bad = json!({"request_id": told["request_id"], "rating": 1, "feedback": "it is not"});
    gateway.ask("POST", "/feedback").bearer("sk-boss").json(&bad).send().await.expect(201);
    let listed =
        async || gateway.get_as("sk-boss", "/review?reason=feedback").await.expect(200)["items"].clone();
    let mut items = listed().await;
    for _ in 0..100 {
        if items.as_array().is_some_and(|items| !items.is_empty()) {
            break;
        }
        tokio::time::sleep(ms(20)).await;
        items = listed().await;
    }
    let golden = || gateway.sluice(&["golden", "export"]).1;
    assert!(golden().contains("What is tea?"));
    let approved = items[0]["approved_item"].as_str().expect("the item that it was approved by").to_owned();
    upstream.script([Act::say("Tea is a leaf.")]);
    send(&gateway, items[0]["id"].as_str().unwrap(), &json!({"decision": "reject"})).await;
    until(&gateway, "What is tea?", "Tea is a leaf.").await;
    // Nor is it a golden item any more.
    assert!(!golden().contains("What is tea?") && golden().contains("What is coffee?"), "{}", golden());
    let first = gateway.get_as("sk-boss", &format!("/review/{approved}")).await.expect(200);
    assert_eq!((&first["status"], &first["decided_by"]), (&json!("rejected"), &json!("boss")), "{first}");

    let erase = gateway.ask("POST", "/admin/erasures").bearer("sk-boss").json(&json!({"user_id": "u"}));
    erase.send().await.expect(200);
    upstream.script([Act::say("Coffee is a bean."), Act::say("Coffee is a bean.")]);
    until(&gateway, "What is coffee?", "Coffee is a bean.").await;
}

#[tokio::test]
async fn another_item_of_the_same_question_that_is_rejected_takes_nothing_back() {
    let upstream = Upstream::start(Act::say("Tea is a star.")).await;
    let gateway = setup(&upstream).start().await;
    let question = "What is tea?";
    ask(&gateway, "sk-boss", question).await;
    tokio::time::sleep(ms(60)).await;
    ask(&gateway, "sk-boss", question).await;
    decide(&gateway, question, &json!({"decision": "edit", "answer": RIGHT})).await;
    until(&gateway, question, RIGHT).await;
    decide(&gateway, question, &json!({"decision": "reject"})).await;
    // Decisions are read in their order: when this one is there, that one is.
    ask(&gateway, "sk-boss", "What is coffee?").await;
    decide(&gateway, "What is coffee?", &json!({"decision": "edit", "answer": "A bean."})).await;
    until(&gateway, "What is coffee?", "A bean.").await;
    assert_eq!(ask(&gateway, "sk-boss", question).await["answer"], RIGHT);
}

#[tokio::test]
async fn an_approved_answer_that_says_that_it_does_not_know_is_not_sure_and_is_given_as_it_is() {
    let unknown = "I don't know: the documents do not say anything about this.";
    let upstream = Upstream::start(Act::say(unknown)).await;
    let settings =
        json!({"confidence": {"min": 0.4, "answer": "Ask a person, please."}, "cache": {"ttl": "50ms"}});
    let gateway = setup(&upstream).set(&settings).start().await;
    let question = json!({"question": "How do I limit requests per user?", "user_id": "u", "mode": "rag"});
    let ask =
        async || gateway.ask("POST", "/query").bearer("sk-boss").json(&question).send().await.expect(200);
    assert_eq!(ask().await["fallback"], true);
    decide(&gateway, "How do I limit requests per user?", &json!({"decision": "approve"})).await;
    let mut told = ask().await;
    for _ in 0..500 {
        if told["answer"] == unknown {
            break;
        }
        tokio::time::sleep(ms(20)).await;
        told = ask().await;
    }
    assert_eq!(
        (&told["answer"], &told["source"], &told["fallback"], &told["confidence"]),
        (&json!(unknown), &json!("cache"), &json!(false), &json!(0.0)),
        "{told}"
    );
}

#[tokio::test]
async fn another_configuration_or_none_of_it_gives_no_approved_answer() {
    let upstream = Upstream::start(Act::say("Tea is a star.")).await;
    let mut gateway = setup(&upstream).start().await;
    let question = "What is tea?";
    ask(&gateway, "sk-boss", question).await;
    decide(&gateway, question, &json!({"decision": "edit", "answer": RIGHT})).await;
    until(&gateway, question, RIGHT).await;
    // Documents, prompts and rules are part of what it is kept under.
    gateway.rewrite(&json!({"knowledge": {"passages": 5}}));
    gateway.signal("HUP");
    assert!(soon(ms(10_000), || gateway.log().contains("\"reloaded\"")).await, "{}", gateway.log());
    assert_eq!(ask(&gateway, "sk-boss", question).await["answer"], "Tea is a star.");

    let upstream = Upstream::start(Act::say("Tea is a star.")).await;
    let gateway = setup(&upstream).set(&json!({"review": {"cache": false}})).start().await;
    ask(&gateway, "sk-boss", question).await;
    decide(&gateway, question, &json!({"decision": "edit", "answer": RIGHT})).await;
    tokio::time::sleep(ms(200)).await;
    assert_eq!(ask(&gateway, "sk-boss", question).await["answer"], "Tea is a star.", "that is the default");
}

#[tokio::test]
async fn what_is_decided_about_a_badly_rated_answer_holds_for_equal_questions() {
    let upstream = Upstream::start(Act::say("Tea is a star.")).await;
    let settings = json!({"review": {"sample": 0.0, "low_confidence": 0.0}, "cache": {"ttl": "1h"}});
    let gateway = setup(&upstream).set(&settings).start().await;
    let bad = async |told: &Value| {
        let bad = json!({"request_id": told["request_id"], "rating": 1, "feedback": "it is not"});
        gateway.ask("POST", "/feedback").bearer("sk-boss").json(&bad).send().await.expect(201);
    };
    let question = "What is tea?";
    bad(&ask(&gateway, "sk-boss", question).await).await;
    decide(&gateway, question, &json!({"decision": "edit", "answer": RIGHT})).await;
    assert_eq!(until(&gateway, question, RIGHT).await["cache"], "exact");
    // Also where the one who rates it got it from the cache.
    let question = "What is coffee?";
    ask(&gateway, "sk-boss", question).await;
    let told = ask(&gateway, "sk-boss", question).await;
    assert_eq!(told["cache"], "exact");
    bad(&told).await;
    decide(&gateway, question, &json!({"decision": "edit", "answer": "Coffee is a bean."})).await;
    until(&gateway, question, "Coffee is a bean.").await;
    // One that is rejected is not given from the cache any more.
    let question = "What is milk?";
    bad(&ask(&gateway, "sk-boss", question).await).await;
    upstream.set_default(Act::say("Milk is white."));
    decide(&gateway, question, &json!({"decision": "reject"})).await;
    until(&gateway, question, "Milk is white.").await;
}
