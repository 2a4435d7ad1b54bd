//! The two wires that a scripted provider speaks, written from the vendors'
//! documentation and not from our own decoders.
use base64::Engine;
use serde_json::{Value, json};

use super::upstream::Seen;

/// The API that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    OpenAi,
    Anthropic,
}

impl Wire {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::OpenAi, Self::Anthropic];

    /// Its name in the configuration.
    pub fn kind(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The base URL that the configuration names for a server at `address`.
    pub fn base_url(self, address: impl std::fmt::Display) -> String {
        match self {
            Self::OpenAi => format!("http://{address}/v1"),
            Self::Anthropic => format!("http://{address}"),
        }
    }
}

/// What a model says.
#[derive(Clone)]
pub struct Say {
    pub text: String,
    pub reasoning: String,
    /// Id, name and arguments.
    pub tools: Vec<(String, String, String)>,
    pub usage: Option<(u32, u32)>,
    /// Characters an event.
    pub chunk: usize,
    /// Asked to go on with a beginning of the text, it does.
    pub goes_on: bool,
}

impl Default for Say {
    fn default() -> Self {
        let (text, reasoning) = ("Hello from upstream.".into(), String::new());
        Self { text, reasoning, tools: vec![], usage: Some((11, 7)), chunk: 5, goes_on: false }
    }
}

const ID: &str = "upstream-answer-1";

impl Say {
    /// The whole reply's body; `None` where there is nothing at this path.
    pub fn whole(&self, request: &Seen) -> Option<Value> {
        match request.path.as_str() {
            "/v1/chat/completions" => Some(self.completion(&request.body)),
            "/v1/messages" => Some(self.message(&request.body)),
            "/v1/embeddings" => Some(self.embeddings(&request.body)),
            "/v1/models" => {
                let model = |id| json!({"id": id, "object": "model", "created": 1, "owned_by": "upstream"});
                Some(json!({"object": "list", "data": [model("model-a"), model("model-b")]}))
            }
            _ => None,
        }
    }

    /// The events of a streamed reply, each with its blank line.
    pub fn frames(&self, request: &Seen) -> Vec<String> {
        if self.goes_on
            && let Some(text) = self.rest(&request.body)
        {
            return Self { text, goes_on: false, ..self.clone() }.frames(request);
        }
        if request.path == "/v1/messages" {
            self.message_frames(&request.body)
        } else {
            self.chunks(&request.body)
        }
    }

    /// What it says when it is asked to go on: by a beginning of its answer
    /// the rest, by words the last words and the rest.
    fn rest(&self, asked: &Value) -> Option<String> {
        let messages = asked["messages"].as_array()?;
        let last = messages.last()?;
        let after = |begun: &str| {
            let rest = self.text.strip_prefix(begun);
            rest.unwrap_or_else(|| panic!("{begun:?} is no beginning of {:?}", self.text)).to_owned()
        };
        if last["role"] == "assistant" {
            return Some(after(&text_of(last)));
        }
        let words = text_of(last);
        let words = words.split_once("<last-words>")?.1.split_once("</last-words>")?.0;
        let begun = text_of(&messages[messages.len() - 2]);
        assert!(begun.trim_end().ends_with(words), "{words:?} are not the last words of {begun:?}");
        Some(words.to_owned() + &after(begun.trim_end()))
    }

    fn completion(&self, asked: &Value) -> Value {
        let calls: Vec<_> = self
            .tools
            .iter()
            .map(|(id, name, arguments)| {
                json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
            })
            .collect();
        let mut message = json!({"role": "assistant", "content": self.text});
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        if self.text.is_empty() {
            message["content"] = Value::Null;
        }
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.clone().into();
        }
        let choices: Vec<_> = (0..asked["n"].as_u64().unwrap_or(1))
            .map(|index| json!({"index": index, "message": message, "finish_reason": self.finish_reason()}))
            .collect();
        let mut reply = json!({
            "id": ID, "object": "chat.completion", "created": 1, "model": asked["model"], "choices": choices,
        });
        if let Some(usage) = self.openai_usage() {
            reply["usage"] = usage;
        }
        reply
    }

    fn chunks(&self, asked: &Value) -> Vec<String> {
        let chunk = |choices: Value| {
            json!({
                "id": ID, "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "choices": choices,
            })
        };
        let mut frames = Vec::new();
        for index in 0..asked["n"].as_u64().unwrap_or(1) {
            let mut delta = |delta: Value, finish: Value| {
                frames.push(chunk(json!([{"index": index, "delta": delta, "finish_reason": finish}])));
            };
            delta(json!({"role": "assistant", "content": ""}), Value::Null);
            for piece in pieces(&self.reasoning, self.chunk) {
                delta(json!({"reasoning_content": piece}), Value::Null);
            }
            for piece in pieces(&self.text, self.chunk) {
                delta(json!({"content": piece}), Value::Null);
            }
            for (at, (id, name, arguments)) in self.tools.iter().enumerate() {
                let function = json!({"name": name, "arguments": ""});
                delta(
                    json!({"tool_calls": [{"index": at, "id": id, "type": "function", "function": function}]}),
                    Value::Null,
                );
                for piece in pieces(arguments, self.chunk) {
                    delta(
                        json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]}),
                        Value::Null,
                    );
                }
            }
            delta(json!({}), self.finish_reason().into());
        }
        if let (Some(usage), true) = (self.openai_usage(), asked["stream_options"]["include_usage"] == true) {
            let mut last = chunk(json!([]));
            last["usage"] = usage;
            frames.push(last);
        }
        let mut frames: Vec<_> = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
        frames.push("data: [DONE]\n\n".into());
        frames
    }

    fn openai_usage(&self) -> Option<Value> {
        self.usage.map(|(input, output)| {
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
        })
    }

    fn finish_reason(&self) -> &'static str {
        if self.tools.is_empty() { "stop" } else { "tool_calls" }
    }

    fn message(&self, asked: &Value) -> Value {
        let mut content = Vec::new();
        if !self.reasoning.is_empty() {
            content.push(json!({"type": "thinking", "thinking": self.reasoning, "signature": "c2lnbmVk"}));
        }
        if !self.text.is_empty() {
            content.push(json!({"type": "text", "text": self.text}));
        }
        for (id, name, arguments) in &self.tools {
            let input: Value = serde_json::from_str(arguments).unwrap();
            content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
        }
        let (input, output) = self.usage.unwrap_or_default();
        json!({
            "id": ID, "type": "message", "role": "assistant", "model": asked["model"], "content": content,
            "stop_reason": self.stop_reason(), "stop_sequence": null,
            "usage": {"input_tokens": input, "output_tokens": output},
        })
    }

    fn message_frames(&self, asked: &Value) -> Vec<String> {
        let (input, output) = self.usage.unwrap_or_default();
        let mut frames = vec![
            json!({"type": "message_start", "message": {
                "id": ID, "type": "message", "role": "assistant", "model": asked["model"], "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": input, "output_tokens": 1},
            }}),
            json!({"type": "ping"}),
        ];
        let mut index = 0;
        let mut block = |start: Value, deltas: Vec<Value>| {
            frames.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
            for delta in deltas {
                frames.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            frames.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        };
        if !self.reasoning.is_empty() {
            let mut deltas: Vec<_> = pieces(&self.reasoning, self.chunk)
                .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                .collect();
            deltas.push(json!({"type": "signature_delta", "signature": "c2lnbmVk"}));
            block(json!({"type": "thinking", "thinking": "", "signature": ""}), deltas);
        }
        if !self.text.is_empty() {
            let deltas =
                pieces(&self.text, self.chunk).map(|piece| json!({"type": "text_delta", "text": piece}));
            block(json!({"type": "text", "text": ""}), deltas.collect());
        }
        for (id, name, arguments) in &self.tools {
            let deltas = pieces(arguments, self.chunk)
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect();
            block(json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas);
        }
        frames.push(json!({
            "type": "message_delta", "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
            "usage": {"output_tokens": output},
        }));
        frames.push(json!({"type": "message_stop"}));
        frames
            .iter()
            .map(|frame| format!("event: {}\ndata: {frame}\n\n", frame["type"].as_str().unwrap()))
            .collect()
    }

    fn stop_reason(&self) -> &'static str {
        if self.tools.is_empty() { "end_turn" } else { "tool_use" }
    }

    fn embeddings(&self, asked: &Value) -> Value {
        let inputs = asked["input"].as_array().map_or(1, Vec::len);
        let dimensions = asked["dimensions"].as_u64().unwrap_or(3) as usize;
        let data: Vec<_> = (0..inputs)
            .map(|index| {
                let vector: Vec<f32> = (0..dimensions).map(|at| index as f32 + at as f32 / 4.0).collect();
                let embedding = if asked["encoding_format"] == "base64" {
                    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                    base64::engine::general_purpose::STANDARD.encode(bytes).into()
                } else {
                    json!(vector)
                };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        let (input, _) = self.usage.unwrap_or_default();
        json!({
            "object": "list", "model": asked["model"], "data": data,
            "usage": {"prompt_tokens": input, "total_tokens": input},
        })
    }
}

/// An error as the first event of a stream.
pub fn error_frame(path: &str) -> String {
    if path == "/v1/messages" {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        format!("event: error\ndata: {error}\n\n")
    } else {
        let error =
            json!({"error": {"message": "The server had an error", "type": "server_error", "code": null}});
        format!("data: {error}\n\n")
    }
}

/// The text of a message of either wire.
fn text_of(message: &Value) -> String {
    let blocks = || message["content"].as_array().unwrap().iter().filter_map(|block| block["text"].as_str());
    message["content"].as_str().map_or_else(|| blocks().collect(), Into::into)
}

fn pieces(text: &str, size: usize) -> impl Iterator<Item = String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(size.max(1)).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}
