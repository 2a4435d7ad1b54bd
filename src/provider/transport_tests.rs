use std::time::Instant;

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task,
};

use super::*;
use crate::{
    call::{Caller, Trace},
    chat::{Message, Request, Role},
    provider::{Settings, build, openai::OpenAi},
};

const LIMITS: Limits = Limits { connect: Duration::from_secs(5), response: 4096, event: 1024 };

fn call(stream: bool) -> Call {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Trace { parent: parent.into(), state: Some("a=b".into()) };
    let context = Context::new("r-1", "/test", Caller::default(), Duration::from_secs(60));
    let context = Context { trace, ..context };
    let messages = vec![Message::new(Role::User, "hi")];
    Call::new(context, Request { messages, stream, ..Request::default() })
}

fn target() -> Target {
    let model: Arc<str> = "m".into();
    Target { provider: "p".into(), model: model.clone(), version: model.clone(), label: model, slot: 0 }
}

/// One scripted provider: each string of `answers` goes out for one request,
/// and what was asked comes back.
async fn upstream(answers: Vec<String>) -> (String, mpsc::UnboundedReceiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/", listener.local_addr().unwrap());
    let (told, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        for connection in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            while let Some(request) = request(&mut socket).await {
                told.send((connection, request)).unwrap();
                let answer = answers.next().unwrap();
                socket.write_all(answer.as_bytes()).await.unwrap();
                if answer.contains("connection: close") {
                    break;
                }
            }
        }
    });
    (url, asked)
}

/// Reads one request with its body; `None` at the end of the connection.
async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&all);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return Some(text.into_owned());
            }
        }
        if socket.read_buf(&mut all).await.unwrap() == 0 {
            return None;
        }
    }
}

fn reply(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn remote(url: &str) -> Remote<OpenAi> {
    let key = HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer k"))]);
    Remote::new("p", OpenAi::default(), base_url(url).unwrap(), key, LIMITS)
}

const TEXT: &str = include_str!("../../tests/fixtures/openai/text.sse");
const SSE: &str = "text/event-stream; charset=utf-8";

#[tokio::test]
async fn a_stream_is_read_and_its_connection_used_again() {
    let (url, mut asked) = upstream(vec![reply("200 OK", SSE, TEXT); 2]).await;
    let remote = remote(&url);
    for _ in 0..2 {
        let reply = remote.answer(&call(true), &target()).await.unwrap();
        assert_eq!(
            (&*reply.head.model, reply.head.id.as_deref()),
            ("gpt-4o-2024-08-06", Some("chatcmpl-a1"))
        );
        let (_, completion) = reply.collect().await.unwrap();
        assert_eq!(completion.text(), "Grüße aus \"Köln\" 🌦");
    }
    let (_, first) = asked.recv().await.unwrap();
    for line in [
        "POST /v1/chat/completions HTTP/1.1",
        &format!("host: {}", url.trim_start_matches("http://").trim_end_matches("/v1/")),
        "authorization: Bearer k",
        "accept: text/event-stream",
        "x-request-id: r-1",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate: a=b",
    ] {
        assert!(first.lines().any(|have| have == line), "{line} in {first}");
    }
    assert_eq!(asked.recv().await.unwrap().0, 0, "the second question takes the first one's connection");
}

#[tokio::test]
async fn a_question_on_a_connection_that_was_given_up_is_asked_again_on_another() {
    let answer = reply("200 OK", "application/json", include_str!("../../tests/fixtures/openai/whole.json"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (told, mut asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            told.send(request(&mut socket).await.unwrap()).unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            // The second question on a connection is heard, but not answered.
            if let Some(question) = request(&mut socket).await {
                told.send(question).unwrap();
            }
        }
    });
    let remote = remote(&url);
    for _ in 0..2 {
        let answered = remote.answer(&call(false), &target()).await.unwrap().collect().await;
        assert_eq!(answered.unwrap().1.text(), "It is raining.\nTake a coat.");
    }
    let mut questions = Vec::new();
    while let Ok(question) = asked.try_recv() {
        questions.push(question);
    }
    assert!(questions.len() == 3 && questions[1] == questions[2], "{questions:?}");
}

#[tokio::test]
async fn a_new_connection_that_hangs_up_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        request(&mut socket).await.unwrap();
    });
    let error = remote(&url).answer(&call(false), &target()).await.unwrap_err();
    assert!(matches!(error, Error::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used_again() {
    let body = include_str!("../../tests/fixtures/openai/whole.json");
    let length = body.len();
    // Kept alive in words, closed in deed.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            request(&mut socket).await.unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            socket.write_all((head + body).as_bytes()).await.unwrap();
            drop(socket);
            closed.send(()).unwrap();
        }
    });
    let remote = remote(&url);
    for _ in 0..3 {
        remote.answer(&call(false), &target()).await.unwrap().collect().await.unwrap();
        was_closed.recv().await.unwrap();
        // The runtime hears of it a moment later.
        while remote.connections.has_idle() {
            task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_whole_answer_to_a_question_for_a_stream_is_taken() {
    let whole = include_str!("../../tests/fixtures/openai/whole.json");
    let answers = vec![reply("200 OK", "application/json", whole); 2];
    let (url, _asked) = upstream(answers).await;
    for stream in [true, false] {
        let (head, completion) =
            remote(&url).answer(&call(stream), &target()).await.unwrap().collect().await.unwrap();
        assert_eq!(head.id.as_deref(), Some("chatcmpl-b2"));
        assert_eq!(completion.text(), "It is raining.\nTake a coat.");
    }
}

#[tokio::test]
async fn events_before_the_line_breaks_are_heard_and_then_the_error() {
    let cut = &TEXT[..TEXT.find("\"stop\"").unwrap()];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n";
    for length in ["", "content-length: 99999\r\n"] {
        let (url, _asked) = upstream(vec![format!("{head}{length}\r\n{cut}")]).await;
        let (_, events) = remote(&url).answer(&call(true), &target()).await.unwrap().into_parts();
        let events: Vec<_> = events.collect().await;
        assert!(events.len() == 5 && events[..4].iter().all(Result::is_ok), "{events:?}");
        assert!(matches!(events[4], Err(Error::Broken(_))), "{:?}", events[4]);
    }
}

#[tokio::test]
async fn an_error_status_is_told_with_its_wait() {
    let body = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    let length = body.len();
    let head = format!("HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: {length}\r\n\r\n");
    let (url, _asked) = upstream(vec![head + body]).await;
    let error = remote(&url).answer(&call(true), &target()).await.unwrap_err();
    assert_eq!(error.upstream_wait(), Some(Duration::from_secs(7)));
    assert!(error.chain().contains("slow down"), "{}", error.chain());
}

#[tokio::test]
async fn too_large_an_answer_is_not_taken() {
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(LIMITS.response));
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let event = reply("200 OK", SSE, &format!("data: {large}\n\n"));
    let (url, _asked) = upstream(vec![reply("200 OK", "application/json", &large), chunked, event]).await;
    for stream in [false, false, true] {
        let error = remote(&url).answer(&call(stream), &target()).await.unwrap_err();
        assert!(error.chain().contains("larger than"), "{}", error.chain());
    }
}

#[tokio::test]
async fn who_is_not_there_is_unreachable_and_stays_unnamed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = remote(&format!("http://{address}/v1")).answer(&call(true), &target()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(!error.chain().contains(&address.port().to_string()), "{}", error.chain());
}

#[tokio::test]
async fn a_dropped_reply_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        request(&mut socket).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {SSE}\r\n\r\n");
        let first = TEXT.split_inclusive("\n\n").take(3).collect::<String>();
        socket.write_all((head + &first).as_bytes()).await.unwrap();
        request(&mut socket).await
    });
    let remote = remote(&url);
    let reply = remote.answer(&call(true), &target()).await.unwrap().primed().await.unwrap();
    drop(reply);
    let hung_up = time::timeout(Duration::from_secs(5), served).await.expect("the connection is closed");
    assert_eq!(hung_up.unwrap(), None);
}

#[test]
fn a_question_on_its_way_is_small() {
    // It is boxed for every attempt: what is rarely needed does not belong into it.
    let (remote, call, target) = (remote("http://a.test/v1"), call(true), target());
    let size = size_of_val(&remote.ask(&call, &target));
    assert!(size <= 1536, "{size} bytes");
}

#[test]
fn addresses_are_joined_whatever_their_end() {
    for base in ["http://a.test/v1", "http://a.test/v1/", "http://a.test/v1//"] {
        assert_eq!(base_url(base).unwrap().join("/embeddings").to_string(), "http://a.test/v1/embeddings");
    }
    assert_eq!(
        base_url("http://a.test").unwrap().join("/v1/messages").to_string(),
        "http://a.test/v1/messages"
    );
}

#[tokio::test]
async fn a_provider_is_built_without_the_cost_of_certificates() {
    let settings = Settings { base_url: Some("https://a.test".into()), ..Settings::default() };
    let began = Instant::now();
    let documents =
        Arc::new(crate::knowledge::SharedKnowledge::new(crate::knowledge::Knowledge::of(&[], 1000)));
    build("p", &settings, &documents).unwrap();
    assert!(began.elapsed() < Duration::from_millis(50));
}

#[tokio::test]
async fn a_stream_says_no_more_than_an_answer_may() {
    let piece = |text: &str| {
        format!("data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    // Few words, many words, and many events of next to none.
    for (text, many, fits) in
        [("x".repeat(500), 8, true), ("x".repeat(500), 9, false), ("x".into(), 200, false)]
    {
        let (url, _asked) = upstream(vec![reply("200 OK", SSE, &(piece(&text).repeat(many) + end))]).await;
        let (_, events) = remote(&url).answer(&call(true), &target()).await.unwrap().into_parts();
        let events: Vec<_> = events.collect().await;
        assert_eq!(events.iter().all(Result::is_ok), fits, "{} x {many}", text.len());
        let told = events.last().unwrap().as_ref().err().map(|error| error.facts().code);
        assert_eq!(told, (!fits).then_some("upstream_broken"));
    }
}
