//! Who may ask what.
use serde_json::{Value, json};

use crate::support::{Gateway, Setup, Upstream, Wire, client::Ask, key};

fn chat() -> Value {
    json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]})
}

fn question() -> Value {
    json!({"question": "Hi", "user_id": "u1", "mode": "chat"})
}

async fn gateway(upstream: &Upstream, change: &Value) -> Gateway {
    let keys = json!({"auth": {"keys": [key("app", "sk-app")]}});
    Setup::one(Wire::OpenAi, upstream).set(&keys).set(change).start().await
}

#[tokio::test]
async fn a_good_key_opens_in_either_header() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream, &json!({})).await;
    for (path, body) in [("/query", question()), ("/v1/chat/completions", chat())] {
        let ask = || gateway.ask("POST", path).json(&body);
        ask().bearer("sk-app").send().await.expect(200);
        ask().header("x-api-key", "sk-app").send().await.expect(200);
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer sk-provider")));
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_refused_in_the_shape_of_the_api() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream, &json!({})).await;
    let ask = |path: &str, body: &Value| gateway.ask("POST", path).json(body);
    let missing = ask("/query", &question()).send().await;
    assert_eq!(missing.expect(401)["detail"], "Invalid API key");
    assert!(missing.header("www-authenticate").unwrap().starts_with("Bearer"));
    assert_eq!(
        ask("/query", &question()).bearer("wrong").send().await.expect(401)["detail"],
        "Invalid API key"
    );
    let by_header = |ask: Ask| ask.header("x-api-key", "wrong").send();
    assert_eq!(by_header(ask("/query", &question())).await.expect(403)["detail"], "Invalid API key");
    let body = by_header(ask("/v1/chat/completions", &chat())).await.expect(401);
    assert_eq!(body["error"]["code"], "invalid_api_key");
    let body = by_header(ask("/v1/messages", &chat())).await.expect(401);
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("authentication_error")));
    let two =
        ask("/query", &question()).bearer("sk-app").header("authorization", "Bearer other").send().await;
    two.expect(401);
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test]
async fn the_body_of_a_stranger_is_not_read() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream, &json!({})).await;
    let ask = gateway.ask("POST", "/query").header("expect", "100-continue").body("application/json", b"{");
    assert_eq!(ask.send().await.status, 401, "not a word about the JSON");
}

#[tokio::test]
async fn a_key_may_use_only_its_models_and_ends_on_its_day() {
    let upstream = Upstream::answering().await;
    let (mut narrow, mut old) = (key("narrow", "sk-narrow"), key("old", "sk-old"));
    narrow["models"] = json!(["solo"]);
    old["expires"] = "2020-01-01T00:00:00Z".into();
    let gateway = gateway(&upstream, &json!({"auth": {"keys": [narrow, old]}})).await;
    let ask =
        |key: &str, body: &Value| gateway.ask("POST", "/v1/chat/completions").bearer(key).json(body).send();
    let refused = ask("sk-narrow", &chat()).await.expect(404);
    assert_eq!(refused["error"]["code"], "model_not_found");
    let mut asked = chat();
    asked["model"] = "solo".into();
    ask("sk-narrow", &asked).await.expect(200);
    ask("sk-old", &asked).await.expect(401);
}

#[tokio::test]
async fn event_source_may_carry_the_key_in_the_url_only_where_that_is_on() {
    let upstream = Upstream::answering().await;
    let path = "/stream?prompt=Hi&mode=chat&api_key=sk-app";
    let off = gateway(&upstream, &json!({})).await;
    assert_eq!(off.get(path).await.status, 401);
    let on = gateway(&upstream, &json!({"auth": {"query_key": true}})).await;
    assert_eq!(on.get(path).await.status, 200);
    on.audit(1).await;
    assert!(!on.log().contains("sk-app"), "the key is in the log");
}

#[tokio::test]
async fn no_key_and_no_provider_key_is_ever_logged() {
    let upstream = Upstream::start(crate::support::Act::failed()).await;
    let gateway = gateway(&upstream, &json!({"log": {"level": "debug"}})).await;
    gateway.ask("POST", "/query").bearer("sk-app").json(&question()).send().await;
    gateway.ask("POST", "/query").bearer("sk-stranger").json(&question()).send().await;
    let told = gateway.log() + &json!(gateway.audit(1).await).to_string();
    for secret in ["sk-app", "sk-stranger", "sk-provider"] {
        assert!(!told.contains(secret), "`{secret}` is told");
    }
}

#[tokio::test]
async fn a_browser_is_let_in_only_from_configured_origins() {
    let upstream = Upstream::answering().await;
    let origins = json!({"server": {"cors": {"origins": ["https://app.example"]}}});
    let gateway = gateway(&upstream, &origins).await;
    let preflight = |origin: &str| {
        let ask = gateway.ask("OPTIONS", "/query").header("origin", origin);
        ask.header("access-control-request-method", "POST").send()
    };
    assert_eq!(
        preflight("https://app.example").await.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_new_key_is_shown_once_beside_its_hash() {
    let output = std::process::Command::new(crate::support::gateway::binary())
        .args(["key", "new", "app"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && shown.contains("sha256:"), "{shown}");
}

#[tokio::test]
async fn a_key_may_use_its_routes_by_all_their_names() {
    let upstream = Upstream::answering().await;
    let mut entry = key("app", "sk-app");
    entry["models"] = json!(["main"]);
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"auth": {"keys": [entry]}})).start().await;
    let ask = |model: &str| {
        let mut body = chat();
        body["model"] = model.into();
        gateway.ask("POST", "/v1/chat/completions").json(&body).bearer("sk-app").send()
    };
    ask("main").await.expect(200);
    ask("alias-of-main").await.expect(200);
    ask("default").await.expect(200);
    assert_eq!(ask("solo").await.expect(404)["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_key_reaches_only_its_endpoints_and_those_of_its_roles() {
    let upstream = Upstream::answering().await;
    let (mut narrow, mut reviewer) = (key("narrow", "sk-narrow"), key("reviewer", "sk-reviewer"));
    narrow["endpoints"] = json!(["/query", "/v1/models/{id}"]);
    reviewer["roles"] = json!(["reviewer"]);
    let gateway = gateway(&upstream, &json!({"auth": {"keys": [narrow, reviewer]}})).await;
    let ask = |key: &str| gateway.ask("POST", "/query").json(&question()).bearer(key).send();
    ask("sk-narrow").await.expect(200);
    gateway.ask("GET", "/v1/models/solo").bearer("sk-narrow").send().await.expect(200);
    let refused = gateway.ask("POST", "/v1/chat/completions").json(&chat()).bearer("sk-narrow").send().await;
    assert_eq!(refused.expect(403)["error"]["code"], "forbidden");
    let refused = ask("sk-reviewer").await.expect(403);
    assert_eq!(refused["detail"], "this needs a key with the role `app`");
    assert_eq!(upstream.asked(), 1);
}
