//! An answer that has been read to its end.
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Citation, Event, Finish, Usage};

/// An answer that has been read to its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The answers; one unless more were asked for.
    pub choices: Vec<Choice>,
    /// The vectors, in the order of the inputs.
    pub embeddings: Vec<Arc<[f32]>>,
    /// What supports the answer, and how far it can be relied on.
    pub grounded: Option<(Arc<[Citation]>, f64)>,
    /// What it took.
    pub usage: Option<Usage>,
}

/// One of the answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// The text.
    pub text: String,
    /// What the model thought.
    pub reasoning: String,
    /// The provider's proof of authorship of the thought.
    pub signature: Option<String>,
    /// Opaque, encrypted thoughts.
    pub redacted: Vec<String>,
    /// The words of refusal.
    pub refusal: String,
    /// The tools called.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Option<Finish>,
}

/// A tool that the model called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments, as JSON text.
    pub arguments: String,
    /// What else it carried where a caller gives it back, such as `cache_control`.
    pub rest: Map<String, Value>,
}

/// A provider's index beyond this, or more tool calls in all, are taken for nonsense, not for memory.
const MOST: usize = 4096;

impl Completion {
    /// An answer of one text.
    pub fn of_text(text: impl Into<String>, usage: Option<Usage>) -> Self {
        let choice = Choice { text: text.into(), finish: Some(Finish::Stop), ..Choice::default() };
        Self { choices: vec![choice], usage, ..Self::default() }
    }

    /// The text of the first answer.
    pub fn text(&self) -> &str {
        self.choices.first().map_or("", |choice| &choice.text)
    }

    /// Adds one event.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Text { choice, text } => self.choice(*choice).text.push_str(text),
            Event::Refusal { choice, text } => self.choice(*choice).refusal.push_str(text),
            Event::Reasoning { choice, text, signature, redacted } => {
                let choice = self.choice(*choice);
                choice.reasoning.push_str(text);
                choice.signature = signature.clone().or(choice.signature.take());
                choice.redacted.extend(redacted.clone());
            }
            Event::ToolCall { choice, index, id, name, arguments } => {
                let Some(call) = self.call(*choice, *index as usize) else { return };
                if let Some(id) = id {
                    call.id.clone_from(id);
                }
                if let Some(name) = name {
                    call.name.push_str(name);
                }
                call.arguments.push_str(arguments);
            }
            Event::Embedding { index, vector } => {
                let index = (*index as usize).min(MOST);
                if self.embeddings.len() <= index {
                    self.embeddings.resize_with(index + 1, || Arc::from([]));
                }
                self.embeddings[index] = vector.clone();
            }
            Event::Grounded { citations, confidence } => {
                self.grounded = Some((citations.clone(), *confidence));
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Continued { .. } => {}
            Event::Finish { choice, reason } => self.choice(*choice).finish = Some(reason.clone()),
        }
    }

    /// The same answer as a short stream. Pushing the events again gives the same answer.
    pub fn into_events(self) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.choices.len() * 2 + self.embeddings.len() + 2);
        for (index, vector) in self.embeddings.into_iter().enumerate() {
            events.push(Event::Embedding { index: index as u32, vector });
        }
        for (at, choice) in self.choices.into_iter().enumerate() {
            choice.into_events(at as u32, &mut events);
        }
        if let Some((citations, confidence)) = self.grounded {
            events.push(Event::Grounded { citations, confidence });
        }
        events.extend(self.usage.map(Event::Usage));
        events
    }

    /// A tool call. All answers together have no more than [`MOST`].
    fn call(&mut self, choice: u32, index: usize) -> Option<&mut ToolCall> {
        let mut last = self.choice(choice).tool_calls.len().checked_sub(1);
        if last.is_none_or(|last| index > last) {
            let all: usize = self.choices.iter().map(|choice| choice.tool_calls.len()).sum();
            let most = last.map_or(0, |last| last + 1) + MOST.saturating_sub(all);
            last = most.min(index.saturating_add(1)).checked_sub(1);
        }
        let calls = &mut self.choice(choice).tool_calls;
        let last = index.min(last?);
        if calls.len() <= last {
            calls.resize_with(last + 1, ToolCall::default);
        }
        calls.get_mut(last)
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let index = (index as usize).min(MOST);
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        &mut self.choices[index]
    }
}

impl Choice {
    fn into_events(self, choice: u32, events: &mut Vec<Event>) {
        for data in self.redacted {
            let redacted = Some(data);
            events.push(Event::Reasoning { choice, text: String::new(), signature: None, redacted });
        }
        if !self.reasoning.is_empty() || self.signature.is_some() {
            let (text, signature) = (self.reasoning, self.signature);
            events.push(Event::Reasoning { choice, text, signature, redacted: None });
        }
        if !self.text.is_empty() {
            events.push(Event::Text { choice, text: self.text });
        }
        if !self.refusal.is_empty() {
            events.push(Event::Refusal { choice, text: self.refusal });
        }
        for (index, call) in self.tool_calls.into_iter().enumerate() {
            let (id, name, arguments) = (Some(call.id), Some(call.name), call.arguments);
            events.push(Event::ToolCall { choice, index: index as u32, id, name, arguments });
        }
        events.extend(self.finish.map(|reason| Event::Finish { choice, reason }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_answers_together_take_so_much_memory() {
        let mut whole = Completion::default();
        let call =
            |choice, index| Event::ToolCall { choice, index, id: None, name: None, arguments: "x".into() };
        whole.push(&call(0, 1));
        whole.push(&call(1, u32::MAX));
        for choice in 0..200 {
            whole.push(&call(choice, u32::MAX));
        }
        let counts: Vec<_> = whole.choices.iter().map(|choice| choice.tool_calls.len()).collect();
        assert_eq!((counts[0], counts[1], counts.iter().sum::<usize>()), (2, MOST - 2, MOST));
        assert_eq!(whole.choices[0].tool_calls[1].arguments, "xx", "what is beyond is the last one's");
        assert_eq!(whole.choices.len(), 200);
    }
}
