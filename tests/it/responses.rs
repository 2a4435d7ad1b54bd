//! `POST /v1/responses`, as OpenAI documents it.
use serde_json::json;

use crate::support::{Act, Setup, Upstream, Wire};

#[tokio::test]
async fn a_whole_response_has_its_shape() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let asked = json!({"model": "main", "instructions": "Be brief.", "input": "Hi"});
        let body = gateway.post("/v1/responses", &asked).await.expect(200);
        assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("completed")));
        let message =
            body["output"].as_array().unwrap().iter().find(|item| item["type"] == "message").unwrap();
        assert_eq!(message["content"][0]["type"], "output_text");
        assert_eq!(message["content"][0]["text"], "Hello from upstream.");
        assert_eq!(body["usage"]["input_tokens"], 11);
        assert_eq!(body["usage"]["output_tokens"], 7);
        let sent = upstream.last().body.to_string();
        assert!(sent.contains("Be brief."), "{sent}");
    }
}

#[tokio::test]
async fn a_stream_begins_with_created_and_ends_with_completed() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let asked = json!({"model": "main", "input": [{"role": "user", "content": "Hi"}], "stream": true});
        let frames = gateway.stream("/v1/responses", &asked).await.rest().await;
        assert_eq!(frames[0].event, "response.created");
        let last = frames.last().unwrap();
        assert_eq!(last.event, "response.completed");
        assert_eq!(last.json()["response"]["usage"]["output_tokens"], 7);
        let deltas = frames.iter().filter(|frame| frame.event == "response.output_text.delta");
        let text: String = deltas.map(|frame| frame.json()["delta"].as_str().unwrap().to_owned()).collect();
        assert_eq!(text, "Hello from upstream.");
        let numbers: Vec<_> =
            frames.iter().map(|frame| frame.json()["sequence_number"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }
}

#[tokio::test]
async fn a_function_call_is_an_item_of_its_own() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::call_tool("weather", &json!({"city": "Köln"}))).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let tool = json!({"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}});
        let asked = json!({"model": "main", "input": "Weather?", "tools": [tool]});
        let body = gateway.post("/v1/responses", &asked).await.expect(200);
        let call =
            body["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
        assert_eq!(call["name"], "weather");
        assert_eq!(call["call_id"], "call_1");
        assert!(call["arguments"].as_str().unwrap().contains("Köln"));
    }
}
