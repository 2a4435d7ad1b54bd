//! `POST /v1/chat/completions`, as OpenAI documents it.
use serde_json::{Value, json};

use crate::support::{Act, Setup, Upstream, Wire};

fn chat(stream: bool) -> Value {
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]);
    json!({"model": "main", "messages": messages, "stream": stream})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {
        "name": "weather", "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }}])
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let answer = gateway.post("/v1/chat/completions", &chat(false)).await;
        let body = answer.expect(200);
        assert_eq!(body["object"], "chat.completion");
        assert!(body["id"].is_string() && body["created"].is_u64() && body["model"].is_string(), "{body}");
        let choice = &body["choices"][0];
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["message"]["content"], "Hello from upstream.");
        assert_eq!(choice["finish_reason"], "stop");
        let usage = json!([
            body["usage"]["prompt_tokens"],
            body["usage"]["completion_tokens"],
            body["usage"]["total_tokens"]
        ]);
        assert_eq!(usage, json!([11, 7, 18]));
        assert!(answer.header("x-request-id").is_some() && answer.header("x-cost-usd").is_some());
    }
}

#[tokio::test]
async fn a_stream_has_openais_shape() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let (chunks, done) = gateway.stream("/v1/chat/completions", &chat(true)).await.chunks().await;
        assert!(done, "[DONE] comes last");
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
        );
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let text: String =
            chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, "Hello from upstream.");
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
        assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()), "no usage unless it is asked for");
    }
}

#[tokio::test]
async fn include_usage_adds_a_last_chunk_without_choices() {
    for wire in Wire::BOTH {
        let upstream = Upstream::answering().await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let asked = with(chat(true), "stream_options", json!({"include_usage": true}));
        let (chunks, done) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
        let (last, others) = chunks.split_last().unwrap();
        assert!(done);
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"]["total_tokens"], 18);
        assert!(others.iter().all(|chunk| !chunk["choices"].as_array().unwrap().is_empty()));
    }
}

#[tokio::test]
async fn a_usage_that_the_provider_does_not_report_is_estimated() {
    let upstream = Upstream::start(Act::say("Hello there, my friend.").usage(None)).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let body = gateway.post("/v1/chat/completions", &chat(false)).await.expect(200);
    let tokens = body["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((4..12).contains(&tokens), "{body}");
}

#[tokio::test]
async fn a_tool_call_comes_whole() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::call_tool("weather", &json!({"city": "Köln"}))).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let asked = with(chat(false), "tools", tools());
        let body = gateway.post("/v1/chat/completions", &asked).await.expect(200);
        let choice = &body["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls");
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({"city": "Köln"}));
        let sent = upstream.last().body["tools"][0].to_string();
        assert!(sent.contains("weather") && sent.contains("city"), "{sent}");
    }
}

#[tokio::test]
async fn a_tool_call_comes_in_deltas() {
    for wire in Wire::BOTH {
        let upstream =
            Upstream::start(Act::call_tool("weather", &json!({"city": "Köln"})).chunks_of(3)).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let asked = with(chat(true), "tools", tools());
        let (chunks, _) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
        let deltas: Vec<_> = chunks
            .iter()
            .map(|c| &c["choices"][0]["delta"]["tool_calls"][0])
            .filter(|d| !d.is_null())
            .collect();
        assert_eq!(deltas[0]["id"], "call_1");
        assert_eq!(deltas[0]["function"]["name"], "weather");
        assert!(deltas[1..].iter().all(|delta| delta["function"]["name"].is_null()), "the name is said once");
        let arguments: String =
            deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
        assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"city": "Köln"}));
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }
}

#[tokio::test]
async fn a_thought_is_kept_apart_from_the_answer() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::say("42").thinking("six times seven")).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let body = gateway.post("/v1/chat/completions", &chat(false)).await.expect(200);
        assert_eq!(body["choices"][0]["message"]["content"], "42");
        assert_eq!(body["choices"][0]["message"]["reasoning_content"], "six times seven");
    }
}

#[tokio::test]
async fn several_answers_keep_their_indices() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let body = gateway.post("/v1/chat/completions", &with(chat(false), "n", json!(2))).await.expect(200);
    assert_eq!(body["choices"].as_array().unwrap().len(), 2);
    assert_eq!(body["choices"][1]["index"], 1);
    let asked = with(chat(true), "n", json!(2));
    let (chunks, _) = gateway.stream("/v1/chat/completions", &asked).await.chunks().await;
    for index in 0..2 {
        let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        let own = choices.filter(|choice| choice["index"] == index);
        let text: String = own.filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, "Hello from upstream.");
    }
}

#[tokio::test]
async fn unknown_fields_pass_through_and_none_chooses_the_address() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut asked = chat(false);
    for (name, value) in [
        ("seed", json!(7)),
        ("stop", json!(["END"])),
        ("logit_bias", json!({"50256": -100})),
        ("a_parameter_of_tomorrow", json!({"deep": [1, 2.5, null]})),
        ("response_format", json!({"type": "json_object"})),
        ("api_base", json!("http://127.0.0.1:1/evil")),
        ("base_url", json!("http://127.0.0.1:1/evil")),
    ] {
        asked[name] = value;
    }
    let ask = gateway.ask("POST", "/v1/chat/completions").header("x-forwarded-host", "127.0.0.1:1");
    ask.header("x-forwarded-for", "9.9.9.9").json(&asked).send().await.expect(200);
    let seen = upstream.last();
    for name in ["logit_bias", "a_parameter_of_tomorrow", "response_format", "seed"] {
        assert_eq!(seen.body[name], asked[name], "`{name}`");
    }
    assert_eq!(seen.body["stop"].to_string().replace(['[', ']'], ""), "\"END\"");
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(seen.header("authorization"), Some("Bearer sk-provider"));
}

#[tokio::test]
async fn an_alias_names_the_same_route() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let asked = with(chat(false), "model", json!("alias-of-main"));
    gateway.post("/v1/chat/completions", &asked).await.expect(200);
    assert_eq!(upstream.last().body["model"], "model-a");
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_and_does_not_say_done() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::default().cut_after(5)).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let (chunks, done) = gateway.stream("/v1/chat/completions", &chat(true)).await.chunks().await;
        assert!(!done, "[DONE] would say that the answer is whole");
        let error = &chunks.last().unwrap()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{chunks:?}");
    }
}

#[tokio::test]
async fn any_split_of_the_providers_bytes_gives_the_same_answer() {
    let text = "Grüße aus 東京 🚄";
    for size in [1, 2, 3, 7] {
        for wire in Wire::BOTH {
            let act = Act::say(text).chunks_of(2).drip(size, std::time::Duration::from_micros(100));
            let upstream = Upstream::start(act).await;
            // A byte a millisecond is slow, not silent: the waits leave room for a busy machine.
            let waits =
                serde_json::json!({"timeouts": {"first_token": "30s", "idle": "30s", "total": "60s"}});
            let gateway = Setup::one(wire, &upstream).set(&waits).start().await;
            let (chunks, done) = gateway.stream("/v1/chat/completions", &chat(true)).await.chunks().await;
            let said: String =
                chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
            assert!(done);
            assert_eq!(said, text, "{size} bytes at a time");
        }
    }
}

#[tokio::test]
async fn connections_to_the_provider_are_used_again() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for stream in [false, true, false, true] {
        let answer = gateway.ask("POST", "/v1/chat/completions").json(&chat(stream)).send().await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!((upstream.asked(), upstream.accepted()), (4, 1));
}
