//! The conversation, in no provider's words.
//!
//! Every edge reads its own JSON into a [`Request`], every provider answers
//! with [`Event`]s. Nothing here knows a vendor, a socket or a stage.
mod completion;
mod event;
mod request;
mod usage;

pub use completion::{Choice, Completion, ToolCall};
pub use event::{Citation, Event, Finish};
pub use request::{
    Family, Format, Grounding, Media, Message, Mode, Part, Passage, Purpose, Reasoning, Request, Role,
    Source, Tool, ToolChoice,
};
pub use usage::{Cost, Usage};
