//! `POST /v1/embeddings`.
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::support::{Setup, Upstream, Wire};

#[tokio::test]
async fn vectors_come_in_the_order_of_the_inputs() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let asked = json!({"model": "embed", "input": ["a", "b"]});
    let body = gateway.post("/v1/embeddings", &asked).await.expect(200);
    assert_eq!(body["object"], "list");
    assert_eq!(body["data"][0]["embedding"], json!([0.0, 0.25, 0.5]));
    assert_eq!(body["data"][1]["embedding"], json!([1.0, 1.25, 1.5]));
    assert_eq!(body["data"][1]["index"], 1);
    assert_eq!(body["usage"]["prompt_tokens"], 11);
    assert_eq!(upstream.last().body["model"], "embed-a");
}

#[tokio::test]
async fn base64_holds_little_endian_floats() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let asked = json!({"model": "embed", "input": "a", "encoding_format": "base64", "dimensions": 2});
    let body = gateway.post("/v1/embeddings", &asked).await.expect(200);
    let bytes = STANDARD.decode(body["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let floats: Vec<_> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(floats, [0.0, 0.25]);
}

#[tokio::test]
async fn a_provider_without_embeddings_is_a_clear_400() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::Anthropic, &upstream).start().await;
    let body = gateway.post("/v1/embeddings", &json!({"model": "embed", "input": "a"})).await.expect(400);
    assert!(body["error"]["message"].as_str().unwrap().contains("embed"), "{body}");
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test]
async fn tokens_under_a_budget_are_refused_by_the_name_of_their_field() {
    let upstream = Upstream::answering().await;
    let budget = json!({"budget": {"global": {"day_usd": 5}}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&budget).start().await;
    let asked = json!({"model": "embed", "input": [[1, 2, 3]]});
    let body = gateway.post("/v1/embeddings", &asked).await.expect(400);
    assert_eq!(body["error"]["param"], "input", "{body}");
    assert!(!body.to_string().contains("messages"), "{body}");
}

#[tokio::test]
async fn wrong_inputs_are_named() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for input in [json!(null), json!([]), json!({"a": 1}), json!("")] {
        let body =
            gateway.post("/v1/embeddings", &json!({"model": "embed", "input": input})).await.expect(400);
        assert_eq!(body["error"]["param"], "input", "{input}: {body}");
    }
}
