//! Whole answers in OpenAI's JSON.
use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::calls::Function;
use crate::{
    chat::{self, Completion, ToolCall},
    error::{Error, Result},
    provider::{
        bounds::{self, LONGEST_VECTOR, MOST_CALLS, MOST_CHOICES, MOST_VECTORS, TOO_MANY, at_most},
        failure,
        text::{Text, said},
    },
    reply::Head,
    wire::{
        self,
        openai::{Usage, finish_of, nullable},
    },
};

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow, default = "Vec::new", deserialize_with = "at_most::<MOST_CHOICES, _, _>")]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: usize,
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow, deserialize_with = "said")]
    content: Text<'a>,
    #[serde(borrow)]
    reasoning_content: Text<'a>,
    #[serde(borrow)]
    reasoning: Text<'a>,
    #[serde(borrow)]
    refusal: Text<'a>,
    /// A list of [`Call`].
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    /// What there was before them.
    #[serde(borrow)]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    function: Function<'a>,
}

/// Reads the body of `/chat/completions`.
pub(super) fn chat(body: &[u8]) -> Result<(Head, Completion)> {
    let mut whole: Whole<'_> = wire::read(body).map_err(failure::unreadable)?;
    if let Some(error) = whole.error {
        return Err(failure::of_stream(error));
    }
    if whole.choices.is_empty() {
        return Err(Error::broken("the answer has no choices"));
    }
    whole.choices.sort_by_key(|choice| choice.index);
    let (mut room, mut ended) = (MOST_CALLS, false);
    let mut read = |read: Choice<'_>| {
        ended |= !read.finish_reason.0.is_empty();
        choice(read, &mut room)
    };
    let choices: Vec<_> = whole.choices.into_iter().map(&mut read).collect::<Result<_>>()?;
    if !ended && choices.iter().all(says_nothing) {
        return Err(Error::broken("the answer says nothing, not even that it is all"));
    }
    let completion = Completion { choices, usage: whole.usage.map(Into::into), ..Completion::default() };
    Ok((head(whole.id, whole.model), completion))
}

/// An answer. Its tool calls take from the room that all answers together have.
fn choice(read: Choice<'_>, room: &mut usize) -> Result<chat::Choice> {
    let message = read.message;
    let calls = bounds::within(message.tool_calls, room)?.into_iter();
    let calls = calls.chain(message.function_call.map(|function| Call { id: Text::default(), function }));
    let tool_calls: Vec<_> = calls.map(call).collect::<Result<_>>()?;
    let reasoning = message.reasoning_content.filled().or_else(|| message.reasoning.filled());
    let finish = match read.finish_reason.0.as_ref() {
        "" if !tool_calls.is_empty() => chat::Finish::ToolCalls,
        reason => finish_of(reason),
    };
    Ok(chat::Choice {
        text: message.content.0.into_owned(),
        reasoning: reasoning.unwrap_or_default(),
        refusal: message.refusal.0.into_owned(),
        tool_calls,
        finish: Some(finish),
        ..chat::Choice::default()
    })
}

fn says_nothing(choice: &chat::Choice) -> bool {
    let chat::Choice { text, reasoning, refusal, tool_calls, .. } = choice;
    text.is_empty() && reasoning.is_empty() && refusal.is_empty() && tool_calls.is_empty()
}

fn call(read: Call<'_>) -> Result<ToolCall> {
    let Function { name, arguments } = read.function;
    let name = name.filled().ok_or_else(failure::nameless)?;
    let (id, arguments) = (read.id.0.into_owned(), arguments.0.into_owned());
    Ok(ToolCall { id, name, arguments, ..ToolCall::default() })
}

fn head(id: Text<'_>, model: Text<'_>) -> Head {
    Head { model: bounds::name(model).unwrap_or_default(), id: bounds::name(id), ..Head::default() }
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(default, deserialize_with = "at_most::<MOST_VECTORS, _, _>")]
    data: Vec<Embedding>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Embedding {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vector,
}

/// Reads the body of `/embeddings`, one vector for each of `inputs`.
pub(super) fn embeddings(body: &[u8], inputs: usize) -> Result<(Head, Completion)> {
    let whole: Embeddings<'_> = wire::read(body).map_err(failure::unreadable)?;
    if let Some(error) = whole.error {
        return Err(failure::of_stream(error));
    }
    let mut vectors = vec![None; inputs];
    for (place, Embedding { index, embedding }) in whole.data.into_iter().enumerate() {
        if let Some(vector) = vectors.get_mut(index.unwrap_or(place)) {
            *vector = Some(embedding.0);
        }
    }
    let embeddings: Option<Vec<_>> = vectors.into_iter().collect();
    let embeddings =
        embeddings.ok_or_else(|| Error::broken("the answer has fewer vectors than there were inputs"))?;
    let completion = Completion { embeddings, usage: whole.usage.map(Into::into), ..Completion::default() };
    Ok((head(Text::default(), whole.model), completion))
}

/// A vector, as numbers or as their little-endian bytes in base64.
struct Vector(Arc<[f32]>);

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VectorVisitor)
    }
}

struct VectorVisitor;

impl<'de> Visitor<'de> for VectorVisitor {
    type Value = Vector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or their bytes in base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vector, E> {
        let bytes = STANDARD.decode(text).map_err(|_| E::custom("not base64"))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if numbers.len() > LONGEST_VECTOR {
            return Err(E::custom(TOO_MANY));
        }
        if !rest.is_empty() {
            return Err(E::custom("not a whole number of floats"));
        }
        Ok(Vector(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vector, A::Error> {
        let mut vector = Vec::with_capacity(1536);
        while let Some(number) = numbers.next_element()? {
            if vector.len() >= LONGEST_VECTOR {
                return Err(A::Error::custom(TOO_MANY));
            }
            vector.push(number);
        }
        Ok(Vector(vector.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::Finish;

    #[test]
    fn a_whole_answer_is_read() {
        let body = include_bytes!("../../../tests/fixtures/openai/whole.json");
        let (head, completion) = chat(body).unwrap();
        assert_eq!((&*head.model, head.id.as_deref()), ("gpt-4o-2024-08-06", Some("chatcmpl-b2")));
        let first = &completion.choices[0];
        assert_eq!(first.text, "It is raining.\nTake a coat.");
        assert_eq!((first.reasoning.as_str(), &first.finish), ("Look outside.", &Some(Finish::Stop)));
        let second = &completion.choices[1];
        assert_eq!(second.tool_calls[0].arguments, r#"{"city":"Bergen"}"#);
        assert_eq!(second.finish, Some(Finish::ToolCalls));
        assert_eq!(completion.usage.map(|usage| usage.total()), Some(40));
    }

    #[test]
    fn an_error_with_status_200_is_an_error() {
        let body = json!({"error": {"message": "busy", "code": 429}}).to_string();
        assert_eq!(chat(body.as_bytes()).unwrap_err().facts().code, "upstream_rate_limited");
        for body in [&b""[..], b"{}", b"[]", b"<html>", b"{\"choices\":[]}", b"{\"choices\":[{}]}"] {
            assert!(matches!(chat(body), Err(Error::Broken(_))));
        }
    }

    #[test]
    fn a_whole_answer_has_so_many_parts() {
        let body = |choices: usize, calls: usize| {
            let calls = vec![json!({"function": {"name": "f"}}); calls];
            let choice = json!({"message": {"tool_calls": calls}, "finish_reason": "stop"});
            json!({"choices": vec![choice; choices]}).to_string()
        };
        let (_, all) = chat(body(128, 8).as_bytes()).unwrap();
        assert_eq!(all.choices.iter().map(|choice| choice.tool_calls.len()).sum::<usize>(), 1024);
        // An answer that says nothing would be taken for one, and kept.
        for content in ["{\"x\":1}", "true", "[7]"] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":{content}}}}}]}}"#);
            assert!(chat(body.as_bytes()).is_err(), "{body}");
        }
        for body in [body(128, 9), body(129, 0), body(1, 1025)] {
            assert!(matches!(chat(body.as_bytes()), Err(Error::Broken(_))));
        }
        let error = format!(r#"{{"error": [{}0]}}"#, "[],".repeat(100_000));
        assert_eq!(chat(error.as_bytes()).unwrap_err().facts().code, "upstream_failed");
    }

    #[test]
    fn a_call_of_no_tool_and_an_answer_of_nothing_are_none() {
        let read = |message: serde_json::Value, reason: Option<&str>| {
            let choice = json!({"message": message, "finish_reason": reason});
            chat(json!({"choices": [choice]}).to_string().as_bytes())
        };
        let call = |function: serde_json::Value| json!({"tool_calls": [{"id": "c", "function": function}]});
        for message in [call(json!({"arguments": "{}"})), call(json!({"name": null})), call(json!(null))] {
            assert!(matches!(read(message, Some("tool_calls")), Err(Error::Broken(_))));
        }
        assert!(matches!(read(json!({"content": ""}), None), Err(Error::Broken(_))));
        assert!(read(json!({"content": ""}), Some("stop")).is_ok(), "it says that it is all");
        assert!(read(json!({"content": "a"}), None).is_ok());
        let (_, done) = read(json!({"tool_calls": [{"function": {"name": "f"}}]}), None).unwrap();
        assert_eq!(done.choices[0].finish, Some(Finish::ToolCalls));
    }

    #[test]
    fn vectors_have_an_end() {
        let body = |numbers: usize, vectors: usize| {
            let vector = json!({"embedding": vec![0; numbers]});
            json!({"data": vec![vector; vectors]}).to_string()
        };
        assert!(embeddings(body(LONGEST_VECTOR, 1).as_bytes(), 1).is_ok());
        let bytes = STANDARD.encode(vec![0_u8; 4 * (LONGEST_VECTOR + 1)]);
        let packed = json!({"data": [{"embedding": bytes}]}).to_string();
        for body in [body(LONGEST_VECTOR + 1, 1), body(0, MOST_VECTORS + 1), packed] {
            assert!(matches!(embeddings(body.as_bytes(), 1), Err(Error::Broken(_))));
        }
    }

    #[test]
    fn vectors_are_read_in_both_forms_and_put_in_order() {
        let bytes: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let body = json!({"model": "e", "usage": {"prompt_tokens": 4, "total_tokens": 4}, "data": [
            {"index": 1, "embedding": STANDARD.encode(bytes)},
            {"index": 0, "embedding": [0.25, 1, -1e-3]},
        ]})
        .to_string();
        let (_, completion) = embeddings(body.as_bytes(), 2).unwrap();
        assert_eq!(*completion.embeddings[0], [0.25, 1.0, -0.001]);
        assert_eq!(*completion.embeddings[1], [1.5, -2.0]);
        assert_eq!(completion.usage.map(|usage| usage.input), Some(4));
        assert!(embeddings(body.as_bytes(), 3).is_err(), "a vector is missing");
    }
}
