//! `x-sluice-explain` and `/admin/simulate`: what each stage decided, for admins only.
use serde_json::{Value, json};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, client::Ask, key};

async fn start(primary: &Upstream, spare: &Upstream, a_minute: u32) -> Gateway {
    let mut admin = key("boss", "sk-admin");
    admin["roles"] = json!(["admin"]);
    let settings = json!({
        "auth": {"keys": [admin, key("app", "sk-app")]},
        "cache": {"enabled": true},
        "limits": {"requests_per_minute": {"global": a_minute}},
        "providers": {"primary": {"max_in_flight": 7}},
    });
    Setup::two(primary, Wire::OpenAi, spare).set(&settings).start().await
}

fn chat() -> Value {
    json!({"model": "main", "temperature": 0, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]})
}

fn question() -> Value {
    json!({"question": "Hi", "user_id": "u", "mode": "chat"})
}

fn explained(gateway: &Gateway, path: &str, body: &Value) -> Ask {
    gateway.ask("POST", path).bearer("sk-admin").header("x-sluice-explain", "1").json(body)
}

/// What a stage decided, the last time.
#[track_caller]
fn stage<'a>(explanation: &'a Value, name: &str) -> &'a Value {
    let stages = explanation["stages"].as_array().unwrap_or_else(|| panic!("no stages: {explanation}"));
    let found = stages.iter().rfind(|stage| stage["stage"] == name);
    found.unwrap_or_else(|| panic!("nothing of `{name}`: {explanation}"))
}

#[tokio::test]
async fn an_admin_hears_what_each_stage_decided() {
    let (primary, spare) = (Upstream::answering().await, Upstream::answering().await);
    let gateway = start(&primary, &spare, 100).await;
    primary.script([Act::failed(), Act::failed()]);
    let told = explained(&gateway, "/query", &question()).send().await.expect(200);
    let explain = &told["explain"];
    assert_eq!(stage(explain, "authorize")["route"], "main");
    assert_eq!(stage(explain, "admit")["priority"], "normal");
    assert_eq!(stage(explain, "cache")["decision"], "miss");
    assert_eq!(stage(explain, "bulkhead")["provider"], "primary");
    assert_eq!(stage(explain, "fallback")["error"], "upstream_failed");
    assert_eq!(explain["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(explain["answered_by"], "spare/model-b");
    assert!(explain["versions"]["config"].is_string());

    let again = explained(&gateway, "/v1/chat/completions", &chat()).send().await.expect(200);
    assert_eq!(again["choices"][0]["message"]["content"], "Hello from upstream.");
    assert_eq!(again["sluice"]["answered_by"], "primary/model-a");
    let hit = explained(&gateway, "/v1/chat/completions", &chat()).send().await.expect(200);
    assert_eq!(stage(&hit["sluice"], "cache")["decision"], "hit");
    let refused = explained(&gateway, "/query", &json!({"question": "Hi", "user_id": "u", "model": "gone"}));
    assert!(refused.send().await.expect(404)["explain"]["stages"].is_array());

    let mut stream = explained(&gateway, "/stream", &json!({"prompt": "Hi", "mode": "chat"})).stream().await;
    let frames = stream.rest().await;
    let usage = frames.iter().find(|frame| frame.event == "usage").unwrap().json();
    assert_eq!(stage(&usage["explain"], "admit")["stage"], "admit");
}

#[tokio::test]
async fn nobody_else_does() {
    let (primary, spare) = (Upstream::answering().await, Upstream::answering().await);
    let gateway = start(&primary, &spare, 100).await;
    let ask = |value: &str| {
        gateway.ask("POST", "/query").bearer("sk-app").header("x-sluice-explain", value).json(&question())
    };
    ask("1").send().await.expect(403);
    let plain = ask("0").send().await.expect(200);
    assert!(plain.get("explain").is_none());
    gateway.ask("POST", "/admin/simulate").bearer("sk-app").json(&question()).send().await.expect(403);
    gateway.ask("POST", "/admin/simulate").json(&question()).send().await.expect(401);
}

#[tokio::test]
async fn a_simulation_asks_nobody_and_leaves_nothing_behind() {
    let (primary, spare) = (Upstream::answering().await, Upstream::answering().await);
    let gateway = start(&primary, &spare, 3).await;
    let simulate = |body: &Value| gateway.ask("POST", "/admin/simulate").bearer("sk-admin").json(body).send();
    for body in [chat(), question()] {
        let told = simulate(&body).await.expect(200);
        assert_eq!((&told["simulated"], &told["outcome"]["status"]), (&json!(true), &json!(200)));
        let explain = &told["explain"];
        let targets = &stage(explain, "fallback")["targets"];
        assert_eq!((&targets[0]["model"], &targets[1]["model"]), (&json!("model-a"), &json!("model-b")));
        assert_eq!((&targets[0]["would"], &targets[0]["places"]["places"]), (&json!("be asked"), &json!(7)));
        assert!(targets[0]["cost_usd_at_most"].as_f64().unwrap() > 0.0);
        assert_eq!(stage(explain, "cache")["decision"], "miss");
        assert_eq!(explain["answered_by"], "primary/model-a");
        assert_eq!(explain["attempts"], json!([]));
    }
    let gone = simulate(&json!({"question": "Hi", "user_id": "u", "model": "gone"})).await.expect(200);
    assert_eq!(
        (&gone["outcome"]["status"], &gone["outcome"]["code"]),
        (&json!(404), &json!("model_not_found"))
    );
    simulate(&json!({"question": ""})).await.expect(422);
    assert_eq!((primary.asked(), spare.asked()), (0, 0));
    assert!(gateway.metric("ai_requests_total", &[("status", "success")]).await < 1.0);
    // Nothing was taken: all requests of this minute are left.
    let limit = |told: &Value| stage(&told["explain"], "limit")["requests"]["remaining"].clone();
    assert_eq!(limit(&simulate(&chat()).await.expect(200)), json!(3));
    // Nothing was kept: the real one is a miss.
    let real = explained(&gateway, "/v1/chat/completions", &chat()).send().await.expect(200);
    assert_eq!(stage(&real["sluice"], "cache")["decision"], "miss");
    assert_eq!(stage(&simulate(&chat()).await.expect(200)["explain"], "cache")["decision"], "hit");
    for _ in 0..2 {
        gateway.ask("POST", "/query").bearer("sk-app").json(&question()).send().await;
    }
    let full = simulate(&question()).await.expect(200);
    assert_eq!((&full["outcome"]["status"], &full["outcome"]["scope"]), (&json!(429), &json!("global")));
    assert_eq!(full["explain"]["answered_by"], "primary/model-a", "it tells the rest all the same");
    let records = gateway.audit(4).await;
    assert!(records.iter().any(|record| record["endpoint"] == "/admin/simulate"), "{records:?}");
}
