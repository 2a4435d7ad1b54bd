//! Anthropic's content blocks, read.
use serde_json::{Map, Value};

use crate::{
    chat::{Media, Part, Source, ToolCall},
    error::Result,
    http::read::{At, TextOr, maybe_flag, maybe_object, maybe_text, take, text},
};

/// What a message says: one text, or blocks.
pub(super) fn parts(content: TextOr<Map<String, Value>>, at: &At<'_>, field: &str) -> Result<Vec<Part>> {
    match content {
        TextOr::Text(text) => Ok(vec![Part::Text { text, rest: Map::new() }]),
        TextOr::List(list) => {
            list.into_iter().enumerate().map(|(index, map)| part(map, &at.then_item(field, index))).collect()
        }
    }
}

/// One block.
pub(super) fn part(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        None | Some(Value::Null) => return Err(at.then("type").missing()),
        Some(_) => return Err(at.then("type").wrong("must be a string")),
    };
    match kind {
        "text" => {
            map.shift_remove("type");
            let text = text(&mut map, "text", at)?;
            Ok(Part::Text { text, rest: map })
        }
        "image" => media(map, at, Part::Image),
        "document" => media(map, at, Part::File),
        "tool_use" => {
            let (id, name) = (text(&mut map, "id", at)?, text(&mut map, "name", at)?);
            let input = maybe_object(&mut map, "input", at)?.unwrap_or_default();
            map.shift_remove("type");
            let arguments = Value::Object(input).to_string();
            Ok(Part::ToolCall(ToolCall { id, name, arguments, rest: map }))
        }
        "tool_result" => tool_result(map, at),
        "thinking" => {
            let thought = text(&mut map, "thinking", at)?;
            let signature = maybe_text(&mut map, "signature", at)?;
            Ok(Part::Reasoning { text: thought, signature, redacted: None })
        }
        "redacted_thinking" => {
            let redacted = Some(text(&mut map, "data", at)?);
            Ok(Part::Reasoning { text: String::new(), signature: None, redacted })
        }
        _ => Ok(Part::Other(Value::Object(map))),
    }
}

fn tool_result(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    let id = text(&mut map, "tool_use_id", at)?;
    let failed = maybe_flag(&mut map, "is_error", at)?.unwrap_or_default();
    let content = match take(&mut map, "content") {
        None => {
            map.shift_remove("type");
            return Ok(Part::ToolResult { id, parts: Vec::new(), failed, rest: map });
        }
        Some(Value::String(text)) => TextOr::Text(text),
        Some(Value::Array(list)) => {
            let maps = list.into_iter().enumerate().map(|(index, value)| match value {
                Value::Object(map) => Ok(map),
                _ => Err(at.then_item("content", index).wrong("must be an object")),
            });
            TextOr::List(maps.collect::<Result<_>>()?)
        }
        Some(_) => return Err(at.then("content").wrong("must be a string or a list")),
    };
    // A result within a result is nonsense; it would be sent on as one.
    let parts = parts(content, at, "content")?;
    let nested = |part: &Part| matches!(part, Part::ToolResult { .. } | Part::ToolCall(_));
    if let Some(index) = parts.iter().position(nested) {
        return Err(at.then_item("content", index).then("type").wrong("must not be a tool's use or result"));
    }
    map.shift_remove("type");
    Ok(Part::ToolResult { id, parts, failed, rest: map })
}

/// A picture or a document, by where its bytes are.
fn media(mut map: Map<String, Value>, at: &At<'_>, part: impl FnOnce(Media) -> Part) -> Result<Part> {
    let place = at.then("source");
    let Some(source) = map.get_mut("source") else { return Err(place.missing()) };
    let Value::Object(from) = source else { return Err(place.wrong("must be an object")) };
    let source = match from.get("type").and_then(Value::as_str) {
        Some("base64") => Source::Base64(text(from, "data", &place)?),
        Some("text") => Source::Text(text(from, "data", &place)?),
        Some("url") => Source::Url(text(from, "url", &place)?),
        Some("file") => Source::Id(text(from, "file_id", &place)?),
        None => return Err(place.then("type").missing()),
        // Such as a document made of blocks.
        Some(_) => return Ok(Part::Other(Value::Object(map))),
    };
    let mime = maybe_text(from, "media_type", &place)?;
    let name = maybe_text(&mut map, "title", at)?;
    map.retain(|name, _| name != "type" && name != "source");
    Ok(part(Media { source, mime, name, rest: map }))
}
