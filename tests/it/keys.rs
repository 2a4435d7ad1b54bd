//! Keys that are made, changed and revoked while gateways run.
use std::{
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Setup, Upstream, Wire, key, ms, servers};

fn admin(name: &str, text: &str, tenant: &str) -> Value {
    let mut row = key(name, text);
    row["tenant"] = tenant.into();
    row["roles"] = json!(["admin"]);
    row
}

/// The keys of these tests: who looks after all tenants, and after one each.
fn setup(upstream: &Upstream) -> Setup {
    let keys = [admin("root", "sk-root", "*"), admin("a", "sk-a", "a"), admin("b", "sk-b", "b")];
    Setup::one(Wire::OpenAi, upstream).set(&json!({"auth": {"keys": keys}}))
}

async fn ask(gateway: &Gateway, by: &str, method: &str, path: &str, body: &Value) -> Answer {
    let ask = gateway.ask(method, path).bearer(by);
    if body.is_null() { ask.send().await } else { ask.json(body).send().await }
}

/// A list of prices, without which no model may be used where a budget applies.
fn prices(folder: &tempfile::TempDir) -> Value {
    let prices = folder.path().join("prices.yaml");
    std::fs::write(&prices, "models:\n  model-a: {input: 1, output: 2}\nunknown: {input: 5, output: 15}\n")
        .unwrap();
    json!({"prices": prices})
}

async fn make(gateway: &Gateway, by: &str, body: &Value) -> (String, String) {
    let made = ask(gateway, by, "POST", "/admin/keys", body).await.expect(201);
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    ask(gateway, key, "GET", "/v1/models", &Value::Null).await.status
}

#[tokio::test]
async fn a_key_is_made_listed_changed_and_revoked() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let wanted = json!({"name": "billing", "models": ["solo"], "limits": {"burst": 3}, "budget": {"day_usd": 1.5}, "expires": "2099-01-31"});
    let made = ask(&gateway, "sk-a", "POST", "/admin/keys", &wanted).await;
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.expect(201);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(
        (&made["tenant"], &made["created_by"], &made["roles"]),
        (&json!("a"), &json!("a"), &json!(["app"]))
    );
    assert_eq!((&made["expires"], &made["budget"]["day_usd"]), (&json!("2099-01-31T00:00:00Z"), &json!(1.5)));
    assert_eq!(status(&gateway, key).await, 200, "it opens at once");
    let models = ask(&gateway, key, "GET", "/v1/models", &Value::Null).await.expect(200);
    assert_eq!(models["data"].as_array().unwrap().len(), 1, "{models}");

    let path = format!("/admin/keys/{id}");
    let shown = ask(&gateway, "sk-a", "GET", &path, &Value::Null).await.expect(200);
    assert!(shown["key"].is_null() && shown["name"] == "billing", "{shown}");
    let changed = ask(&gateway, "sk-a", "PATCH", &path, &json!({"models": null, "limits": {"in_flight": 2}}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["models"], &changed["limits"]["burst"], &changed["budget"]["day_usd"]),
        (&Value::Null, &Value::Null, &json!(1.5))
    );
    assert!(
        ask(&gateway, key, "GET", "/v1/models", &Value::Null).await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len()
            > 1
    );
    let again = ask(&gateway, "sk-a", "POST", "/admin/keys", &json!({"name": "billing"})).await;
    assert_eq!(again.expect(409)["type"], "urn:sluice:problem:conflict");

    for _ in 0..2 {
        let revoked = ask(&gateway, "sk-a", "DELETE", &path, &Value::Null).await.expect(200);
        assert!(revoked["revoked_at"].is_string());
    }
    assert_eq!(status(&gateway, key).await, 401);
    ask(&gateway, "sk-a", "PATCH", &path, &json!({"name": "x"})).await.expect(409);
    // The name is free again.
    make(&gateway, "sk-a", &json!({"name": "billing"})).await;
    let log = gateway.log();
    for line in ["key created", "key changed", "key revoked"] {
        assert!(
            log.lines().any(|l| l.contains(line) && l.contains(id) && l.contains("\"by_id\":\"a\"")),
            "{line}\n{log}"
        );
    }
    assert!(!log.contains(key), "the key is in the log");
    assert!(gateway.metric("sluice_keys_loaded", &[]).await > 3.5);
}

#[tokio::test]
async fn a_new_key_is_in_no_kept_reply() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let again = async || {
        let ask = gateway.ask("POST", "/admin/keys").bearer("sk-a").header("idempotency-key", "once");
        ask.json(&json!({"name": "x"})).send().await
    };
    again().await.expect(201);
    let second = again().await;
    assert_eq!((second.status, second.header("idempotency-replayed")), (409, None), "{}", second.text());
}

#[tokio::test]
async fn keys_are_listed_page_by_page_and_only_those_of_the_tenant() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    for number in 0..5 {
        make(&gateway, "sk-a", &json!({"name": format!("a{number}")})).await;
        make(&gateway, "sk-root", &json!({"name": format!("b{number}"), "tenant": "b"})).await;
    }
    let pages = async |by: &str, more: &str| {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/keys?limit=2&after={after}{more}");
            let page = ask(&gateway, by, "GET", &path, &Value::Null).await.expect(200);
            let keys = page["keys"].as_array().unwrap();
            assert!(keys.len() <= 2 && keys.iter().all(|key| key["key"].is_null()));
            names.extend(keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => return names,
            }
        }
    };
    assert_eq!(pages("sk-a", "").await, ["a0", "a1", "a2", "a3", "a4"]);
    assert_eq!(
        pages("sk-a", "&tenant=b").await,
        ["a0", "a1", "a2", "a3", "a4"],
        "asking for others changes nothing"
    );
    assert_eq!(pages("sk-root", "&tenant=b").await, ["b0", "b1", "b2", "b3", "b4"]);
    assert_eq!(pages("sk-root", "").await.len(), 10);
    ask(&gateway, "sk-a", "GET", "/admin/keys?limit=0", &Value::Null).await.expect(422);
}

#[tokio::test]
async fn nobody_gives_away_what_they_do_not_have() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let wanted = json!({"name": "narrow", "roles": ["admin"], "models": ["main"], "limits": {"requests_per_minute": 5},
        "budget": {"month_usd": 2}, "expires": "2090-01-01"});
    let (id, narrow) = make(&gateway, "sk-a", &wanted).await;
    let own = json!({"models": ["main"], "limits": {"requests_per_minute": 5}, "budget": {"month_usd": 2}, "expires": "2090-01-01"});
    let with = |change: Value| {
        let mut wanted = own.clone();
        wanted["name"] = "child".into();
        for (name, value) in change.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        wanted
    };
    for more in [
        json!({"models": null}),
        json!({"models": ["main", "solo"]}),
        json!({"limits": {"requests_per_minute": 6}}),
        json!({"limits": {}}),
        json!({"budget": {"month_usd": 3}}),
        json!({"budget": {"day_usd": 1}}),
        json!({"expires": "2091-01-01"}),
        json!({"expires": null}),
        json!({"tenant": "b"}),
        json!({"tenant": "nobody"}),
    ] {
        let refused = ask(&gateway, &narrow, "POST", "/admin/keys", &with(more.clone())).await;
        assert_eq!(refused.status, 403, "{more}: {}", refused.text());
    }
    let (child, _) = make(&gateway, &narrow, &with(json!({"roles": ["admin", "reviewer"]}))).await;
    // Nor by a change, of itself or of another.
    for id in [&child, &id] {
        let path = format!("/admin/keys/{id}");
        ask(&gateway, &narrow, "PATCH", &path, &json!({"models": null})).await.expect(403);
        ask(&gateway, &narrow, "PATCH", &path, &json!({"name": "renamed"})).await.expect(200);
        ask(&gateway, &narrow, "PATCH", &path, &json!({"name": id})).await.expect(200);
    }
    let (wide, _) = make(&gateway, "sk-a", &json!({"name": "wide"})).await;
    ask(&gateway, &narrow, "PATCH", &format!("/admin/keys/{wide}"), &json!({"name": "mine"}))
        .await
        .expect(403);
    // Of all tenants there is no key but in the configuration, and such a key asks no model.
    ask(&gateway, "sk-root", "POST", "/admin/keys", &json!({"name": "x", "tenant": "*"})).await.expect(422);
    ask(&gateway, "sk-root", "POST", "/admin/keys", &json!({"name": "x"})).await.expect(422);
    ask(&gateway, "sk-root", "POST", "/query", &json!({"question": "Hi", "user_id": "u"})).await.expect(403);
}

#[tokio::test]
async fn nobody_touches_a_key_that_has_more() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let own = json!({"roles": ["admin"], "models": ["main"], "max_priority": "normal"});
    let named = |name: &str, more: &Value| {
        let mut wanted = own.clone();
        wanted["name"] = name.into();
        for (field, value) in more.as_object().unwrap() {
            wanted[field] = value.clone();
        }
        wanted
    };
    let (_, narrow) = make(&gateway, "sk-a", &named("narrow", &json!({}))).await;
    for (name, more) in [
        ("all models", json!({"models": null})),
        ("more models", json!({"models": ["main", "solo"]})),
        ("more urgent", json!({"max_priority": "high"})),
        ("as urgent as can be", json!({"max_priority": null})),
        ("no admin, all models", json!({"roles": ["app"], "models": null})),
    ] {
        let (id, key) = make(&gateway, "sk-a", &named(name, &more)).await;
        let path = format!("/admin/keys/{id}");
        // Not even to make less of it.
        for (method, body) in [
            ("DELETE", Value::Null),
            ("PATCH", json!({"name": "mine"})),
            ("PATCH", json!({"models": ["main"], "max_priority": "low"})),
        ] {
            let refused = ask(&gateway, &narrow, method, &path, &body).await;
            assert_eq!(refused.status, 403, "{name}, {method}: {}", refused.text());
        }
        assert_eq!(status(&gateway, &key).await, 200, "{name} still opens");
        ask(&gateway, "sk-a", "DELETE", &path, &Value::Null).await.expect(200);
    }
    let (id, _) = make(&gateway, &narrow, &named("equal", &json!({"max_priority": "low"}))).await;
    let path = format!("/admin/keys/{id}");
    ask(&gateway, &narrow, "PATCH", &path, &json!({"max_priority": "normal"})).await.expect(200);
    ask(&gateway, &narrow, "PATCH", &path, &json!({"max_priority": "high"})).await.expect(403);
    ask(&gateway, &narrow, "DELETE", &path, &Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_is_past_and_what_is_no_page_is_refused() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    for past in ["2020-01-31", "2020-01-31T12:00:00Z", "1969-01-01"] {
        let wanted = json!({"name": "x", "expires": past});
        let refused = ask(&gateway, "sk-a", "POST", "/admin/keys", &wanted).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], "expires", "{refused}");
    }
    let (id, key) = make(&gateway, "sk-a", &json!({"name": "x"})).await;
    let path = format!("/admin/keys/{id}");
    ask(&gateway, "sk-a", "PATCH", &path, &json!({"expires": "2020-01-31"})).await.expect(422);
    assert_eq!(status(&gateway, &key).await, 200);
    for junk in ["junk", "key-", "key-0", "%27%3B", &format!("key-{}", "G".repeat(32))] {
        let refused = ask(&gateway, "sk-a", "GET", &format!("/admin/keys?after={junk}"), &Value::Null).await;
        assert_eq!(refused.expect(422)["errors"][0]["field"], "after", "{junk}");
    }
    for good in ["", &id] {
        ask(&gateway, "sk-a", "GET", &format!("/admin/keys?after={good}"), &Value::Null).await.expect(200);
    }
}

#[tokio::test]
async fn a_key_is_as_urgent_as_it_may_be() {
    let upstream = Upstream::answering().await;
    let mut row = key("calm", "sk-calm");
    row["max_priority"] = "normal".into();
    let gateway =
        setup(&upstream).set(&json!({"auth": {"keys": [admin("a", "sk-a", "a"), row]}})).start().await;
    let (_, low) = make(&gateway, "sk-a", &json!({"name": "low", "max_priority": "low"})).await;
    let (_, free) = make(&gateway, "sk-a", &json!({"name": "free"})).await;
    let chat = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    for (who, priority, status) in [
        ("sk-calm", "high", 403),
        ("sk-calm", "normal", 200),
        ("sk-calm", "low", 200),
        (&low, "normal", 403),
        (&low, "low", 200),
        (&free, "high", 200),
    ] {
        let asked = gateway.ask("POST", "/v1/chat/completions").bearer(who).header("x-priority", priority);
        let answer = asked.json(&chat).send().await;
        assert_eq!(answer.status, status, "{who} {priority}: {}", answer.text());
        let question = json!({"question": "Hi", "user_id": "u", "mode": "chat", "priority": priority});
        let answer = gateway.ask("POST", "/query").bearer(who).json(&question).send().await;
        assert_eq!(answer.status, status, "{who} {priority}: {}", answer.text());
    }
    // Who says nothing is as urgent as they may be.
    let answer = gateway.ask("POST", "/v1/chat/completions").bearer(&low).json(&chat).send().await;
    answer.expect(200);
}

#[tokio::test]
async fn a_key_made_anew_has_no_second_budget() {
    let (upstream, folder) = (Upstream::answering().await, tempfile::tempdir().unwrap());
    let gateway = setup(&upstream).set(&prices(&folder)).start().await;
    let wanted =
        json!({"name": "billing", "budget": {"day_usd": 0.02}, "limits": {"requests_per_minute": 3}});
    let chat = json!({"model": "main", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]});
    let chats = async |key: &str| {
        let answer = gateway.ask("POST", "/v1/chat/completions").bearer(key).json(&chat).send().await;
        answer.status
    };
    let (mut accounts, mut allowed) = (Vec::new(), 0);
    for _ in 0..3 {
        let made = ask(&gateway, "sk-a", "POST", "/admin/keys", &wanted).await.expect(201);
        let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
        accounts.push(made["account"].as_str().unwrap().to_owned());
        for _ in 0..2 {
            allowed += usize::from(chats(key).await == 200);
        }
        ask(&gateway, "sk-a", "DELETE", &format!("/admin/keys/{id}"), &Value::Null).await.expect(200);
        assert_eq!(chats(key).await, 401);
    }
    assert_eq!(allowed, 3, "three a minute, however often the key is made anew");
    assert!(accounts.iter().all(|account| *account == accounts[0]), "{accounts:?}");
    let other = ask(&gateway, "sk-a", "POST", "/admin/keys", &json!({"name": "other"})).await.expect(201);
    assert_eq!(other["account"], other["id"]);
    let elsewhere = json!({"name": "billing", "tenant": "b"});
    let elsewhere = ask(&gateway, "sk-root", "POST", "/admin/keys", &elsewhere).await.expect(201);
    assert_eq!(elsewhere["account"], elsewhere["id"], "a name is a tenant's own");
    let shown = ask(&gateway, "sk-a", "GET", "/admin/budgets", &Value::Null).await.expect(200);
    let own: Vec<&Value> =
        shown["budgets"].as_array().unwrap().iter().filter(|budget| budget["scope"] == "key").collect();
    assert_eq!((own.len(), &own[0]["name"]), (1, &json!(accounts[0])), "{shown}");
}

#[tokio::test]
async fn who_looks_after_all_tenants_sees_all_budgets() {
    let (upstream, folder) = (Upstream::answering().await, tempfile::tempdir().unwrap());
    let budget = json!({"budget": {"global": {"day_usd": 5}, "tenant": {"day_usd": 1}}});
    let keys = [admin("root", "sk-root", "*"), admin("a", "sk-a", "a"), admin("d", "sk-d", "default")];
    let setup = Setup::one(Wire::OpenAi, &upstream).set(&budget).set(&prices(&folder));
    let gateway = setup.set(&json!({"auth": {"keys": keys}})).start().await;
    let chat = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    for who in ["sk-a", "sk-d"] {
        gateway.ask("POST", "/v1/chat/completions").bearer(who).json(&chat).send().await.expect(200);
    }
    let seen = async |who: &str| {
        let shown = ask(&gateway, who, "GET", "/admin/budgets", &Value::Null).await.expect(200);
        let budgets = shown["budgets"].as_array().unwrap().clone();
        let mut seen: Vec<String> = budgets
            .iter()
            .map(|one| {
                format!("{} {}", one["scope"].as_str().unwrap(), one["tenant"].as_str().unwrap_or("-"))
            })
            .collect();
        seen.sort();
        seen
    };
    assert_eq!(seen("sk-a").await, ["tenant a"]);
    assert_eq!(seen("sk-d").await, ["global -", "tenant default"]);
    assert_eq!(seen("sk-root").await, ["global -", "tenant a", "tenant default"]);
}

#[tokio::test]
async fn every_mistake_of_a_wish_is_told_and_none_makes_a_key() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let bad = json!({"name": "", "roles": ["king"], "modles": ["main"], "endpoints": ["/qury"], "expires": "soon",
        "limits": {"requests_per_minute": 0, "burts": 1}, "budget": {"day_usd": -1}});
    let refused = ask(&gateway, "sk-a", "POST", "/admin/keys", &bad).await.expect(422);
    let told: Vec<&str> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    for field in ["name", "roles", "modles", "endpoints", "expires", "limits", "budget"] {
        assert!(told.iter().any(|told| told.starts_with(field)), "`{field}` is not among {told:?}");
    }
    let zero = json!({"name": "x", "limits": {"requests_per_minute": 0}});
    ask(&gateway, "sk-a", "POST", "/admin/keys", &zero).await.expect(422);
    let keys = ask(&gateway, "sk-a", "GET", "/admin/keys", &Value::Null).await.expect(200);
    assert_eq!(keys["keys"], json!([]));
}

#[tokio::test]
async fn keys_outlive_the_gateway_and_are_stored_as_what_nobody_can_use() {
    let upstream = Upstream::answering().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("sluice.db");
    let store = json!({"store": {"sqlite": place}});
    let gateway = setup(&upstream).set(&store).start().await;
    let (id, key) = make(&gateway, "sk-a", &json!({"name": "lasting"})).await;
    let (_, gone) = make(&gateway, "sk-a", &json!({"name": "gone"})).await;
    drop(gateway);
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(
            !bytes.windows(key.len()).any(|part| part == key.as_bytes()),
            "{:?} has the key",
            file.path()
        );
    }
    let pepper = folder.path().join("sluice.pepper");
    assert_eq!(std::fs::metadata(&pepper).unwrap().permissions().mode() & 0o777, 0o600);

    // Without a key in the configuration the stored ones still close the door.
    let keyless = Setup::one(Wire::OpenAi, &upstream).set(&store);
    let gateway = keyless.start().await;
    assert_eq!((status(&gateway, &key).await, status(&gateway, &gone).await), (200, 200));
    gateway.get("/v1/models").await.expect(401);
    drop(gateway);
    let gateway = setup(&upstream).set(&store).start().await;
    for id in [&id, &make(&gateway, "sk-a", &json!({"name": "other"})).await.0] {
        ask(&gateway, "sk-a", "DELETE", &format!("/admin/keys/{id}"), &Value::Null).await.expect(200);
    }
    assert_eq!((status(&gateway, &key).await, status(&gateway, &gone).await), (401, 200));
    drop(gateway);

    // Another pepper opens nothing: better to hear it at the start.
    std::fs::write(&pepper, "another pepper of thirty-two letters").unwrap();
    let refused = refused_start(&place, None);
    assert!(refused.contains("not the one"), "{refused}");
}

/// What a gateway says that does not start.
fn refused_start(sqlite: &std::path::Path, postgres: Option<&str>) -> String {
    let mut command = Command::new(crate::support::gateway::binary());
    command
        .args(["--listen", "127.0.0.1:0"])
        .env("SLUICE__STORE__SQLITE", sqlite)
        .env("SLUICE__AUDIT__FOLDER", sqlite.with_extension("audit"));
    if let Some(url) = postgres {
        command.env("TEST_POSTGRES", url).env("SLUICE__STORE__POSTGRES", "{env: TEST_POSTGRES}");
    }
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_key_revoked_on_one_gateway_is_refused_on_the_other_within_a_second() {
    let server = servers::Postgres::start().await;
    let upstream = Upstream::answering().await;
    let shared =
        json!({"store": {"postgres": {"env": "TEST_POSTGRES"}}, "auth": {"pepper": {"env": "TEST_PEPPER"}}});
    let start = async || {
        let setup = setup(&upstream).set(&shared).env("TEST_POSTGRES", &server.url());
        setup.env("TEST_PEPPER", "a pepper that both gateways were given").start().await
    };
    let (one, two) = (start().await, start().await);
    let (id, key) = make(&one, "sk-a", &json!({"name": "shared"})).await;
    let turns = async |gateway: &Gateway, wanted: u16| {
        let began = Instant::now();
        while status(gateway, &key).await != wanted {
            assert!(began.elapsed() < Duration::from_secs(20), "never {wanted}");
            tokio::time::sleep(ms(10)).await;
        }
        began.elapsed()
    };
    let known = turns(&two, 200).await;
    ask(&two, "sk-a", "DELETE", &format!("/admin/keys/{id}"), &Value::Null).await.expect(200);
    assert_eq!(status(&two, &key).await, 401, "where it was revoked, at once");
    let refused = turns(&one, 401).await;
    println!("known after {known:?}, refused after {refused:?}");
    // 0.4 s by itself; the machine may be busy.
    assert!(refused < Duration::from_secs(3), "{refused:?}");
    assert!(one.metric("sluice_keys_refresh_age_seconds", &[]).await < 20.0);

    // Without the database keys still open, and changes are refused in words.
    let (_, kept) = make(&one, "sk-a", &json!({"name": "kept"})).await;
    server.freeze();
    assert_eq!(status(&one, &kept).await, 200);
    server.thaw();
    drop((one, two));
    let folder = tempfile::tempdir().unwrap();
    let refused = refused_start(&folder.path().join("unused.db"), Some(&server.url()));
    assert!(refused.contains("auth.pepper"), "{refused}");
}

#[tokio::test]
async fn the_command_line_makes_lists_and_revokes_keys_of_a_running_gateway() {
    let upstream = Upstream::answering().await;
    let gateway = setup(&upstream).start().await;
    let sluice = |arguments: &[&str], key: &str| {
        let mut command = Command::new(crate::support::gateway::binary());
        let output = command
            .args(arguments)
            .args(["--at", &gateway.url()])
            .env("SLUICE_ADMIN_KEY", key)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), told.into_owned())
    };
    // The gateway is a child process: waiting here for another holds up nothing.
    let (good, told) =
        sluice(&["key", "new", "cli", "--tenant", "b", "--role", "app", "--model", "main"], "sk-root");
    assert!(good, "{told}");
    let word = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (key, id) = (word("key (shown this once):"), word("id:"));
    assert_eq!(status(&gateway, &key).await, 200);
    let (good, told) = sluice(&["key", "list"], "sk-b");
    assert!(good && told.contains(&id) && told.contains("good") && !told.contains(&key), "{told}");
    let (good, told) = sluice(&["key", "revoke", &id], "sk-a");
    assert!(!good && told.contains("404"), "{told}");
    let (good, told) = sluice(&["key", "revoke", &id], "sk-b");
    assert!(good, "{told}");
    assert_eq!(status(&gateway, &key).await, 401);
    assert!(!sluice(&["key", "list"], "wrong").0);
}
