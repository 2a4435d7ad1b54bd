//! The texts of an answer, and their pieces.
use crate::chat::Event;

/// What a piece of the answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Text(u32),
    Reasoning(u32),
    Refusal(u32),
    Arguments(u32, u32),
}

impl Channel {
    pub(super) fn choice(self) -> u32 {
        match self {
            Self::Text(choice)
            | Self::Reasoning(choice)
            | Self::Refusal(choice)
            | Self::Arguments(choice, _) => choice,
        }
    }

    pub(super) fn event(self, text: String) -> Event {
        match self {
            Self::Text(choice) => Event::Text { choice, text },
            Self::Refusal(choice) => Event::Refusal { choice, text },
            Self::Reasoning(choice) => Event::Reasoning { choice, text, signature: None, redacted: None },
            Self::Arguments(choice, index) => {
                Event::ToolCall { choice, index, id: None, name: None, arguments: text }
            }
        }
    }
}

pub(super) fn channel_of(event: &Event) -> Option<(Channel, &str)> {
    match event {
        Event::Text { choice, text } => Some((Channel::Text(*choice), text)),
        Event::Refusal { choice, text } => Some((Channel::Refusal(*choice), text)),
        Event::Reasoning { choice, text, redacted: None, .. } => Some((Channel::Reasoning(*choice), text)),
        Event::ToolCall { choice, index, arguments, .. } => {
            Some((Channel::Arguments(*choice, *index), arguments))
        }
        Event::Reasoning { .. }
        | Event::Embedding { .. }
        | Event::Grounded { .. }
        | Event::Usage(_)
        | Event::Continued { .. }
        | Event::Finish { .. } => None,
    }
}

/// The choice that an event belongs to.
pub(super) fn choice_of(event: &Event) -> Option<u32> {
    match event {
        Event::Text { choice, .. }
        | Event::Reasoning { choice, .. }
        | Event::Refusal { choice, .. }
        | Event::ToolCall { choice, .. }
        | Event::Finish { choice, .. } => Some(*choice),
        Event::Embedding { .. } | Event::Grounded { .. } | Event::Usage(_) | Event::Continued { .. } => None,
    }
}

pub(super) fn with_text(mut event: Event, new: String) -> Event {
    match &mut event {
        Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Reasoning { text, .. } => *text = new,
        Event::ToolCall { arguments, .. } => *arguments = new,
        Event::Embedding { .. }
        | Event::Grounded { .. }
        | Event::Usage(_)
        | Event::Continued { .. }
        | Event::Finish { .. } => {}
    }
    event
}

/// Whether an event says anything without its text.
pub(super) fn carries(event: &Event) -> bool {
    match event {
        Event::ToolCall { id, name, arguments, .. } => {
            id.is_some() || name.is_some() || !arguments.is_empty()
        }
        event => event.is_content(),
    }
}
