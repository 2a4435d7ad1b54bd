//! What holds for every parser of a compatible API, whatever bytes it is given.
use proptest::{prelude::*, sample::Index};

use super::{anthropic, openai};
use crate::{
    chat::Request,
    error::{Error, Result},
};

type Parse = fn(&[u8]) -> Result<Request>;

/// Each parser with a body that it accepts and that has something of everything.
const PARSERS: [(Parse, &str); 4] = [
    (
        |body| openai::chat_request::parse(body).map(|parsed| parsed.chat),
        r#"{"model":"m","messages":[{"role":"system","content":"a\u00e9"},{"role":"user","content":[{"type":"text","text":"x"},
        {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"file","file":{"file_id":"f"}}]},
        {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"c","content":"1"}],"n":2,"stop":["a"],"temperature":1.5,"seed":-4,
        "tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"auto","logit_bias":{"1":2},
        "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}}},"stream":true,"stream_options":{"include_usage":true}}"#,
    ),
    (
        anthropic::request::parse,
        r#"{"model":"m","max_tokens":9,"system":[{"type":"text","text":"a\u00e9"}],"messages":[{"role":"user","content":[
        {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"text","text":"x"}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"c",
        "name":"f","input":{"a":[1,{"b":null}]}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c",
        "content":[{"type":"text","text":"1"}]}]}],"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any"},
        "thinking":{"type":"enabled","budget_tokens":2000},"metadata":{"user_id":"u"},"top_k":3}"#,
    ),
    (
        openai::responses::request::parse,
        r#"{"model":"m","instructions":"a\u00e9","input":[{"role":"user","content":[{"type":"input_text","text":"x"},
        {"type":"input_image","image_url":"data:image/png;base64,AAAA"}]},{"type":"reasoning","summary":[{"type":
        "summary_text","text":"hm"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
        {"type":"function_call_output","call_id":"c","output":"1"}],"max_output_tokens":9,"text":{"format":{"type":"text"}},
        "tools":[{"type":"function","name":"f"}],"reasoning":{"effort":"low"},"store":false}"#,
    ),
    (
        |body| openai::embeddings::parse(body).map(|parsed| parsed.chat),
        r#"{"model":"m","input":["a\u00e9",[1,2,3]],"dimensions":3,"encoding_format":"base64","user":"u","x":[1e3]}"#,
    ),
];

/// What may be put anywhere into a body.
const PIECES: [&str; 24] = [
    "null",
    "true",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.5",
    "\"\"",
    "[]",
    "{}",
    r#""\ud800""#,
    r#""model""#,
    r#""type""#,
    r#""content""#,
    r#"{"type":"text"}"#,
    "\\",
    "\u{0}",
    "[[[[[[[[",
];

/// Parses, and sees that what is wrong is told as the caller's mistake, in few words.
fn try_all(body: &[u8]) -> std::result::Result<(), TestCaseError> {
    for (parse, _) in PARSERS {
        match parse(body) {
            Ok(_) => {}
            Err(error @ (Error::Invalid(_) | Error::NotJson(_))) => {
                prop_assert!(error.facts().status.is_client_error());
                let told = String::from_utf8(openai::error_body(&error)).unwrap();
                prop_assert!(told.len() < 1000, "the error repeats the body: {told}");
            }
            Err(other) => prop_assert!(false, "not the caller's mistake: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn the_samples_are_accepted() {
    for (parse, sample) in PARSERS {
        parse(sample.as_bytes()).unwrap();
    }
}

#[test]
fn a_wrong_value_anywhere_is_the_callers_mistake() {
    // Every value of every sample is replaced in turn by one of each kind.
    for (_, sample) in PARSERS {
        let whole: serde_json::Value = serde_json::from_str(sample).unwrap();
        for pointer in pointers(&whole, String::new()) {
            for other in ["null", "true", "-7", "1.5", "\"x\"", "[]", "[null]", "{}", "99999999999"] {
                let mut changed = whole.clone();
                *changed.pointer_mut(&pointer).unwrap() = serde_json::from_str(other).unwrap();
                try_all(changed.to_string().as_bytes()).unwrap();
            }
        }
    }
}

fn pointers(value: &serde_json::Value, at: String) -> Vec<String> {
    let inner: Vec<_> = match value {
        serde_json::Value::Array(list) => {
            list.iter().enumerate().map(|(index, value)| (format!("{at}/{index}"), value)).collect()
        }
        serde_json::Value::Object(map) => {
            map.iter().map(|(name, value)| (format!("{at}/{name}"), value)).collect()
        }
        _ => Vec::new(),
    };
    let mut all = vec![at];
    all.extend(inner.into_iter().flat_map(|(at, value)| pointers(value, at)));
    all
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        try_all(&body)?;
    }

    #[test]
    fn any_damage_to_a_body_is_read_or_refused(
        which in any::<Index>(),
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), 0usize..12), 1..6),
    ) {
        let mut body = PARSERS[which.index(PARSERS.len())].1.to_owned();
        for (at, piece, cut) in damage {
            let boundary = |mut at: usize| {
                while !body.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let start = boundary(at.index(body.len() + 1));
            let end = boundary((start + cut).min(body.len())).max(start);
            body.replace_range(start..end, PIECES[piece.index(PIECES.len())]);
        }
        try_all(body.as_bytes())?;
    }
}
