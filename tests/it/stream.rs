//! `POST /stream` and `GET /stream`: an answer as it is written.
use serde_json::{Value, json};

use crate::support::{Act, Frame, Setup, Upstream, Wire, ms};

fn prompt(text: &str) -> Value {
    json!({"prompt": text, "user_id": "u1", "mode": "chat"})
}

fn named<'a>(frames: &'a [Frame], event: &str) -> &'a Frame {
    frames.iter().find(|frame| frame.event == event).unwrap_or_else(|| panic!("no `{event}` in {frames:?}"))
}

#[tokio::test]
async fn tokens_come_one_by_one_and_done_comes_last() {
    for wire in Wire::BOTH {
        let upstream = Upstream::start(Act::say("Hello, world!")).await;
        let gateway = Setup::one(wire, &upstream).start().await;
        let mut stream = gateway.stream("/stream", &prompt("Hi")).await;
        assert_eq!(stream.head.status, 200);
        assert!(stream.head.header("content-type").unwrap().starts_with("text/event-stream"));
        assert_eq!(stream.head.header("cache-control"), Some("no-cache"));
        assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
        let mut messages = stream.messages().await;
        assert_eq!(messages.pop().as_deref(), Some("[DONE]"));
        assert!(messages.len() > 1 && messages.iter().all(|delta| !delta.is_empty()), "{messages:?}");
        assert_eq!(messages.concat(), "Hello, world!");
    }
}

#[tokio::test]
async fn meta_comes_first_and_usage_before_done() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream = gateway.stream("/stream", &prompt("Hi")).await;
    let id = stream.head.header("x-request-id").unwrap().to_owned();
    let frames = stream.rest().await;
    assert_eq!(frames[0].event, "meta");
    let meta = frames[0].json();
    assert_eq!(meta["request_id"], id);
    assert!(meta["model"].is_string() && meta["cache"].is_string(), "{meta}");
    let usage = named(&frames, "usage").json();
    assert_eq!(usage["usage"]["output_tokens"], 7, "{usage}");
    assert_eq!(frames[frames.len() - 2].event, "usage");
    assert!(frames.iter().all(|frame| frame.id.is_some()), "each event has an id: {frames:?}");
    assert_eq!(frames.iter().filter(|frame| frame.retry.is_some()).count(), 1, "`retry` is sent once");
}

#[tokio::test]
async fn the_prompt_may_be_a_url_parameter_with_either_method() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    for method in ["GET", "POST"] {
        let ask = gateway.ask(method, "/stream?prompt=Gr%C3%BC%C3%9Fe%20%26%20mehr&mode=chat");
        let mut stream = ask.stream().await;
        assert_eq!(stream.head.status, 200, "{method}");
        let messages = stream.messages().await;
        assert_eq!(messages.concat(), "Hello from upstream.[DONE]");
        let sent = upstream.last().body["messages"].to_string();
        assert!(sent.contains("Grüße & mehr"), "{sent}");
    }
}

#[tokio::test]
async fn a_newline_within_a_token_survives() {
    let text = "one\ntwo\n\nthree\r\nfour";
    let upstream = Upstream::start(Act::say(text).chunks_of(9)).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut messages = gateway.stream("/stream", &prompt("Hi")).await.messages().await;
    messages.pop();
    assert_eq!(messages.concat().replace('\r', ""), text.replace('\r', ""));
}

#[tokio::test]
async fn a_model_that_writes_a_sentinel_does_not_end_the_client() {
    for sentinel in ["[DONE]", "[TIMEOUT]", "[ERROR: no]"] {
        let upstream = Upstream::start(Act::say(sentinel).chunks_of(100)).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let mut messages = gateway.stream("/stream", &prompt("Hi")).await.messages().await;
        assert_eq!(messages.pop().as_deref(), Some("[DONE]"));
        assert!(messages.iter().all(|delta| delta != sentinel), "{messages:?}");
        assert_eq!(messages.concat(), sentinel);
    }
}

#[tokio::test]
async fn a_failure_after_the_first_token_ends_with_an_error_and_done() {
    for (act, error) in
        [(Act::default().cut_after(3), "[ERROR: "), (Act::default().hang_after(3), "[TIMEOUT]")]
    {
        let upstream = Upstream::start(act).await;
        let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
        let messages = gateway.stream("/stream", &prompt("Hi")).await.messages().await;
        let [.., fault, done] = messages.as_slice() else { panic!("{messages:?}") };
        assert!(fault.starts_with(error), "{messages:?}");
        assert_eq!(done, "[DONE]");
        assert!(messages[0].starts_with("Hello"), "what had come was sent: {messages:?}");
        assert_eq!(upstream.asked(), 1, "no retry once the client has seen content");
    }
}

#[tokio::test]
async fn a_failure_before_the_first_token_is_told_in_the_stream_or_by_the_status() {
    let upstream = Upstream::start(Act::failed()).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream = gateway.stream("/stream", &prompt("Hi")).await;
    if stream.head.status == 200 {
        let messages = stream.messages().await;
        assert!(messages[0].starts_with("[ERROR: ") && messages.last().unwrap() == "[DONE]", "{messages:?}");
        assert!(!messages.concat().contains("secret"), "a provider's words are not for the client");
    } else {
        assert!(stream.head.status >= 500);
    }
}

#[tokio::test]
async fn the_first_token_does_not_wait_for_the_second() {
    let upstream = Upstream::start(Act::say("Hello").chunks_of(1).every(ms(200))).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream = gateway.stream("/stream", &prompt("Hi")).await;
    let mut times = Vec::new();
    while let Some(frame) = stream.next().await {
        if frame.event.is_empty() && frame.data.is_some() {
            times.push(std::time::Instant::now());
        }
    }
    // Five letters 200 ms apart, and `[DONE]`.
    assert!(times.len() >= 6, "{times:?}");
    assert!(times[4] - times[0] > ms(500), "the tokens came all at once");
}

#[tokio::test]
async fn silence_is_filled_with_keep_alive_comments() {
    let upstream = Upstream::start(Act::say("Hello, quiet world").every(ms(250))).await;
    let gateway =
        Setup::one(Wire::OpenAi, &upstream).set(&json!({"server": {"keep_alive": "100ms"}})).start().await;
    let mut stream = gateway.stream("/stream", &prompt("Hi")).await;
    let mut comments = 0;
    while let Some(frame) = stream.next().await {
        comments += usize::from(frame.comment.as_deref() == Some("keep-alive"));
    }
    assert!(comments >= 2, "{comments} comments");
}

#[tokio::test]
async fn without_configuration_the_handbook_streams() {
    let gateway = Setup::bare().start().await;
    let path = "/stream?prompt=How%20do%20I%20limit%20requests%20per%20user%3F";
    let frames = gateway.ask("GET", path).stream().await.rest().await;
    let usage = named(&frames, "usage").json();
    assert!(usage["confidence"].as_f64().unwrap() > 0.5, "{usage}");
    assert!(!usage["sources"].as_array().unwrap().is_empty(), "{usage}");
}

#[tokio::test]
async fn a_head_request_asks_no_model() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let answer = gateway.ask("HEAD", "/stream?prompt=Hi&mode=chat").send().await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(upstream.asked(), 0, "nobody would read the answer that is paid for");
}
