//! A small HTTP/1.1 client over a raw socket: it sees each byte and how the
//! reply ends, and when it is dropped the connection is gone at once.
use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::upstream::find;

/// No reply of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that is being put together.
pub struct Ask {
    address: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let (method, path) = (method.into(), path.into());
        Self { address, method, path, headers: vec![], body: vec![] }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    pub fn body(mut self, content_type: &str, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        self.header("content-type", content_type)
    }

    /// Sends it and reads the whole reply.
    pub async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        let (head, mut body) = self.begin().await;
        let mut answer = head;
        while let Some(bytes) = body.next().await {
            answer.body.extend(bytes);
        }
        assert!(body.clean, "the reply to {what} was cut: {}", answer.text());
        answer
    }

    /// As [`Ask::send`], from a gateway that may be gone by now: what came of the reply.
    pub async fn try_send(self) -> Result<Answer, String> {
        let (mut answer, mut body) = self.try_begin().await?;
        while let Some(bytes) = body.next().await {
            answer.body.extend(bytes);
        }
        Ok(answer)
    }

    /// Sends it and reads the head; the events are read as they come.
    pub async fn stream(self) -> Sse {
        let (head, body) = self.begin().await;
        Sse { head, body, text: Vec::new() }
    }

    /// As [`Ask::stream`], from a gateway that may be gone by now.
    pub async fn try_stream(self) -> Result<Sse, String> {
        let (head, body) = self.try_begin().await?;
        Ok(Sse { head, body, text: Vec::new() })
    }

    async fn begin(self) -> (Answer, Body) {
        self.try_begin().await.unwrap_or_else(|problem| panic!("{problem}"))
    }

    async fn try_begin(self) -> Result<(Answer, Body), String> {
        let socket = TcpStream::connect(self.address).await;
        let mut socket = socket.map_err(|error| format!("the gateway does not listen: {error}"))?;
        socket.set_nodelay(true).unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            self.method, self.path, self.address
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method == "POST" {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        head += "\r\n";
        // A server that refuses early may close before it has read all: its answer counts.
        let _ = socket.write_all(&[head.as_bytes(), &self.body].concat()).await;
        read_head(socket, &self.method).await
    }
}

/// A reply.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} is no JSON ({e}): {}", self.status, self.text()))
    }

    /// The JSON body of a reply that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }
}

/// One server-sent event, or a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub event: String,
    pub id: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comment: Option<String>,
}

impl Frame {
    fn read(text: &str) -> Self {
        let mut frame = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix(':') {
                frame.comment = Some(comment.trim().into());
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => frame.event = value.into(),
                "id" => frame.id = Some(value.into()),
                "retry" => frame.retry = Some(value.into()),
                "data" => match &mut frame.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => frame.data = Some(value.into()),
                },
                _ => panic!("`{field}` is no field of server-sent events: {text}"),
            }
        }
        frame
    }

    /// The data as JSON.
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_default();
        serde_json::from_str(data).unwrap_or_else(|e| panic!("{data} is no JSON: {e}"))
    }
}

/// A reply read event by event. Dropping it closes the connection.
pub struct Sse {
    pub head: Answer,
    body: Body,
    text: Vec<u8>,
}

impl Sse {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = find(&self.text, b"\n\n") {
                let frame: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(Frame::read(std::str::from_utf8(&frame).expect("events are UTF-8")));
            }
            let Some(bytes) = self.body.next().await else {
                assert!(self.body.clean, "the stream broke off without a word");
                assert!(self.text.is_empty(), "half an event: {}", String::from_utf8_lossy(&self.text));
                return None;
            };
            self.text.extend(bytes);
        }
    }

    /// All events that are left, comments left out.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            if frame.data.is_some() {
                frames.push(frame);
            }
        }
        frames
    }

    /// The data of all unnamed events, as `EventSource.onmessage` sees them.
    pub async fn messages(&mut self) -> Vec<String> {
        let unnamed = |frame: Frame| if frame.event.is_empty() { frame.data } else { None };
        self.rest().await.into_iter().filter_map(unnamed).collect()
    }

    /// The data of all events but `[DONE]`, as JSON, and whether `[DONE]` came last.
    pub async fn chunks(&mut self) -> (Vec<Value>, bool) {
        let mut frames = self.rest().await;
        let done = frames.last().and_then(|last| last.data.as_deref()) == Some("[DONE]");
        if done {
            frames.pop();
        }
        (frames.iter().map(Frame::json).collect(), done)
    }
}

/// What is left of a body on the wire.
struct Body {
    socket: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
    /// Whether the reply has ended as HTTP ends it.
    clean: bool,
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Body {
    async fn next(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.read()).await.expect("the gateway hangs in the middle of a reply")
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            match &mut self.framing {
                Framing::Length(0) => {
                    self.clean = true;
                    return None;
                }
                Framing::Length(left) if !self.buffer.is_empty() => {
                    let count = self.buffer.len().min(*left);
                    *left -= count;
                    return Some(self.buffer.drain(..count).collect());
                }
                Framing::UntilClose if !self.buffer.is_empty() => {
                    return Some(std::mem::take(&mut self.buffer));
                }
                Framing::Chunked => {
                    if let Some(end) = find(&self.buffer, b"\r\n") {
                        let size = std::str::from_utf8(&self.buffer[..end]).unwrap().trim();
                        let size = usize::from_str_radix(size, 16).expect("a chunk begins with its size");
                        if self.buffer.len() >= end + 2 + size + 2 {
                            let chunk = self.buffer[end + 2..end + 2 + size].to_vec();
                            self.buffer.drain(..end + 2 + size + 2);
                            self.clean = size == 0;
                            return (size > 0).then_some(chunk);
                        }
                    }
                }
                _ => {}
            }
            if !matches!(self.socket.read_buf(&mut self.buffer).await, Ok(1..)) {
                self.clean = matches!(self.framing, Framing::UntilClose);
                return None;
            }
        }
    }
}

async fn read_head(mut socket: TcpStream, method: &str) -> Result<(Answer, Body), String> {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(end) = find(&buffer, b"\r\n\r\n") {
            break end;
        }
        let read =
            timeout(PATIENCE, socket.read_buf(&mut buffer)).await.expect("the gateway does not answer");
        if read.unwrap_or(0) == 0 {
            return Err(format!(
                "the gateway closed without an answer: {}",
                String::from_utf8_lossy(&buffer)
            ));
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let answer = Answer { status, headers, body: Vec::new() };
    let framing = match (answer.header("content-length"), answer.header("transfer-encoding")) {
        _ if method == "HEAD" || status == 204 => Framing::Length(0),
        (Some(length), _) => Framing::Length(length.parse().unwrap()),
        (None, Some(_)) => Framing::Chunked,
        (None, None) => Framing::UntilClose,
    };
    Ok((answer, Body { socket, buffer, framing, clean: false }))
}
