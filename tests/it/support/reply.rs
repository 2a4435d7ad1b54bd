//! What a scripted provider does with one request, down to the byte.
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    upstream::Seen,
    wire::{self, Say},
};

/// What a scripted provider does with one request.
#[derive(Clone, Default)]
pub struct Act {
    kind: Kind,
    /// The wait before the first byte.
    latency: Duration,
    /// The wait before each event of a stream.
    every: Duration,
    /// Cuts the connection after so many bytes of the reply.
    cut: Option<usize>,
    /// Says no more after so many events of a stream.
    hang: Option<usize>,
    /// Cuts the connection after so many events of a stream.
    cut_events: Option<usize>,
    /// Sends so many bytes at a time, with this wait before each.
    drip: Option<(usize, Duration)>,
}

#[derive(Clone)]
enum Kind {
    Say(Say),
    Status {
        code: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// The stream's first event is an error.
    ErrorFirst,
    /// These bytes, whatever was asked, and the end of the connection.
    Raw(Vec<u8>),
    Hang,
}

impl Default for Kind {
    fn default() -> Self {
        Self::Say(Say::default())
    }
}

/// Bytes and waits, and what comes after them.
pub struct Plan {
    pub steps: Vec<(Duration, Vec<u8>)>,
    pub after: After,
}

/// What becomes of the connection.
#[derive(Clone, Copy)]
pub enum After {
    Reuse,
    Close,
    Hang,
}

impl Act {
    fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Answers with this text, and a usage of 11 and 7 tokens.
    pub fn say(text: &str) -> Self {
        Self::of(Kind::Say(Say { text: text.into(), ..Say::default() }))
    }

    /// Answers with a call of this tool.
    pub fn call_tool(name: &str, arguments: &Value) -> Self {
        let tools = vec![("call_1".into(), name.into(), arguments.to_string())];
        Self::of(Kind::Say(Say { text: String::new(), tools, ..Say::default() }))
    }

    /// An error status with this body.
    pub fn status(code: u16, body: &Value) -> Self {
        Self::of(Kind::Status { code, headers: vec![], body: body.to_string() })
    }

    /// A fault of the provider's, as OpenAI words it.
    pub fn failed() -> Self {
        Self::status(500, &json!({"error": {"message": "upstream secret detail", "type": "server_error"}}))
    }

    /// A rate limit of the provider's, perhaps with a `Retry-After` in seconds.
    pub fn busy(retry_after: Option<u32>) -> Self {
        let error =
            json!({"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"});
        let act = Self::status(429, &json!({"type": "error", "error": error}));
        match retry_after {
            Some(seconds) => act.header("retry-after", &seconds.to_string()),
            None => act,
        }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::of(Kind::Hang)
    }

    /// Closes the connection without a word.
    pub fn close() -> Self {
        Self::raw(b"")
    }

    /// These bytes instead of a reply.
    pub fn raw(bytes: &[u8]) -> Self {
        Self::of(Kind::Raw(bytes.to_vec()))
    }

    /// Success, says the status; nonsense, says the body.
    pub fn page(content_type: &str, body: &str) -> Self {
        Self::raw(&whole(200, &[("content-type".into(), content_type.into())], body.as_bytes()))
    }

    /// A stream that begins with an error; an error status where none is asked for.
    pub fn error_first() -> Self {
        Self::of(Kind::ErrorFirst)
    }

    /// With this header, on an error status.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Status { headers, .. } = &mut self.kind {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Waits before the first byte.
    pub fn after(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Waits before each event of a stream.
    pub fn every(mut self, wait: Duration) -> Self {
        self.every = wait;
        self
    }

    /// Goes on with a beginning of its text when it is asked to.
    pub fn going_on(self) -> Self {
        self.with(|say| say.goes_on = true)
    }

    /// How many bytes its reply to this request has.
    pub fn length(&self, request: &Seen) -> usize {
        self.plan(request).steps.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Streams so many characters an event.
    pub fn chunks_of(self, characters: usize) -> Self {
        self.with(|say| say.chunk = characters)
    }

    /// Thinks this first.
    pub fn thinking(self, thought: &str) -> Self {
        self.with(|say| say.reasoning = thought.into())
    }

    /// Reports this usage, or none.
    pub fn usage(self, usage: Option<(u32, u32)>) -> Self {
        self.with(|say| say.usage = usage)
    }

    /// Cuts the connection after so many bytes of the reply, head included.
    pub fn cut_at(mut self, byte: usize) -> Self {
        self.cut = Some(byte);
        self
    }

    /// Cuts the connection after so many events of a stream.
    pub fn cut_after(mut self, events: usize) -> Self {
        self.cut_events = Some(events);
        self
    }

    /// Says no more after so many events of a stream.
    pub fn hang_after(mut self, events: usize) -> Self {
        self.hang = Some(events);
        self
    }

    /// Sends so many bytes at a time, with a wait before each.
    pub fn drip(mut self, bytes: usize, wait: Duration) -> Self {
        self.drip = Some((bytes, wait));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Say)) -> Self {
        if let Kind::Say(say) = &mut self.kind {
            change(say);
        }
        self
    }

    /// The tokens that are billed when it has been played to its end.
    pub fn bills(&self) -> Option<(u32, u32)> {
        match &self.kind {
            Kind::Say(say) => say.usage,
            Kind::Status { .. } | Kind::ErrorFirst => Some((0, 0)),
            Kind::Raw(_) | Kind::Hang => None,
        }
    }

    /// The act as an answer to this request.
    pub fn plan(&self, request: &Seen) -> Plan {
        let mut plan = self.undisturbed(request);
        if let Some(first) = plan.steps.first_mut() {
            first.0 += self.latency;
        } else if !self.latency.is_zero() {
            plan.steps.push((self.latency, Vec::new()));
        }
        if let Some(cut) = self.cut {
            plan.cut(cut);
        }
        if let Some((bytes, wait)) = self.drip {
            plan.drip(bytes, wait);
        }
        plan
    }

    fn undisturbed(&self, request: &Seen) -> Plan {
        let streamed = request.body["stream"] == true;
        match &self.kind {
            Kind::Hang => Plan { steps: vec![], after: After::Hang },
            Kind::Raw(bytes) => Plan { steps: vec![(Duration::ZERO, bytes.clone())], after: After::Close },
            Kind::Status { code, headers, body } => Plan::whole(*code, headers, body.as_bytes()),
            Kind::ErrorFirst if streamed => self.stream(&[wire::error_frame(&request.path)]),
            Kind::ErrorFirst => Self::failed().undisturbed(request),
            Kind::Say(say) if streamed => self.stream(&say.frames(request)),
            Kind::Say(say) => match say.whole(request) {
                Some(body) => Plan::whole(200, &[], body.to_string().as_bytes()),
                None => Plan::whole(
                    404,
                    &[],
                    br#"{"error":{"message":"no such path","type":"invalid_request_error"}}"#,
                ),
            },
        }
    }

    fn stream(&self, frames: &[String]) -> Plan {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut plan = Plan { steps: vec![(Duration::ZERO, head.into())], after: After::Reuse };
        for (index, frame) in frames.iter().enumerate() {
            if self.hang == Some(index) {
                plan.after = After::Hang;
                return plan;
            } else if self.cut_events == Some(index) {
                plan.after = After::Close;
                return plan;
            }
            plan.steps.push((self.every, format!("{:x}\r\n{frame}\r\n", frame.len()).into()));
        }
        plan.steps.push((Duration::ZERO, b"0\r\n\r\n".to_vec()));
        plan
    }
}

impl Plan {
    fn whole(code: u16, headers: &[(String, String)], body: &[u8]) -> Self {
        let mut all = vec![("content-type".into(), "application/json".into())];
        all.extend_from_slice(headers);
        Self { steps: vec![(Duration::ZERO, whole(code, &all, body))], after: After::Reuse }
    }

    fn cut(&mut self, mut left: usize) {
        self.after = After::Close;
        for (_, bytes) in &mut self.steps {
            bytes.truncate(left);
            left -= bytes.len();
        }
    }

    fn drip(&mut self, size: usize, wait: Duration) {
        let steps = std::mem::take(&mut self.steps);
        for (first, bytes) in steps {
            self.steps.push((first, Vec::new()));
            self.steps.extend(bytes.chunks(size).map(|piece| (wait, piece.to_vec())));
        }
    }
}

fn whole(code: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut reply = format!("HTTP/1.1 {code} Scripted\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        reply += &format!("{name}: {value}\r\n");
    }
    reply += "\r\n";
    [reply.as_bytes(), body].concat()
}
