//! How much a provider may say at once.
//!
//! Three bytes of JSON can ask for two hundred of memory: a list of empty objects. So lists are read up to a bound and
//! not to their end, and what counts is the whole answer: many answers with many calls each are not more than one with
//! as many.
use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{failure, text::Text};
use crate::{
    chat::Event,
    error::{Error, Result},
};

/// The most answers to one question; OpenAI's own bound of `n`.
pub(super) const MOST_CHOICES: usize = 128;
/// The most tool calls of an answer, all choices together. `guard/hold.rs` tells as many apart.
pub(super) const MOST_CALLS: usize = 1024;
/// The most blocks of an answer, of each choice; cited texts have many.
pub(super) const MOST_BLOCKS: usize = 4096;
/// The most vectors: as many as a question can have inputs.
pub(super) const MOST_VECTORS: usize = 2048;
/// The longest vector, in numbers; those of models have some thousands.
pub(super) const LONGEST_VECTOR: usize = 65_536;
/// The longest name of an answer or of a model, in bytes. Each piece of a stream repeats them.
const LONGEST_NAME: usize = 256;

/// What is said of a list that is too long. Nothing that a provider says begins so.
pub(super) const TOO_MANY: &str = "the answer has too many parts";

/// An answer that is more than anybody asked for.
pub(super) fn too_many() -> Error {
    Error::broken(TOO_MANY)
}

/// Counts the blocks of a streamed answer: what encoders write as a block or an item of its own, and keep. A text, a
/// thought or a refusal after something else is one, and so is each tool call.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    many: usize,
    /// What the last one is, if it may go on.
    open: Option<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Reasoning,
    Refusal,
    Call,
}

impl Blocks {
    /// Counts what an event begins. Fails when there are too many.
    pub(super) fn count(&mut self, event: &Event) -> Result<()> {
        let (block, goes_on) = match event {
            Event::Text { .. } => (Block::Text, true),
            // A proof of authorship ends a thought.
            Event::Reasoning { signature, redacted, .. } => {
                (Block::Reasoning, signature.is_none() && redacted.is_none())
            }
            Event::Refusal { .. } => (Block::Refusal, true),
            Event::ToolCall { name: Some(_), .. } => {
                self.open = None;
                (Block::Call, true)
            }
            _ => return Ok(()),
        };
        self.many += usize::from(self.open != Some(block));
        self.open = goes_on.then_some(block);
        if self.many > MOST_BLOCKS { Err(too_many()) } else { Ok(()) }
    }
}

/// Reads a list of at most `N` elements; `null` has none.
pub(super) fn at_most<'de, const N: usize, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    AtMost(N, PhantomData).deserialize(deserializer)
}

/// Reads a list that was left as it stands. Its elements take from the room that the whole answer has.
pub(super) fn within<'a, T: Deserialize<'a>>(list: Option<&'a RawValue>, room: &mut usize) -> Result<Vec<T>> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let mut reader = serde_json::Deserializer::from_str(list.get());
    let list = AtMost(*room, PhantomData).deserialize(&mut reader).map_err(failure::unreadable)?;
    *room -= list.len();
    Ok(list)
}

/// A name of an answer or of a model, if it can be one.
pub(super) fn name(text: Text<'_>) -> Option<Arc<str>> {
    (!text.0.is_empty() && text.0.len() <= LONGEST_NAME).then(|| text.0.into())
}

/// A list that ends, or fails, after so many elements.
struct AtMost<T>(usize, PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for AtMost<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtMost<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() >= self.0 {
                return Err(A::Error::custom(TOO_MANY));
            }
            list.push(element);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct List(#[serde(deserialize_with = "at_most::<2, _, _>")] Vec<u8>);

    #[test]
    fn a_list_is_read_up_to_its_bound() {
        let read = |json: &str| serde_json::from_str::<List>(json).map(|list| list.0);
        assert_eq!(read("[1,2]").unwrap(), [1, 2]);
        assert!(read("null").unwrap().is_empty());
        assert!(read("[1,2,3]").unwrap_err().to_string().starts_with(TOO_MANY));
        assert!(!read("[\"the answer has too many parts\"]").unwrap_err().to_string().starts_with(TOO_MANY));
        assert!(read("{}").is_err() && read("[256]").is_err());
    }

    #[test]
    fn lists_share_the_room_that_there_is() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let (one, two, mut room) = (raw("[1]"), raw("[1, 2]"), 4);
        assert_eq!(within::<u8>(Some(&two), &mut room).unwrap(), [1, 2]);
        assert!(within::<u8>(None, &mut room).unwrap().is_empty());
        assert_eq!(within::<u8>(Some(&one), &mut room).unwrap(), [1]);
        let told = within::<u8>(Some(&two), &mut room).unwrap_err().to_string();
        assert!(!told.is_empty() && room == 1);
        assert_eq!(within::<u8>(Some(&one), &mut room).unwrap(), [1]);
        assert!(within::<u8>(Some(&one), &mut room).is_err());
    }

    #[test]
    fn what_comes_in_turns_has_so_many_blocks() {
        let thought = |signature: Option<&str>| {
            let signature = signature.map(Into::into);
            Event::Reasoning { choice: 0, text: "hm".into(), signature, redacted: None }
        };
        let call = |name: Option<&str>| {
            let name = name.map(Into::into);
            Event::ToolCall { choice: 0, index: 0, id: None, name, arguments: "{}".into() }
        };
        let fits = |turn: &[Event]| {
            let mut blocks = Blocks::default();
            turn.iter().cycle().take(3 * MOST_BLOCKS).position(|event| blocks.count(event).is_err())
        };
        assert_eq!(fits(&[Event::text("a")]), None);
        assert_eq!(fits(&[thought(None)]), None);
        assert_eq!(fits(&[Event::text("a"), call(None)]), None, "pieces of a call interrupt nothing");
        assert_eq!(fits(&[Event::text("a"), thought(None)]), Some(MOST_BLOCKS));
        assert_eq!(fits(&[thought(Some("s"))]), Some(MOST_BLOCKS));
        assert_eq!(fits(&[call(Some("f"))]), Some(MOST_BLOCKS));
    }

    #[test]
    fn a_name_is_not_a_novel() {
        let of = |text: &str| name(Text(text.to_owned().into()));
        assert_eq!(of("gpt-4o").as_deref(), Some("gpt-4o"));
        assert_eq!((of(""), of(&"x".repeat(257))), (None, None));
    }
}
