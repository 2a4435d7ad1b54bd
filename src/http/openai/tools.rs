//! Tools and forms of answer, which Chat Completions and Responses spell almost alike.
//! Chat puts what describes them one object deeper.
use serde_json::{Map, Value};

use crate::{
    chat::{Format, Tool, ToolChoice},
    error::Result,
    guard,
    http::read::{At, TextOr, maybe_flag, maybe_object, maybe_text, no_arguments, object, take, text},
};

/// Whether a function is described right in the tool, or one object deeper.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Chat Completions: `{"type": "function", "function": {"name": …}}`.
    Deep,
    /// Responses: `{"type": "function", "name": …}`.
    Flat,
}

/// The `tools`.
pub(super) fn tools(list: Vec<Map<String, Value>>, spelling: Spelling) -> Result<Vec<Tool>> {
    list.into_iter().enumerate().map(|(index, map)| tool(map, &At::item("tools", index), spelling)).collect()
}

fn tool(mut map: Map<String, Value>, at: &At<'_>, spelling: Spelling) -> Result<Tool> {
    match map.get("type") {
        Some(Value::String(kind)) if kind == "function" => {}
        Some(Value::String(_)) => return Ok(Tool::Other(Value::Object(map))),
        Some(_) => return Err(at.then("type").wrong("must be a string")),
        None => return Err(at.then("type").missing()),
    }
    map.shift_remove("type");
    if spelling == Spelling::Deep {
        let mut function = object(&mut map, "function", at)?;
        function_of(&mut function, &at.then("function")).map(|read| with_rest(read, map))
    } else {
        function_of(&mut map, at).map(|read| with_rest(read, map))
    }
}

struct Function {
    name: String,
    description: Option<String>,
    parameters: Value,
    strict: Option<bool>,
}

fn function_of(map: &mut Map<String, Value>, at: &At<'_>) -> Result<Function> {
    Ok(Function {
        name: text(map, "name", at)?,
        description: maybe_text(map, "description", at)?,
        parameters: maybe_object(map, "parameters", at)?.map_or_else(no_arguments, Value::Object),
        strict: maybe_flag(map, "strict", at)?,
    })
}

fn with_rest(function: Function, rest: Map<String, Value>) -> Tool {
    let Function { name, description, parameters, strict } = function;
    Tool::Function { name, description, parameters, strict, rest }
}

/// The `tool_choice`.
pub(super) fn tool_choice(value: Value, spelling: Spelling) -> Result<ToolChoice> {
    let at = At::field("tool_choice");
    match value {
        Value::String(word) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(at.wrong("must be `auto`, `none`, `required` or an object")),
        },
        Value::Object(mut map) if map.get("type").and_then(Value::as_str) == Some("function") => {
            if spelling == Spelling::Deep {
                let mut function = object(&mut map, "function", &at)?;
                text(&mut function, "name", &at.then("function")).map(ToolChoice::Named)
            } else {
                text(&mut map, "name", &at).map(ToolChoice::Named)
            }
        }
        Value::Object(map) => Ok(ToolChoice::Other(Value::Object(map))),
        _ => Err(at.wrong("must be `auto`, `none`, `required` or an object")),
    }
}

/// The form of the answer: `response_format`, or what `text.format` has.
pub(super) fn format(mut map: Map<String, Value>, at: &At<'_>, spelling: Spelling) -> Result<Format> {
    match text(&mut map, "type", at)?.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" if spelling == Spelling::Deep => {
            let mut schema = object(&mut map, "json_schema", at)?;
            schema_of(&mut schema, &at.then("json_schema"))
        }
        "json_schema" => schema_of(&mut map, at),
        _ => Err(at.then("type").wrong("must be `text`, `json_object` or `json_schema`")),
    }
}

fn schema_of(map: &mut Map<String, Value>, at: &At<'_>) -> Result<Format> {
    let name = text(map, "name", at)?;
    let schema = take(map, "schema").unwrap_or_else(|| Value::Object(Map::new()));
    guard::schema::check(&schema).map_err(|why| at.then("schema").wrong(why))?;
    Ok(Format::Schema {
        name,
        schema,
        description: maybe_text(map, "description", at)?,
        strict: maybe_flag(map, "strict", at)?,
    })
}

/// The `stop` texts.
pub(super) fn stop(stop: Option<TextOr<String>>) -> Vec<String> {
    stop.map(TextOr::into_list).unwrap_or_default()
}
