//! The parts of a message and the tools, as OpenAI spells them.
use serde_json::{Map, Value};

use crate::{
    chat::{Media, Part, Source, Tool},
    wire,
};

/// Reads a part. `Err` says what is wrong with it.
pub(super) fn part(mut part: Map<String, Value>) -> Result<Part, String> {
    let Some(Value::String(kind)) = part.get("type").cloned() else {
        return Err("must have a `type`".to_owned());
    };
    match kind.as_str() {
        "text" | "input_text" | "output_text" => {
            let Some(Value::String(text)) = part.shift_remove("text") else {
                return Err("a part of type `text` must have a `text`".to_owned());
            };
            part.shift_remove("type");
            Ok(Part::Text { text, rest: part })
        }
        "image_url" => {
            let Some(Value::Object(mut image)) = part.shift_remove("image_url") else {
                return Err("a part of type `image_url` must have an object `image_url`".to_owned());
            };
            let Some(Value::String(url)) = image.shift_remove("url") else {
                return Err("`image_url` must have a `url`".to_owned());
            };
            part.shift_remove("type");
            image.append(&mut part);
            let (source, mime) = source(url);
            Ok(Part::Image(Media { source, mime, name: None, rest: image }))
        }
        "file" => {
            let Some(Value::Object(mut file)) = part.shift_remove("file") else {
                return Err("a part of type `file` must have an object `file`".to_owned());
            };
            let mut text = |name: &str| match file.shift_remove(name) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            };
            let name = text("filename");
            let (source, mime) = match (text("file_data"), text("file_id")) {
                (Some(data), _) => source(data),
                (None, Some(id)) => (Source::Id(id), None),
                (None, None) => return Err("`file` must have `file_data` or `file_id`".to_owned()),
            };
            Ok(Part::File(Media { source, mime, name, rest: file }))
        }
        "input_audio" => {
            let Some(Value::Object(mut audio)) = part.shift_remove("input_audio") else {
                return Err("a part of type `input_audio` must have an object `input_audio`".to_owned());
            };
            let Some(Value::String(data)) = audio.shift_remove("data") else {
                return Err("`input_audio` must have `data`".to_owned());
            };
            let mime = audio.get("format").and_then(Value::as_str).map(|format| format!("audio/{format}"));
            Ok(Part::Audio(Media { source: Source::Base64(data), mime, name: None, rest: audio }))
        }
        "refusal" => match part.shift_remove("refusal") {
            Some(Value::String(words)) => Ok(Part::Refusal(words)),
            _ => Err("a part of type `refusal` must have a `refusal`".to_owned()),
        },
        // Something new: whoever speaks the same API may know it.
        _ => Ok(Part::Other(Value::Object(part))),
    }
}

fn source(url: String) -> (Source, Option<String>) {
    match wire::data_url(&url) {
        Some((mime, bytes)) => (Source::Base64(bytes.to_owned()), Some(mime.to_owned())),
        None => (Source::Url(url), None),
    }
}

/// Reads a tool.
pub(super) fn tool(mut tool: Value) -> Tool {
    let is_function = tool.get("type").and_then(Value::as_str) == Some("function");
    let Some(Value::Object(mut function)) = tool.get_mut("function").filter(|_| is_function).map(Value::take) else {
        return Tool::Other(tool);
    };
    let mut text = |name: &str| match function.shift_remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (name, description) = (text("name").unwrap_or_default(), text("description"));
    let strict = function.shift_remove("strict").as_ref().and_then(Value::as_bool);
    let parameters = function.shift_remove("parameters").unwrap_or_else(|| Value::Object(Map::new()));
    let mut rest = function;
    if let Value::Object(outer) = tool {
        rest.extend(outer.into_iter().filter(|(name, _)| name != "type" && name != "function"));
    }
    Tool::Function { name, description, parameters, strict, rest }
}
