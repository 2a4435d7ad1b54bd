//! A streamed answer in Anthropic's JSON.
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    ANSWER_TOOL,
    decode::{self, Block, Message},
};
use crate::{
    chat::Event,
    error::{Error, Result},
    provider::{
        Decoder,
        bounds::{self, Blocks, MOST_BLOCKS, MOST_CALLS},
        failure,
        text::Text,
    },
    reply::Head,
    wire::{
        self,
        anthropic::{Usage, finish_of},
    },
};

/// Reads one streamed answer.
#[derive(Debug, Default)]
pub(super) struct Stream {
    head: Head,
    /// The blocks that are open, by their index.
    open: Vec<(u32, Open)>,
    /// How many blocks have begun.
    begun: usize,
    /// How many callers see, where pieces are not of the kind that their blocks are.
    blocks: Blocks,
    /// How many tool calls have begun.
    calls: u32,
    /// Whether the answer came through the answer's tool.
    answered: bool,
    usage: Usage,
    stopped: bool,
    done: bool,
}

/// A block that is being written.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// A tool call, and whether any of its arguments have come.
    Call { index: u32, begun: bool },
    /// The answer's own tool.
    Answer,
    /// Text or thoughts: the pieces say themselves what they are.
    Words,
    /// A tool that the provider runs itself.
    Foreign,
}

/// A provider that opens more blocks at once is out of its mind.
const MOST_OPEN: usize = 64;

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<Later>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    thinking: Text<'a>,
    #[serde(borrow)]
    signature: Text<'a>,
    #[serde(borrow)]
    partial_json: Text<'a>,
    #[serde(borrow)]
    stop_reason: Text<'a>,
    #[serde(borrow)]
    stop_sequence: Text<'a>,
}

/// The usage so far. What it leaves out stands as it was.
#[derive(Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names, reason = "the API's names")]
struct Later {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Decoder for Stream {
    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        if self.done || data.is_empty() {
            return Ok(());
        }
        let before = out.len();
        self.read(wire::read(data).map_err(failure::unreadable)?, out)?;
        out[before..].iter().try_for_each(|event| self.blocks.count(event))
    }

    fn head(&self) -> Head {
        self.head.clone()
    }

    fn done(&self) -> bool {
        self.done
    }

    fn close(&mut self, _: &mut Vec<Event>) -> Result<()> {
        if self.stopped { Ok(()) } else { Err(Error::broken("the stream ended without a stop reason")) }
    }
}

impl Stream {
    fn read(&mut self, event: Incoming<'_>, out: &mut Vec<Event>) -> Result<()> {
        match event.kind.0.as_ref() {
            "message_start" => {
                if let Some(message) = event.message {
                    self.begin(message, out);
                }
            }
            "content_block_start" => {
                self.open(event.index, event.content_block.unwrap_or_default(), out)?;
            }
            "content_block_delta" => self.piece(event.index, event.delta.unwrap_or_default(), out)?,
            "content_block_stop" => self.shut(event.index, out),
            "message_delta" => {
                self.end(event.delta.unwrap_or_default(), &event.usage.unwrap_or_default(), out);
            }
            "message_stop" => {
                self.done = true;
                return self.close(out);
            }
            "error" => return Err(failure::of_stream(event.error.unwrap_or(RawValue::NULL))),
            // Pings, and what may be added to the API.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, message: Message<'_>, out: &mut Vec<Event>) {
        self.head.model = bounds::name(message.model).unwrap_or_default();
        self.head.id = bounds::name(message.id);
        if let Some(usage) = message.usage {
            self.usage = usage;
            out.push(Event::Usage(usage.into()));
        }
    }

    fn open(&mut self, index: u32, block: Block<'_>, out: &mut Vec<Event>) -> Result<()> {
        self.begun += 1;
        if self.begun > MOST_BLOCKS {
            return Err(bounds::too_many());
        }
        // One that was not ended, and of which the next one has the number, has ended.
        self.shut(index, out);
        let choice = 0;
        let kind = match block.kind.0.as_ref() {
            "text" => {
                out.extend(block.text.filled().map(Event::text));
                Open::Words
            }
            "thinking" => {
                let signature = block.signature.filled();
                let text = block.thinking.0.into_owned();
                if !text.is_empty() || signature.is_some() {
                    out.push(Event::Reasoning { choice, text, signature, redacted: None });
                }
                Open::Words
            }
            "redacted_thinking" => {
                let redacted = block.data.filled();
                out.push(Event::Reasoning { choice, text: String::new(), signature: None, redacted });
                Open::Words
            }
            "tool_use" => {
                // Some servers that speak this API give the arguments here, and no pieces.
                let given = Some(block.input()).filter(|input| *input != "{}").unwrap_or_default().to_owned();
                let begun = !given.is_empty();
                if block.name.0 == ANSWER_TOOL {
                    self.answered = true;
                    out.extend(begun.then(|| Event::text(given)));
                    Open::Answer
                } else if self.calls as usize >= MOST_CALLS {
                    return Err(bounds::too_many());
                } else {
                    let (id, name) = (block.id.filled(), block.name.filled());
                    if name.is_none() {
                        return Err(failure::nameless());
                    }
                    out.push(Event::ToolCall { choice, index: self.calls, id, name, arguments: given });
                    self.calls += 1;
                    Open::Call { index: self.calls - 1, begun }
                }
            }
            _ => Open::Foreign,
        };
        if self.open.len() >= MOST_OPEN {
            return Err(bounds::too_many());
        }
        self.open.push((index, kind));
        Ok(())
    }

    fn piece(&mut self, index: u32, delta: Delta<'_>, out: &mut Vec<Event>) -> Result<()> {
        let choice = 0;
        let open = self.open.iter_mut().find(|(at, _)| *at == index).map(|(_, open)| open);
        match (delta.kind.0.as_ref(), open) {
            ("text_delta", _) => out.extend(delta.text.filled().map(Event::text)),
            ("thinking_delta", _) => out.extend(delta.thinking.filled().map(|text| Event::Reasoning {
                choice,
                text,
                signature: None,
                redacted: None,
            })),
            ("signature_delta", _) => {
                let signature = delta.signature.filled();
                if signature.is_some() {
                    out.push(Event::Reasoning { choice, text: String::new(), signature, redacted: None });
                }
            }
            ("input_json_delta", Some(Open::Answer)) => {
                out.extend(delta.partial_json.filled().map(Event::text));
            }
            ("input_json_delta", Some(Open::Call { index, begun })) => {
                if let Some(arguments) = delta.partial_json.filled() {
                    *begun = true;
                    out.push(Event::ToolCall { choice, index: *index, id: None, name: None, arguments });
                }
            }
            // Whose arguments these are is not known, and a call without them would be another one.
            ("input_json_delta", None) if !delta.partial_json.0.is_empty() => {
                return Err(Error::broken("the stream has a piece of a block that is not open"));
            }
            // Citations, and arguments of tools that the provider runs itself.
            _ => {}
        }
        Ok(())
    }

    fn shut(&mut self, index: u32, out: &mut Vec<Event>) {
        let Some(at) = self.open.iter().position(|(at, _)| *at == index) else { return };
        if let (_, Open::Call { index, begun: false }) = self.open.swap_remove(at) {
            // A call without arguments has no pieces; callers read them as JSON all the same.
            let arguments = "{}".to_owned();
            out.push(Event::ToolCall { choice: 0, index, id: None, name: None, arguments });
        }
    }

    fn end(&mut self, delta: Delta<'_>, later: &Later, out: &mut Vec<Event>) {
        if !delta.stop_reason.0.is_empty() && !self.stopped {
            self.stopped = true;
            let finish = finish_of(&delta.stop_reason.0, delta.stop_sequence.filled());
            out.push(Event::finish(decode::settled(finish, self.answered, self.calls > 0)));
        }
        let usage = &mut self.usage;
        for (so_far, now) in [
            (&mut usage.input_tokens, later.input_tokens),
            (&mut usage.cache_creation_input_tokens, later.cache_creation_input_tokens),
            (&mut usage.cache_read_input_tokens, later.cache_read_input_tokens),
            (&mut usage.output_tokens, later.output_tokens),
        ] {
            *so_far = now.unwrap_or(*so_far);
        }
        out.push(Event::Usage(self.usage.into()));
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
