//! Errors in the shape of the API that was called.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire};

fn chat() -> Value {
    json!({"model": "solo", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]})
}

#[tokio::test]
async fn an_unknown_model_is_404_everywhere() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut asked = chat();
    asked["model"] = "gpt-nobody".into();
    let body = gateway.post("/v1/chat/completions", &asked).await.expect(404);
    assert_eq!(body["error"]["code"], "model_not_found");
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(body["error"].as_object().unwrap().contains_key("param"), "{body}");
    let body = gateway.post("/v1/messages", &asked).await.expect(404);
    assert_eq!(body["error"]["type"], "not_found_error");
    let body =
        gateway.post("/v1/responses", &json!({"model": "gpt-nobody", "input": "Hi"})).await.expect(404);
    assert_eq!(body["error"]["code"], "model_not_found");
    let native =
        gateway.post("/query", &json!({"question": "Hi", "user_id": "u", "model": "gpt-nobody"})).await;
    assert_eq!(native.expect(404)["status"], 404);
    assert_eq!(native.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn a_busy_providers_retry_after_is_kept() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::busy(Some(17))).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let answer = gateway.post(path, &chat()).await;
            answer.expect(429);
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((15..=17).contains(&wait), "{path}: {wait}");
        }
    }
}

#[tokio::test]
async fn a_status_of_the_provider_becomes_one_of_ours() {
    for (theirs, ours) in [(500, 502), (503, 503), (401, 502), (403, 502), (400, 400), (422, 422), (413, 413)]
    {
        let error = json!({"error": {"message": "words", "type": "whatever"}});
        let upstream = Upstream::start(Act::status(theirs, &error)).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let answer = gateway.post("/v1/chat/completions", &chat()).await;
        assert_eq!(answer.status, ours, "for {theirs}: {}", answer.text());
        assert_eq!(answer.header("x-request-id").map(str::is_empty), Some(false));
        assert!(answer.json()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn no_error_tells_the_providers_address_key_or_words() {
    for act in [Act::failed(), Act::close(), Act::page("text/html", "upstream secret detail")] {
        let upstream = Upstream::start(act).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let text = gateway.post(path, &chat()).await.text();
            for secret in ["secret", "sk-provider", "127.0.0.1", &upstream.address.port().to_string()] {
                assert!(!text.contains(secret), "{path} tells `{secret}`: {text}");
            }
        }
    }
}

#[tokio::test]
async fn the_native_api_falls_back_to_words_or_says_what_failed() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let answer = gateway.post("/query", &json!({"question": "Hi", "user_id": "u", "mode": "chat"})).await;
    if answer.status == 200 {
        let body = answer.json();
        assert_eq!((&body["fallback"], &body["confidence"]), (&json!(true), &json!(0.0)));
    } else {
        let problem = answer.expect(502);
        assert_eq!(problem["instance"].as_str(), answer.header("x-request-id"));
        assert!(!problem["detail"].as_str().unwrap().contains("secret"));
    }
}

#[tokio::test]
async fn no_field_of_a_providers_error_gives_its_secrets_away() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let body = json!({"model": "solo", "messages": [{"role": "user", "content": "Hi"}]});
    let address = format!("http://{}/v1", upstream.address);
    for secret in ["sk-proj-abcdef1234567890abcdef", &address, "jane@acme.org", "4111 1111 1111 1111"] {
        for status in [400, 404, 413, 422] {
            let said = json!({"error": {"message": format!("bad: {secret}"), "param": secret, "code": secret, "type": secret}});
            upstream.set_default(Act::status(status, &said));
            let told = gateway.post("/v1/chat/completions", &body).await;
            assert!(told.status >= 400 && !told.text().contains(secret), "{status}: {}", told.text());
        }
    }
    let said = json!({"error": {"message": "no", "param": "messages[0].content", "code": "invalid_image"}});
    upstream.set_default(Act::status(400, &said));
    let told = gateway.post("/v1/chat/completions", &body).await.expect(400);
    assert_eq!(
        (&told["error"]["param"], &told["error"]["code"]),
        (&json!("messages[0].content"), &json!("invalid_image"))
    );
}
