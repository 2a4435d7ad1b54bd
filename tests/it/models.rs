//! `GET /v1/models` and `/v1/models/{id}`, and what needs no key.
use serde_json::json;

use crate::support::{Setup, Upstream, Wire, key};

#[tokio::test]
async fn the_configured_routes_are_the_models() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let body = gateway.get("/v1/models").await.expect(200);
    assert_eq!(body["object"], "list");
    let ids: Vec<_> =
        body["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    for id in ["main", "solo", "embed"] {
        assert!(ids.contains(&id), "{ids:?}");
    }
    assert!(body["data"].as_array().unwrap().iter().all(|model| model["object"] == "model"));
    assert_eq!(gateway.get("/v1/models/main").await.expect(200)["id"], "main");
    assert_eq!(gateway.get("/v1/models/alias-of-main").await.expect(200)["id"], "main");
    assert_eq!(gateway.get("/v1/models/default").await.expect(200)["object"], "model");
    let body = gateway.get("/v1/models/nobody").await.expect(404);
    assert_eq!(body["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn with_both_vendors_in_the_environment_each_is_asked_for_its_own_models() {
    let upstream = Upstream::answering().await;
    let (openai, anthropic) = ("/v1/chat/completions", "/v1/messages");
    let bases = [Wire::OpenAi, Wire::Anthropic].map(|wire| wire.base_url(upstream.address));
    // Another server may have any model; without one at OpenAI's place, Anthropic's takes the rest.
    for (is_openai_moved, rest) in [(true, openai), (false, anthropic)] {
        let mut setup = Setup::bare().env("OPENAI_API_KEY", "x").env("ANTHROPIC_API_KEY", "y");
        setup = setup.env("ANTHROPIC_BASE_URL", &bases[1]);
        if is_openai_moved {
            setup = setup.env("OPENAI_BASE_URL", &bases[0]);
        }
        let gateway = setup.start().await;
        let ask = async |model: &str| {
            let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
            gateway.ask("POST", "/v1/chat/completions").json(&body).send().await.expect(200);
            upstream.last().path
        };
        if is_openai_moved {
            for model in ["gpt-4o-mini", "o3-mini", "default", "openai/claude-x"] {
                assert_eq!(ask(model).await, openai, "{model}");
            }
        }
        for model in ["claude-haiku-4-5", "anthropic/claude-haiku-4-5"] {
            assert_eq!(ask(model).await, anthropic, "{model}");
        }
        assert_eq!(ask("llama-3").await, rest);
    }
    // A server of one's own wants no key, and its address may have the version.
    for (name, base, path) in
        [("OPENAI", &bases[0], openai), ("ANTHROPIC", &format!("{}/v1/", bases[1]), anthropic)]
    {
        let gateway = Setup::bare().env(&format!("{name}_BASE_URL"), base).start().await;
        let body = json!({"model": "llama-3", "messages": [{"role": "user", "content": "Hi"}]});
        gateway.post("/v1/chat/completions", &body).await.expect(200);
        assert_eq!(upstream.last().path, path);
    }
}

#[tokio::test]
async fn a_key_sees_only_its_own_models() {
    let upstream = Upstream::answering().await;
    let mut entry = key("app", "sk-app");
    entry["models"] = json!(["solo"]);
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"auth": {"keys": [entry]}})).start().await;
    let body = gateway.ask("GET", "/v1/models").bearer("sk-app").send().await.expect(200);
    assert_eq!(body["data"].as_array().unwrap().len(), 1);
    assert_eq!(body["data"][0]["id"], "solo");
    assert_eq!(gateway.ask("GET", "/v1/models/main").bearer("sk-app").send().await.status, 404);
}

#[tokio::test]
async fn a_model_that_a_pattern_serves_is_told_of_to_who_may_use_it() {
    let upstream = Upstream::answering().await;
    let mut entry = key("app", "sk-app");
    entry["models"] = json!(["gpt-4o"]);
    let lent = json!({
        "auth": {"keys": [entry, key("all", "sk-all")]},
        "providers": {"primary": {"models": ["gpt-*"]}},
    });
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&lent).start().await;
    let told = async |name: &str, key: &str| {
        gateway.ask("GET", &format!("/v1/models/{name}")).bearer(key).send().await
    };
    for name in ["gpt-4o", "gpt-5", "primary/gpt-4o"] {
        let model = told(name, "sk-all").await.expect(200);
        assert_eq!((&model["id"], &model["owned_by"]), (&json!(name), &json!("primary")));
    }
    assert_eq!(told("gpt-4o", "sk-app").await.expect(200)["object"], "model");
    for (name, key) in [("gpt-5", "sk-app"), ("llama-3", "sk-all")] {
        assert_eq!(told(name, key).await.expect(404)["error"]["code"], "model_not_found");
    }
}

#[tokio::test]
async fn health_metrics_and_docs_need_no_key() {
    let upstream = Upstream::answering().await;
    let keys = json!({"auth": {"keys": [key("app", "sk-app")]}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&keys).start().await;
    let health = gateway.get("/health").await.expect(200);
    assert_eq!(health["status"], "healthy");
    assert!(health["model_loaded"].is_boolean(), "{health}");
    for path in ["/livez", "/readyz", "/metrics", "/docs"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    let openapi = gateway.get("/openapi.json").await.expect(200);
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3.1"), "{openapi}");
    for path in ["/query", "/stream", "/predict", "/v1/chat/completions", "/v1/messages", "/v1/responses"] {
        assert!(openapi["paths"][path].is_object(), "{path} is not described");
    }
    let docs = gateway.get("/docs").await.text();
    assert!(!docs.contains("https://cdn") && !docs.contains("src=\"http"), "the docs work offline");
}

#[tokio::test]
async fn http_has_its_habits() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    assert_eq!(gateway.ask("HEAD", "/health").send().await.status, 200);
    assert_eq!(gateway.get("/nowhere").await.expect(404)["status"], 404);
    let refused = gateway.get("/query").await;
    assert_eq!(refused.expect(405)["status"], 405);
    assert!(refused.header("allow").unwrap().contains("POST"));
    assert_eq!(
        gateway.ask("DELETE", "/v1/chat/completions").send().await.expect(405)["error"]["type"],
        "invalid_request_error"
    );
    let ask = gateway.ask("POST", "/query").body("text/plain", b"Hi");
    assert_eq!(ask.send().await.expect(415)["status"], 415);
    for path in ["/health", "/nowhere", "/query"] {
        let answer = gateway.get(path).await;
        assert!(answer.header("x-request-id").is_some(), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn beyond_loopback_a_key_is_needed_to_start() {
    let mut command = tokio::process::Command::new(crate::support::gateway::binary());
    command.args(["--listen", "0.0.0.0:0"]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(crate::support::ms(5000), command.output()).await;
    let output = output.expect("it starts without a key, open to everyone").unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(said.contains("key") && said.contains("loopback"), "{said}");
}

#[tokio::test]
async fn default_is_the_default_route_everywhere_unless_a_route_has_the_name() {
    let upstream = Upstream::answering().await;
    let asked = async |settings: &serde_json::Value| {
        let gateway = Setup::one(Wire::OpenAi, &upstream).set(settings).start().await;
        let native = json!({"question": "Hi", "user_id": "u", "mode": "chat", "model": "default"});
        gateway.post("/query", &native).await.expect(200);
        let by_native = upstream.last().body["model"].clone();
        let chat = json!({"model": "default", "messages": [{"role": "user", "content": "Hi"}]});
        gateway.post("/v1/chat/completions", &chat).await.expect(200);
        [by_native, upstream.last().body["model"].clone()]
    };
    assert_eq!(asked(&json!({})).await, ["model-a", "model-a"]);
    let route = json!({"targets": [{"provider": "primary", "model": "model-b"}]});
    assert_eq!(asked(&json!({"models": {"default": route}})).await, ["model-b", "model-b"]);
}
