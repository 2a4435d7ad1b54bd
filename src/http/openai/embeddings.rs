//! Embeddings, read and written: <https://platform.openai.com/docs/api-reference/embeddings>.
use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

use super::chat_reply::model;
use crate::{
    chat::{Completion, Family, Message, Part, Purpose, Request, Role},
    error::Result,
    http::{
        json,
        read::{self, At, Checks},
    },
    reply::Head,
    wire,
};

/// What a request asks.
#[derive(Debug)]
pub struct Parsed {
    /// The inputs, one a message.
    pub chat: Request,
    /// Whether the vectors go out in base64.
    pub base64: bool,
}

/// More inputs than this are refused, as OpenAI does.
const MOST_INPUTS: usize = 2048;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<Input>,
    dimensions: Option<i64>,
    encoding_format: Option<String>,
    user: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The body without what is not asked for.
#[derive(Deserialize)]
struct OnlyInput<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

enum Input {
    One(String),
    Many(Vec<Element>),
}

enum Element {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Input;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of strings or a list of tokens")
            }
            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Input, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(Input::Many(list))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token or a list of tokens")
            }
            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, token: u64) -> Result<Element, E> {
                let found = serde::de::Unexpected::Unsigned(token);
                u32::try_from(token).map(Element::Token).map_err(|_| E::invalid_value(found, &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = seq.next_element()? {
                    tokens.push(token);
                }
                Ok(Element::Tokens(tokens))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Parsed> {
    let body: Body = read::body_apart(body, |body| wire::read::<OnlyInput<'_>>(body).ok()?.input)?;
    let mut checks = Checks::default();
    let model = checks.name("model", body.model);
    let dimensions = checks.count("dimensions", body.dimensions, 65_536);
    let base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            checks.wrong("encoding_format", "must be `float` or `base64`");
            false
        }
    };
    if body.input.is_none() {
        checks.wrong("input", "is required");
    }
    checks.done()?;
    let messages = match body.input {
        None => Vec::new(),
        Some(Input::One(text)) => vec![said(text, &At::field("input"))?],
        Some(Input::Many(list)) => inputs(list)?,
    };
    let purpose = Purpose::Embed { dimensions };
    let (user, rest) = (body.user, body.rest);
    let chat = Request { model, messages, purpose, user, rest, family: Family::OpenAi, ..Request::default() };
    Ok(Parsed { chat, base64 })
}

fn inputs(list: Vec<Element>) -> Result<Vec<Message>> {
    let at = At::field("input");
    if list.is_empty() {
        return Err(at.wrong("must have at least one input"));
    }
    // A list of numbers is one input; a list of anything else has one input an element.
    if matches!(list[0], Element::Token(_)) {
        let tokens = list.into_iter().enumerate().map(|(index, element)| match element {
            Element::Token(token) => Ok(token),
            _ => Err(At::item("input", index).wrong("must be a token, as the first one is")),
        });
        return Ok(vec![tokenised(tokens.collect::<Result<_>>()?)]);
    }
    if list.len() > MOST_INPUTS {
        return Err(at.wrong(format!("must have at most {MOST_INPUTS} inputs")));
    }
    let messages = list.into_iter().enumerate().map(|(index, element)| match element {
        Element::Text(text) => said(text, &At::item("input", index)),
        Element::Tokens(tokens) if tokens.is_empty() => {
            Err(At::item("input", index).wrong("must not be empty"))
        }
        Element::Tokens(tokens) => Ok(tokenised(tokens)),
        Element::Token(_) => Err(At::item("input", index).wrong("must be a string or a list of tokens")),
    });
    messages.collect()
}

fn said(text: String, at: &At<'_>) -> Result<Message> {
    if text.is_empty() { Err(at.wrong("must not be empty")) } else { Ok(Message::new(Role::User, text)) }
}

fn tokenised(tokens: Vec<u32>) -> Message {
    Message { role: Role::User, parts: vec![Part::Other(tokens.into())], name: None }
}

#[derive(Serialize)]
struct Whole<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    #[serde(rename = "embedding")]
    vector: Vector,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

struct Vector {
    numbers: Arc<[f32]>,
    base64: bool,
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.base64 {
            let bytes: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            serializer.serialize_str(&STANDARD.encode(bytes))
        } else {
            serializer.collect_seq(self.numbers.iter())
        }
    }
}

/// The body of an answer.
pub fn whole(head: &Head, done: &Completion, chat: &Request, base64: bool) -> Vec<u8> {
    let data = done.embeddings.iter().enumerate().map(|(index, numbers)| Embedding {
        object: "embedding",
        index,
        vector: Vector { numbers: numbers.clone(), base64 },
    });
    let read = done.usage.unwrap_or_default().input;
    let usage = Usage { prompt_tokens: read, total_tokens: read };
    json::bytes(&Whole { object: "list", data: data.collect(), model: model(head, chat), usage })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::read::tests::complaint;

    #[test]
    fn every_form_of_input_is_read() {
        let read = |input: Value| {
            let body =
                json!({"model": "m", "input": input, "dimensions": 3, "encoding_format": "base64", "x": 1});
            let parsed = parse(body.to_string().as_bytes()).unwrap();
            assert_eq!(parsed.chat.purpose, Purpose::Embed { dimensions: Some(3) });
            assert!(parsed.base64 && parsed.chat.rest.contains_key("x"));
            parsed.chat.messages
        };
        let text = |text: &str| Message::new(Role::User, text);
        let tokens = |tokens: &[u32]| tokenised(tokens.to_vec());
        assert_eq!(read(json!("a")), [text("a")]);
        assert_eq!(read(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(read(json!([1, 2])), [tokens(&[1, 2])]);
        assert_eq!(read(json!([[1, 2], [3], "c"])), [tokens(&[1, 2]), tokens(&[3]), text("c")]);
    }

    #[test]
    fn only_the_input_may_have_any_number_of_values() {
        let of = |name: &str, many: &str| {
            let list = many.repeat(1_200_000 / many.len());
            format!(r#"{{"model":"m",{name}:[{}]}}"#, list.trim_end_matches(','))
        };
        assert!(parse(of(r#""input""#, "1,").as_bytes()).is_ok());
        for rest in [r#""input":"a","x""#, r#""input":[1,2],"x""#, r#""x":1,"input":[1],"y""#] {
            let told = complaint(parse(of(rest, "[0],").as_bytes()));
            assert_eq!(told, "body: must not have more than 250000 values", "{rest}");
        }
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        let many = format!(r#"{{"model":"m","input":[{}"a"]}}"#, r#""a","#.repeat(2048));
        for (json, words) in [
            (r#"{"input":"a"}"#, "model: is required"),
            (r#"{"model":"m"}"#, "input: is required"),
            (r#"{"model":"m","input":[]}"#, "input: must have at least one input"),
            (r#"{"model":"m","input":""}"#, "input: must not be empty"),
            (r#"{"model":"m","input":["a",""]}"#, "input[1]: must not be empty"),
            (
                r#"{"model":"m","input":{}}"#,
                "input: must be a string, a list of strings or a list of tokens, not an object",
            ),
            (
                r#"{"model":"m","input":["a",-1]}"#,
                "input[1]: must be a string, a token or a list of tokens, not this number",
            ),
            (r#"{"model":"m","input":["a",1]}"#, "input[1]: must be a string or a list of tokens"),
            (r#"{"model":"m","input":[1,"a"]}"#, "input[1]: must be a token, as the first one is"),
            (r#"{"model":"m","input":"a","dimensions":0}"#, "dimensions: must be at least 1"),
            (
                r#"{"model":"m","input":"a","encoding_format":"x"}"#,
                "encoding_format: must be `float` or `base64`",
            ),
            (&many, "input: must have at most 2048 inputs"),
        ] {
            assert_eq!(complaint(parse(json.as_bytes())), words);
        }
    }

    #[test]
    fn vectors_are_written_as_numbers_or_in_base64() {
        let done = Completion { embeddings: vec![Arc::from([1.0, -0.5])], ..Completion::default() };
        let chat = Request { model: "m".into(), ..Request::default() };
        let body = |base64| String::from_utf8(whole(&Head::default(), &done, &chat, base64)).unwrap();
        let around = |vector: &str| {
            format!(
                r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":{vector}}}],"model":"m","usage":{{"prompt_tokens":0,"total_tokens":0}}}}"#
            )
        };
        assert_eq!(body(false), around("[1.0,-0.5]"));
        assert_eq!(body(true), around("\"AACAPwAAAL8=\""));
    }
}
