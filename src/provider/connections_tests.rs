use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Wake,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Notify, mpsc},
};

use super::*;

#[test]
fn a_host_is_named_without_the_port_that_goes_without_saying() {
    for (base, expected) in [
        ("http://a.test:80/v1", "a.test"),
        ("https://a.test:443", "a.test"),
        ("https://a.test:80", "a.test:80"),
        ("http://[::1]:8080", "[::1]:8080"),
    ] {
        assert_eq!(host(&base.parse().unwrap()), expected);
    }
}

#[tokio::test]
async fn a_connection_is_used_again_unless_a_large_question_went_through_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let mut socket = listener.accept().await.unwrap().0;
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while socket.read_buf(&mut asked).await.unwrap_or(0) > 0 {
                    if asked.ends_with(b"end") {
                        asked.clear();
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                }
            });
        }
    });
    let connections = Connections::new(&base, Duration::from_secs(5));
    for (size, used_again) in [(10, true), (LARGE as usize, true), (LARGE as usize + 1, false)] {
        let question = Bytes::from([vec![b'a'; size - 3], b"end".to_vec()].concat());
        let request = || Request::post(base.clone()).body(Sent::new(question.clone())).unwrap();
        let mut body = connections.send(request).await.unwrap().into_body();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "ok");
        assert!(body.chunk().await.unwrap().is_none());
        assert_eq!(connections.has_idle(), used_again, "{size} bytes");
    }
}

/// Counts how often a task would have been run.
#[derive(Default)]
struct Runs(AtomicUsize, Notify);

impl Wake for Runs {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
        self.1.notify_one();
    }
}

#[tokio::test]
async fn a_piece_of_an_answer_wakes_who_waits_for_it_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (told, mut told_to) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut socket, mut head) = (listener.accept().await.unwrap().0, Vec::new());
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_buf(&mut head).await.unwrap();
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        while let Some(piece) = told_to.recv().await {
            let piece: &str = piece;
            socket.write_all(piece.as_bytes()).await.unwrap();
        }
    });
    let connections = Connections::new(&base, Duration::from_secs(5));
    let request = || Request::get(base.clone()).body(Sent::default()).unwrap();
    let mut body = connections.send(request).await.unwrap().into_body();
    let runs = Arc::new(Runs::default());
    let waker = runs.clone().into();
    let mut cx = Context::from_waker(&waker);
    assert!(body.poll_chunk(&mut cx).is_pending());
    for _ in 0..5 {
        runs.0.store(0, Relaxed);
        told.send("5\r\nhello\r\n").unwrap();
        runs.1.notified().await;
        assert!(matches!(body.poll_chunk(&mut cx), Poll::Ready(Ok(Some(piece))) if piece == "hello"));
        assert!(body.poll_chunk(&mut cx).is_pending());
        task::yield_now().await;
        assert_eq!(runs.0.load(Relaxed), 1);
    }
    told.send("0\r\n\r\n").unwrap();
    runs.1.notified().await;
    assert!(matches!(body.poll_chunk(&mut cx), Poll::Ready(Ok(None))));
    assert!(connections.has_idle(), "it can be used again");
}

#[test]
fn the_system_s_certificates_are_readable() {
    assert!(connector(true, Duration::from_secs(1)).is_ok());
}
