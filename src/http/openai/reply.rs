//! Writing a Chat Completions reply, whole and streamed.
use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::error::error_object;
use crate::{
    chat::{Choice, Completion, Event, Usage},
    error::Error,
    http::sse::Encoder,
    reply::Head,
    wire::openai::{self as wire, finish_name},
};

#[derive(Serialize)]
struct Whole<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WholeChoice<'a>>,
    usage: wire::Usage,
    system_fingerprint: Option<&'a str>,
}

#[derive(Serialize)]
struct WholeChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// The reply's id: the provider's own, else one made of the request's.
fn id(head: &Head, request_id: &str) -> String {
    head.id.as_deref().map_or_else(|| format!("chatcmpl-{request_id}"), str::to_owned)
}

/// The model that the reply names: the one that answered, else the one asked for.
fn model<'a>(head: &'a Head, asked: &'a str) -> &'a str {
    if head.model.is_empty() { asked } else { &head.model }
}

/// A whole reply.
pub fn whole(head: &Head, done: &Completion, asked: &str, request_id: &str, created: u64) -> Vec<u8> {
    let none = [Choice::default()];
    let choices = if done.choices.is_empty() { &none[..] } else { &done.choices };
    let whole = Whole {
        id: id(head, request_id),
        object: "chat.completion",
        created,
        model: model(head, asked),
        choices: choices.iter().enumerate().map(|(index, choice)| whole_choice(index, choice)).collect(),
        usage: wire::Usage::from(&done.usage.unwrap_or_default()),
        system_fingerprint: None,
    };
    serde_json::to_vec(&whole).unwrap_or_default()
}

fn whole_choice(index: usize, choice: &Choice) -> WholeChoice<'_> {
    let filled = |text: &'_ String| !text.is_empty();
    let calls = choice.tool_calls.iter().map(|call| Call {
        index: None,
        id: Some(&call.id),
        kind: Some("function"),
        function: Function { name: Some(&call.name), arguments: &call.arguments },
    });
    let silent = !choice.tool_calls.is_empty() || !choice.refusal.is_empty();
    WholeChoice {
        index,
        message: Message {
            role: "assistant",
            content: (!silent || !choice.text.is_empty()).then_some(&choice.text),
            refusal: Some(&choice.refusal).filter(|text| filled(text)).map(String::as_str),
            reasoning_content: Some(&choice.reasoning).filter(|text| filled(text)).map(String::as_str),
            tool_calls: calls.collect(),
        },
        logprobs: None,
        finish_reason: choice.finish.as_ref().map_or("stop", finish_name),
    }
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Call<'a>; 1]>,
}

/// Writes a streamed reply.
pub struct Stream {
    /// All of a chunk up to its choices; the same for the whole stream.
    lead: String,
    include_usage: bool,
    usage: Option<Usage>,
    /// Which choices have begun.
    begun: Vec<bool>,
}

impl Stream {
    /// A stream that has not begun.
    pub fn new(head: &Head, asked: &str, request_id: &str, created: u64, include_usage: bool) -> Self {
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let lead = format!(
            r#"data: {{"id":{},"object":"chat.completion.chunk","created":{created},"model":{},"system_fingerprint":null,"choices":["#,
            quoted(&id(head, request_id)),
            quoted(model(head, asked)),
        );
        Self { lead, include_usage, usage: None, begun: Vec::new() }
    }

    fn chunk(&self, choice: u32, delta: &Delta<'_>, finish: Option<&str>, out: &mut BytesMut) {
        out.put_slice(self.lead.as_bytes());
        out.put_slice(br#"{"index":"#);
        json(out, &choice);
        out.put_slice(br#","delta":"#);
        json(out, delta);
        out.put_slice(br#","logprobs":null,"finish_reason":"#);
        json(out, &finish);
        self.close(br"}]", out);
    }

    fn close(&self, choices: &[u8], out: &mut BytesMut) {
        out.put_slice(choices);
        out.put_slice(if self.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    fn delta(&mut self, choice: u32, mut delta: Delta<'_>, out: &mut BytesMut) {
        let slot = (choice as usize).min(255);
        if self.begun.len() <= slot {
            self.begun.resize(slot + 1, false);
        }
        if !std::mem::replace(&mut self.begun[slot], true) {
            // Clients expect the role with the first piece, and content to be there.
            delta.role = Some("assistant");
        }
        self.chunk(choice, &delta, None, out);
    }
}

fn json(out: &mut BytesMut, value: &impl Serialize) {
    // Writing to memory cannot fail, and none of these types can.
    let _ = serde_json::to_writer(out.writer(), value);
}

impl Encoder for Stream {
    fn begin(&mut self, _: &mut BytesMut) {}

    fn event(&mut self, event: Event, out: &mut BytesMut) {
        match &event {
            Event::Text { choice, text } if !text.is_empty() => {
                self.delta(*choice, Delta { content: Some(text), ..Delta::default() }, out);
            }
            Event::Refusal { choice, text } => {
                self.delta(*choice, Delta { refusal: Some(text), ..Delta::default() }, out);
            }
            Event::Reasoning { choice, text, .. } if !text.is_empty() => {
                self.delta(*choice, Delta { reasoning_content: Some(text), ..Delta::default() }, out);
            }
            Event::ToolCall { choice, index, id, name, arguments } => {
                let call = Call {
                    index: Some(*index),
                    id: id.as_deref(),
                    kind: id.as_ref().map(|_| "function"),
                    function: Function { name: name.as_deref(), arguments },
                };
                self.delta(*choice, Delta { tool_calls: Some([call]), ..Delta::default() }, out);
            }
            Event::Finish { choice, reason } => {
                self.chunk(*choice, &Delta::default(), Some(finish_name(reason)), out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Text { .. } | Event::Reasoning { .. } | Event::Embedding { .. } | Event::Grounded { .. } => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if self.include_usage {
            out.put_slice(self.lead.as_bytes());
            out.put_slice(br#"],"usage":"#);
            json(out, &wire::Usage::from(&self.usage.unwrap_or_default()));
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        // In-band, and without `[DONE]`: nobody shall take the half for the whole.
        out.put_slice(br#"data: {"error":"#);
        json(out, &error_object(error));
        out.put_slice(b"}\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Finish;

    fn stream(include_usage: bool, events: Vec<Event>) -> String {
        let mut stream = Stream::new(&Head::default(), "m", "r", 7, include_usage);
        let mut out = BytesMut::new();
        stream.begin(&mut out);
        events.into_iter().for_each(|event| stream.event(event, &mut out));
        stream.end(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_stream_has_its_role_first_and_its_usage_last() {
        let usage = Usage { input: 3, output: 2, ..Usage::default() };
        let text = stream(true, vec![Event::text("a\"b"), Event::finish(Finish::Stop), Event::Usage(usage)]);
        let chunks: Vec<&str> = text.split("\n\n").collect();
        assert!(chunks[0].contains(r#""delta":{"role":"assistant","content":"a\"b"}"#), "{text}");
        assert!(chunks[1].contains(r#""delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#), "{text}");
        assert!(chunks[2].contains(r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5"#), "{text}");
        assert_eq!(chunks[3..], ["data: [DONE]", ""]);
        for chunk in &chunks[..3] {
            serde_json::from_str::<serde_json::Value>(chunk.strip_prefix("data: ").unwrap()).unwrap();
        }
        assert!(!stream(false, vec![Event::text("a")]).contains("usage"));
    }

    #[test]
    fn a_tool_call_has_no_content() {
        let mut done = Completion::default();
        let call = |id: Option<&str>, arguments: &str| Event::ToolCall {
            choice: 0,
            index: 0,
            id: id.map(Into::into),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
        };
        done.push(&call(Some("c"), "{"));
        done.push(&call(None, "}"));
        let text = String::from_utf8(whole(&Head::default(), &done, "m", "r", 7)).unwrap();
        assert!(text.contains(r#""content":null"#), "{text}");
        assert!(text.contains(r#""tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]"#));
        let text = stream(false, vec![call(Some("c"), ""), call(None, "{}")]);
        assert!(text.contains(r#""tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]"#), "{text}");
        assert!(text.contains(r#"{"index":0,"function":{"arguments":"{}"}}"#), "{text}");
    }
}
