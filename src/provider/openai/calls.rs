//! The tool calls of a streamed answer, told apart.
//!
//! By the API a call's pieces have its index, and the first of them its id and name. Servers differ: some give no
//! index, all calls the same one (Ollama), begin with 1, or repeat id and name with every piece, the id even as a new
//! one each time (vLLM). What leaves is as the API has it: calls are numbered from 0 as they begin, which is what SDKs
//! put them together by.
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use crate::{
    chat::Event,
    error::Result,
    provider::{failure, text::Text},
    wire::openai::nullable,
};

/// A piece of a call.
#[derive(Deserialize)]
pub(super) struct Piece<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    function: Function<'a>,
}

/// What is called, whole or a piece of it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Function<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow, deserialize_with = "arguments")]
    pub(super) arguments: Text<'a>,
}

/// Arguments are JSON within a text. Some servers send the JSON itself.
fn arguments<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Text<'a>, D::Error> {
    let read = <&'a RawValue>::deserialize(deserializer)?.get();
    match read.as_bytes().first() {
        Some(b'{' | b'[') => Ok(Text(read.into())),
        _ => serde_json::from_str(read).map_err(D::Error::custom),
    }
}

impl<'a> From<Function<'a>> for Piece<'a> {
    /// A `function_call`, as it was before there were `tool_calls`.
    fn from(function: Function<'a>) -> Self {
        Self { index: None, id: Text::default(), function }
    }
}

/// The calls of one answer, in the order in which they began. How many there may be is for others to say.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<Begun>);

/// A call that has begun.
#[derive(Debug)]
struct Begun {
    /// Its index in the provider's words.
    index: u32,
    id: Option<Box<str>>,
    /// Without one it is not told yet.
    name: Option<Box<str>>,
    arguments: Depth,
}

impl Calls {
    /// How many have begun.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a piece. There is nothing to tell of a call that has no name yet.
    pub(super) fn piece(&mut self, choice: u32, piece: Piece<'_>) -> Result<Option<Event>> {
        let at = self.find(&piece).unwrap_or_else(|| {
            let index = piece.index.unwrap_or(self.0.len() as u32);
            self.0.push(Begun { index, id: None, name: None, arguments: Depth::default() });
            self.0.len() - 1
        });
        let (begun, arguments) = (&mut self.0[at], piece.function.arguments.0.into_owned());
        begun.arguments.read(&arguments);
        let (mut id, mut name) = (None, None);
        if begun.name.is_none() {
            let said = |text: Text<'_>| Some(text.0).filter(|text| !text.is_empty()).map(Box::from);
            begun.id = begun.id.take().or_else(|| said(piece.id));
            begun.name = said(piece.function.name);
            if begun.name.is_none() {
                // Whose arguments these are would never be known.
                return if arguments.is_empty() { Ok(None) } else { Err(failure::nameless()) };
            }
            (id, name) = (begun.id.as_deref().map(str::to_owned), begun.name.as_deref().map(str::to_owned));
        }
        Ok(Some(Event::ToolCall { choice, index: at as u32, id, name, arguments }))
    }

    /// Nothing follows: fails where a call has never got a name.
    pub(super) fn close(&self) -> Result<()> {
        if self.0.iter().all(|begun| begun.name.is_some()) { Ok(()) } else { Err(failure::nameless()) }
    }

    /// The call that a piece belongs to; `None` where it begins one.
    fn find(&self, piece: &Piece<'_>) -> Option<usize> {
        let id = &*piece.id.0;
        let at = match piece.index {
            // The one of that id, else the last of that index: others before it may have been given the same.
            Some(index) => {
                let known = |begun: &Begun| begun.index == index;
                let by_id = |begun: &Begun| known(begun) && begun.id.as_deref() == Some(id);
                let named = || self.0.iter().rposition(by_id).filter(|_| !id.is_empty());
                named().or_else(|| self.0.iter().rposition(known))?
            }
            None if id.is_empty() => self.0.len().checked_sub(1)?,
            None => self.0.iter().rposition(|begun| begun.id.as_deref() == Some(id))?,
        };
        (!self.0[at].is_followed_by(piece)).then_some(at)
    }
}

impl Begun {
    /// Whether a piece that could be one of this call is the first of another one: it has a name, not this call's id,
    /// and another name, or arguments where this call has all of its own.
    fn is_followed_by(&self, piece: &Piece<'_>) -> bool {
        let (id, name) = (&*piece.id.0, &*piece.function.name.0);
        let Some(own) = self.name.as_deref().filter(|_| !name.is_empty()) else { return false };
        if !id.is_empty() && self.id.as_deref() == Some(id) {
            return false;
        }
        !id.is_empty() && name != own || self.arguments.closed && !piece.function.arguments.0.is_empty()
    }
}

/// How deep within its brackets a JSON object is that comes in pieces.
#[derive(Debug, Default)]
struct Depth {
    open: u32,
    within_text: bool,
    escaped: bool,
    /// It has come to its end.
    closed: bool,
}

impl Depth {
    fn read(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.within_text => self.escaped = true,
                b'"' => self.within_text = !self.within_text,
                _ if self.within_text => {}
                b'{' | b'[' => self.open = self.open.saturating_add(1),
                b'}' | b']' => {
                    self.open = self.open.saturating_sub(1);
                    self.closed |= self.open == 0;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::Completion;

    /// The id, name and arguments of the calls that these pieces make.
    fn calls(pieces: &[Value]) -> Result<Vec<(String, String, String)>> {
        let (mut calls, mut whole) = (Calls::default(), Completion::default());
        for piece in pieces {
            let text = piece.to_string();
            let piece: Piece<'_> = serde_json::from_str(&text).unwrap();
            if let Some(event) = calls.piece(0, piece)? {
                whole.push(&event);
            }
        }
        calls.close()?;
        let calls = whole.choices.into_iter().flat_map(|choice| choice.tool_calls);
        Ok(calls.map(|call| (call.id, call.name, call.arguments)).collect())
    }

    fn told(pieces: &[Value]) -> Vec<String> {
        calls(pieces)
            .unwrap()
            .into_iter()
            .map(|(id, name, arguments)| format!("{id} {name} {arguments}"))
            .collect()
    }

    fn piece(index: impl Into<Option<u32>>, id: &str, name: &str, arguments: &str) -> Value {
        let mut piece = json!({"function": {"arguments": arguments}});
        if let Some(index) = index.into() {
            piece["index"] = index.into();
        }
        if !id.is_empty() {
            piece["id"] = id.into();
        }
        if !name.is_empty() {
            piece["function"]["name"] = name.into();
        }
        piece
    }

    #[test]
    fn the_order_of_their_indexes_does_not_matter() {
        let pieces = [
            piece(1, "b", "g", ""),
            piece(0, "a", "f", ""),
            piece(1, "", "", "{\"x\":"),
            piece(0, "", "", "{}"),
            piece(1, "", "", "1}"),
        ];
        assert_eq!(told(&pieces), ["b g {\"x\":1}", "a f {}"]);
        // Some count the answer's text as the first.
        assert_eq!(told(&[piece(1, "a", "f", "{}"), piece(7, "b", "g", "{}")]), ["a f {}", "b g {}"]);
    }

    #[test]
    fn without_an_index_an_id_or_a_name_begins_a_call() {
        let pieces = [
            piece(None, "a", "f", "{"),
            piece(None, "", "", "}"),
            piece(None, "b", "f", "{}"),
            piece(None, "a", "f", " "),
            piece(1, "b", "f", " "),
        ];
        assert_eq!(told(&pieces), ["a f {} ", "b f {} "]);
        assert_eq!(told(&[piece(None, "", "f", "{}"), piece(None, "", "f", "{}")]), [" f {}", " f {}"]);
    }

    #[test]
    fn pieces_in_turns_belong_to_the_call_of_their_id() {
        let pieces = [
            piece(0, "a", "f", ""),
            piece(0, "b", "g", ""),
            piece(0, "a", "", "{\"x\":"),
            piece(0, "b", "", "[2,"),
            piece(0, "a", "", "1}"),
            piece(0, "b", "", "3]"),
        ];
        assert_eq!(told(&pieces), ["a f {\"x\":1}", "b g [2,3]"]);
    }

    #[test]
    fn arguments_may_be_no_text() {
        for (arguments, read) in [
            (json!({"x": [1]}), r#"{"x":[1]}"#),
            (json!([]), "[]"),
            (json!("{\"x\": \"\\n\"}"), r#"{"x": "\n"}"#),
            (json!(null), ""),
        ] {
            let piece = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}});
            assert_eq!(told(&[piece]), [format!("a f {read}")]);
        }
    }

    #[test]
    fn calls_of_one_index_stay_apart() {
        let object = r#"{"a":"}\"{"}"#;
        let whole = [piece(0, "a", "f", object), piece(0, "b", "f", object), piece(0, "", "g", "{}")];
        assert_eq!(told(&whole), [format!("a f {object}"), format!("b f {object}"), " g {}".to_owned()]);
        let pieces = [
            piece(0, "a", "f", ""),
            piece(0, "", "", "{}"),
            piece(0, "b", "g", ""),
            piece(0, "", "", "{"),
            piece(0, "", "", "}"),
        ];
        assert_eq!(told(&pieces), ["a f {}", "b g {}"]);
    }

    #[test]
    fn what_is_repeated_begins_nothing() {
        let same = [piece(0, "a", "f", "{"), piece(0, "a", "f", "}"), piece(0, "a", "f", " ")];
        assert_eq!(told(&same), ["a f {} "]);
        // A new id with every piece.
        let new = [
            piece(0, "a", "f", "{\"x\":"),
            piece(0, "b", "f", "{}"),
            piece(0, "c", "", "}"),
            piece(0, "d", "f", ""),
        ];
        assert_eq!(told(&new), ["a f {\"x\":{}}"]);
    }

    #[test]
    fn a_name_may_come_later_but_has_to_come() {
        assert_eq!(told(&[piece(0, "a", "", ""), piece(0, "", "f", "{}")]), ["a f {}"]);
        assert_eq!(told(&[piece(0, "", "f", "{}")]), [" f {}"]);
        for pieces in [vec![piece(0, "a", "", "{}")], vec![piece(0, "a", "f", ""), piece(1, "b", "", "")]] {
            assert_eq!(calls(&pieces).unwrap_err().facts().code, "upstream_broken");
        }
    }
}
