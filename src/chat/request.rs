//! A question on its way in.
use std::sync::Arc;

use serde_json::{Map, Value};

/// What is asked of a model. Cheap to share: stages hold it in an `Arc` and
/// copy it only to change it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The route's name as the caller gave it; a provider gets its target's model instead.
    pub model: String,
    /// The conversation, oldest first. For [`Purpose::Embed`], one message an input.
    pub messages: Vec<Message>,
    /// What kind of answer is wanted.
    pub purpose: Purpose,
    /// How the gateway itself may work on the question.
    pub mode: Mode,
    /// Whether the caller reads the answer as it is written.
    pub stream: bool,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u32>,
    /// Randomness, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Texts at which the model stops.
    pub stop: Vec<String>,
    /// Asks for a repeatable answer.
    pub seed: Option<i64>,
    /// How many answers; absent means one.
    pub choices: Option<u32>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Which of the tools must be called.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one turn.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub format: Option<Format>,
    /// How much the model may think first.
    pub reasoning: Option<Reasoning>,
    /// The caller's name for the person who asks. Sent on where the API has a field for it.
    pub user: Option<String>,
    /// What was found in the documents; set by the `ground` stage.
    pub grounding: Option<Arc<Grounding>>,
    /// The API whose spelling `rest` has.
    pub family: Family,
    /// Parameters carried without being understood.
    pub rest: Map<String, Value>,
}

impl Request {
    /// The number of answers asked for, at least one.
    pub fn choice_count(&self) -> u32 {
        self.choices.unwrap_or(1).max(1)
    }

    /// Who asks: the `user`, or where there is none what OpenAI has in its place. That stays in `rest`.
    pub fn asker(&self) -> Option<&str> {
        let newer = || {
            let own =
                self.purpose == Purpose::Chat && matches!(self.family, Family::OpenAi | Family::Responses);
            self.rest.get("safety_identifier").and_then(serde_json::Value::as_str).filter(|_| own)
        };
        self.user.as_deref().filter(|user| !user.is_empty()).or_else(newer)
    }

    /// The text of the last thing that a person said; empty if none did.
    pub fn question(&self) -> String {
        self.messages.iter().rev().find(|m| m.role == Role::User).map(Message::text).unwrap_or_default()
    }
}

/// The API that a request is spelled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// Sluice's own endpoints: nothing in `rest`.
    #[default]
    Native,
    /// OpenAI's Chat Completions and Embeddings.
    OpenAi,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Anthropic,
}

/// What kind of answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A conversation is continued.
    #[default]
    Chat,
    /// Each message becomes one vector.
    Embed {
        /// Length of the vectors; absent means the model's own.
        dimensions: Option<u32>,
    },
}

/// How the gateway itself may work on the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Passed on as it is.
    #[default]
    Chat,
    /// Answered from the documents.
    Rag,
    /// From the documents where they have something to say, else as it is.
    Auto,
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// The speaker's name, where several share a role.
    pub name: Option<String>,
}

impl Message {
    /// A message of one text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text { text: text.into(), rest: Map::new() }], name: None }
    }

    /// All of the message's text, joined.
    pub fn text(&self) -> String {
        let mut texts = self.parts.iter().filter_map(|part| match part {
            Part::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let first = texts.next().unwrap_or_default().to_owned();
        texts.fold(first, |all, text| all + "\n" + text)
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The application's standing instructions.
    System,
    /// OpenAI's newer name for them; kept apart because some models refuse the other.
    Developer,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Plain text.
    Text {
        /// The text.
        text: String,
        /// What else the part carried, such as `cache_control`.
        rest: Map<String, Value>,
    },
    /// A picture.
    Image(Media),
    /// A document.
    File(Media),
    /// Speech.
    Audio(Media),
    /// What the model thought, given back to it.
    Reasoning {
        /// The thought; empty where it is redacted.
        text: String,
        /// The provider's proof that it wrote the thought (Anthropic's `signature`).
        signature: Option<String>,
        /// An opaque, encrypted thought (Anthropic's `redacted_thinking`).
        redacted: Option<String>,
    },
    /// A tool that the model called.
    ToolCall(ToolUse),
    /// What a tool gave back.
    ToolResult {
        /// The id of the call that this answers.
        id: String,
        /// The result.
        parts: Vec<Part>,
        /// Whether the tool failed.
        failed: bool,
        /// What else the result carried, such as `cache_control`.
        rest: Map<String, Value>,
    },
    /// The model's words of refusal.
    Refusal(String),
    /// Anything else, carried to providers of the same family.
    Other(Value),
}

use super::completion::ToolCall as ToolUse;

/// A picture, document or recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Media {
    /// Where its bytes are.
    pub source: Source,
    /// Its MIME type, such as `image/png`.
    pub mime: Option<String>,
    /// Its file name.
    pub name: Option<String>,
    /// What else the part carried, such as `detail` or `cache_control`.
    pub rest: Map<String, Value>,
}

/// Where the bytes of a [`Media`] are. Sluice never fetches them itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Here, in base64.
    Base64(String),
    /// At an address that the provider fetches.
    Url(String),
    /// With the provider, under an id.
    Id(String),
    /// Here, as plain text (Anthropic's text documents).
    Text(String),
}

impl Default for Source {
    fn default() -> Self {
        Self::Base64(String::new())
    }
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// The caller's own, described by a JSON Schema.
    Function {
        /// Its name.
        name: String,
        /// What it does.
        description: Option<String>,
        /// Its arguments, as a JSON Schema object.
        parameters: Value,
        /// Whether the arguments must follow the schema to the letter.
        strict: Option<bool>,
        /// What else it carried, such as `cache_control`.
        rest: Map<String, Value>,
    },
    /// One that the provider runs itself, carried to providers of the same family.
    Other(Value),
}

/// Which of the tools must be called.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None may be called.
    None,
    /// At least one must be called.
    Required,
    /// This one must be called.
    Named(String),
    /// Anything else, carried to providers of the same family.
    Other(Value),
}

/// The form of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Free text.
    Text,
    /// Some JSON object.
    Json,
    /// JSON that follows a schema.
    Schema {
        /// The schema's name.
        name: String,
        /// The schema.
        schema: Value,
        /// What the schema is for.
        description: Option<String>,
        /// Whether it must be followed to the letter.
        strict: Option<bool>,
    },
}

/// How much the model may think before it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasoning {
    /// In words: `low`, `medium`, `high` … (OpenAI).
    pub effort: Option<String>,
    /// In tokens (Anthropic); zero switches it off.
    pub budget: Option<u32>,
    /// What else was said about it, such as `summary` (Responses).
    pub rest: Map<String, Value>,
}

/// What the documents say about a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounding {
    /// The question as it was asked, before a prompt was made of it.
    pub question: String,
    /// The passages found, best first.
    pub passages: Vec<Passage>,
}

impl Grounding {
    /// The size of what was found, in characters.
    pub fn context_chars(&self) -> usize {
        self.passages.iter().map(|p| p.text.chars().count()).sum()
    }
}

/// A piece of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// The document's path within the knowledge folder.
    pub document: Arc<str>,
    /// The headings above the passage, joined by ` › `.
    pub heading: Arc<str>,
    /// The text.
    pub text: Arc<str>,
    /// Where it begins in the document, in bytes.
    pub start: usize,
    /// How well it matches the question (BM25: higher is better, no upper bound).
    pub score: f64,
}
