//! Nothing that a client sends makes a 5xx or takes for ever.
use std::time::Instant;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Act, Gateway, Setup, Upstream, Wire, ms};

/// The endpoints that read a JSON body, with a body that each accepts.
fn endpoints() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    vec![
        ("/query", json!({"question": "Hi", "user_id": "u", "mode": "chat"})),
        ("/stream", json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})),
        ("/predict", json!({"text": "Hi"})),
        ("/v1/chat/completions", json!({"model": "main", "messages": messages})),
        ("/v1/messages", json!({"model": "main", "max_tokens": 5, "messages": messages})),
        ("/v1/responses", json!({"model": "main", "input": "Hi"})),
        ("/v1/embeddings", json!({"model": "embed", "input": "Hi"})),
    ]
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let server = json!({"server": {"max_body": "64KiB", "body_timeout": "400ms", "header_timeout": "400ms"}});
    Setup::one(Wire::OpenAi, upstream).set(&server).start().await
}

/// A refusal is a 4xx whose body is an error in the shape of its API.
fn refused(path: &str, status: u16, body: &Value) -> bool {
    let shaped = match path {
        "/v1/messages" => body["type"] == "error" && body["error"]["message"].is_string(),
        path if path.starts_with("/v1/") => {
            body["error"]["message"].is_string() && body["error"]["type"].is_string()
        }
        _ => body["status"] == status && body["detail"].is_string(),
    };
    (400..500).contains(&status) && shaped
}

/// hyper refuses these before any route sees them.
#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_in_shape() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let long = "a".repeat(70_000);
    let many: String = (0..101).map(|n| format!("x-{n}: y\r\n")).collect();
    for (path, head, status) in [
        ("/v1/messages", "POST /v1/messages HTTP/1.1\r\nhost: x\r\nno header\r\n\r\n".to_owned(), 400),
        ("/", "GARBAGE\r\n\r\n".to_owned(), 400),
        ("/v1/models", format!("GET /v1/models?{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 414),
        ("/query", format!("POST /query HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert!(
            head.contains("\r\nx-request-id: ") && head.contains("\r\nconnection: close"),
            "{path}: {head}"
        );
        assert!(refused(path, status, &serde_json::from_str(body).unwrap()), "{path}: {body}");
    }
    // Behind a good request on the same connection, too, in the shape of the second.
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut reply = vec![0; 4096];
    let read = stream.read(&mut reply).await.unwrap();
    assert!(reply[..read].starts_with(b"HTTP/1.1 200 "));
    stream.write_all(b"POST /v1/messages HTTP/1.1\r\nno header\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let body = reply.split_once("\r\n\r\n").unwrap().1;
    assert!(refused("/v1/messages", 400, &serde_json::from_str(body).unwrap()), "{body}");
}

/// RFC 9112, section 3.2: who is asked is said once, and HTTP/1.0 need not say it.
#[tokio::test]
async fn a_request_says_once_whom_it_asks() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    for (request, status) in [
        ("GET /livez HTTP/1.1\r\nconnection: close\r\n", 400),
        ("POST /v1/messages HTTP/1.1\r\ncontent-length: 2\r\n", 400),
        ("GET http://a.example/v1/models HTTP/1.1\r\n", 400),
        ("POST /query HTTP/1.1\r\nhost: a\r\nHost: a\r\ncontent-length: 2\r\n", 400),
        ("GET /livez HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nhost: a b\r\n", 400),
        ("GET /livez HTTP/1.1\r\nhost: a@b/c\r\n", 400),
        ("GET /livez HTTP/1.1\r\nhost: a:99999\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nhost: [::1\r\n", 400),
        ("GET http://ann@a/livez HTTP/1.1\r\nhost: a\r\n", 400),
        ("GET /livez HTTP/1.1\r\nhost: a.example:8000\r\nconnection: close\r\n", 200),
        ("GET /livez HTTP/1.1\r\nhost: [::1]:8000\r\nconnection: close\r\n", 200),
        ("GET /livez HTTP/1.1\r\nhost:\r\nconnection: close\r\n", 200),
        ("GET /livez HTTP/1.0\r\n", 200),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let body = if request.starts_with("POST") { "{}" } else { "" };
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!(" {status} ")), "{request}: {head}");
        assert!(head.contains("\r\nx-request-id: "), "{request}: {head}");
        if status == 400 {
            let path = ["/v1/messages", "/v1/models"].into_iter().find(|path| request.contains(path));
            let body = serde_json::from_str(body).unwrap();
            assert!(refused(path.unwrap_or("/"), status, &body), "{request}: {body}");
            assert!(head.contains("\r\nconnection: close"), "{request}: {head}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_in_shape() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let deep = "[".repeat(30_000);
    let bodies: [&[u8]; 11] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"\"text\"",
        b"{\"a\": 1e999999}",
        b"{\"question\": \"\xff\xfe\"}",
        b"\xef\xbb\xbf{}",
        b"{\"messages\": [{}]}",
        deep.as_bytes(),
    ];
    for (path, _) in endpoints() {
        for body in bodies {
            let answer = gateway.ask("POST", path).body("application/json", body).send().await;
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert!(
                refused(path, answer.status, &answer.json()),
                "{path} {start}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test]
async fn every_field_of_a_wrong_type_is_a_4xx_or_harmless() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e308),
        json!(99_999_999_999_999_u64),
        json!(0.5),
        json!(""),
        json!("x"),
        json!([]),
        json!([null]),
        json!([{}]),
        json!({}),
        json!({"type": "?"}),
        json!("\u{0}"),
    ];
    let extras = [
        "model",
        "messages",
        "question",
        "prompt",
        "text",
        "input",
        "user_id",
        "session_id",
        "mode",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "stop_sequences",
        "seed",
        "n",
        "tools",
        "tool_choice",
        "system",
        "instructions",
        "response_format",
        "response_schema",
        "stream",
        "stream_options",
        "parallel_tool_calls",
        "thinking",
        "reasoning",
        "reasoning_effort",
        "text",
        "user",
        "metadata",
        "use_cache",
        "priority",
        "dimensions",
        "encoding_format",
        "logprobs",
        "store",
    ];
    for (path, good) in endpoints() {
        for name in extras {
            for value in &odd {
                let mut body = good.clone();
                body[name] = value.clone();
                let answer = gateway.post(path, &body).await;
                assert!(
                    answer.status < 500,
                    "{path} with `{name}: {value}`: {} {}",
                    answer.status,
                    answer.text()
                );
                if answer.status != 200 {
                    assert!(
                        refused(path, answer.status, &answer.json()),
                        "{path} `{name}: {value}`: {}",
                        answer.text()
                    );
                }
            }
        }
    }
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let good = json!({"model": "main", "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in [
        ("messages", json!("Hi")),
        ("messages", json!([])),
        ("temperature", json!("hot")),
        ("temperature", json!(3)),
        ("n", json!(0)),
        ("max_tokens", json!(-5)),
        ("model", json!(7)),
        ("tools", json!("hammer")),
        ("stream", json!("yes")),
    ] {
        let mut asked = good.clone();
        asked[name] = value.clone();
        let body = gateway.post("/v1/chat/completions", &asked).await.expect(400);
        let param = body["error"]["param"].as_str().unwrap_or_default();
        assert!(param.starts_with(name), "`{name}: {value}`: {body}");
    }
    let mut asked = good.clone();
    asked.as_object_mut().unwrap().remove("messages");
    assert_eq!(gateway.post("/v1/chat/completions", &asked).await.expect(400)["error"]["param"], "messages");
}

#[tokio::test]
async fn a_body_past_the_limit_is_413() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let large = "x".repeat(70_000);
    for (path, mut body) in endpoints() {
        body["padding"] = large.clone().into();
        let answer = gateway.post(path, &body).await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
        assert!(refused(path, 413, &answer.json()), "{}", answer.text());
    }
}

/// Sends bytes as they stand and reads until the gateway closes, at most 3 s.
async fn raw(gateway: &Gateway, pieces: &[&[u8]]) -> String {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    for piece in pieces {
        let _ = socket.write_all(piece).await;
        tokio::time::sleep(ms(20)).await;
    }
    let mut said = Vec::new();
    let _ = tokio::time::timeout(ms(3000), socket.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn odd_http_is_refused_and_the_gateway_lives() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let long = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let far = format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "z".repeat(70_000));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GARBAGE\r\n\r\n",
        b"POST /query HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        b"POST /query HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /query HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /%ff%fe?prompt=%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /stream?prompt=%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        far.as_bytes(),
    ] {
        let said = raw(&gateway, &[bytes]).await;
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(!said.starts_with("HTTP/1.1 5"), "{start}: {said}");
    }
    assert_eq!(gateway.get("/health").await.status, 200);
}

#[tokio::test]
async fn slow_headers_and_slow_bodies_are_cut() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let began = Instant::now();
    let said = raw(&gateway, &[b"POST /query HTTP/1.1\r\nhost: x\r\nx-a"]).await;
    assert!(began.elapsed() < ms(2500), "slow headers are cut after {:?}", began.elapsed());
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");

    let began = Instant::now();
    let head = b"POST /query HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    let said = raw(&gateway, &[head, b"{\"que"]).await;
    assert!(began.elapsed() < ms(2500), "slow bodies are cut after {:?}", began.elapsed());
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test]
async fn who_says_nothing_or_half_a_greeting_is_cut() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    for greeting in [&b""[..], b"P", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(greeting).await.unwrap();
        let mut said = Vec::new();
        let read = tokio::time::timeout(ms(8000), socket.read_to_end(&mut said)).await;
        assert!(read.is_ok(), "{greeting:?} holds a connection");
    }
}

#[tokio::test]
async fn a_field_that_is_given_twice_is_refused() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let body = br#"{"question": "Hi", "user_id": "u", "mode": "chat", "question": "Hello"}"#;
    let answer = gateway.ask("POST", "/query").body("application/json", body).send().await;
    assert!(refused("/query", answer.status, &answer.json()), "{}", answer.text());
    assert!(answer.text().contains("twice"), "{}", answer.text());
    assert_eq!(upstream.asked(), 0);
}

#[tokio::test]
async fn a_model_s_name_that_is_no_text_is_refused_in_shape() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let answer = gateway.ask("GET", "/v1/models/%ff").send().await;
    assert!(refused("/v1/models", answer.status, &answer.json()), "{}", answer.text());
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_frees_the_upstream() {
    let text = "x".repeat(16 << 20);
    let upstream = Upstream::start(Act::say(&text).chunks_of(64 << 10)).await;
    let settings = json!({"server": {"write_timeout": "500ms"}, "timeouts": {"total": "60s", "idle": "60s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let body = json!({"model": "main", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let stream = gateway.stream("/v1/chat/completions", &body).await;
    assert!(
        crate::support::soon(ms(5000), || upstream.busy() == 0).await,
        "a client that does not read holds the upstream"
    );
    drop(stream);
}

#[tokio::test]
async fn the_last_of_equal_keys_does_not_smuggle() {
    let upstream = Upstream::answering().await;
    let gateway = gateway(&upstream).await;
    let body = br#"{"model": "nobody", "model": "main", "messages": [{"role": "user", "content": "Hi"}]}"#;
    let answer = gateway.ask("POST", "/v1/chat/completions").body("application/json", body).send().await;
    assert!(answer.status < 500, "{}", answer.text());
    if answer.status == 200 {
        assert_eq!(upstream.last().body["model"], "model-a", "one of the two is meant, and only one is sent");
    }
}
