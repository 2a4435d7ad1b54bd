//! The `input` of a request: items, of which one side's turn may be made of several.
use serde_json::{Map, Value};

use crate::{
    chat::{Message, Part, Role, ToolCall},
    error::Result,
    http::{
        openai::{chat_request::role, content::responses_part},
        read::{At, TextOr, maybe_text, take, text},
    },
};

/// Appends what the items say.
pub(super) fn append(input: TextOr<Map<String, Value>>, messages: &mut Vec<Message>) -> Result<()> {
    match input {
        TextOr::Text(text) => messages.push(Message::new(Role::User, text)),
        TextOr::List(list) => {
            for (index, map) in list.into_iter().enumerate() {
                item(map, &At::item("input", index), messages)?;
            }
        }
    }
    Ok(())
}

fn item(mut map: Map<String, Value>, at: &At<'_>, messages: &mut Vec<Message>) -> Result<()> {
    let kind = maybe_text(&mut map, "type", at)?;
    // A message may leave out what it is.
    match kind.as_deref().unwrap_or("message") {
        "message" => messages_of(map, at, messages)?,
        "function_call" => {
            let call = ToolCall {
                id: text(&mut map, "call_id", at)?,
                name: text(&mut map, "name", at)?,
                arguments: text(&mut map, "arguments", at)?,
                rest: Map::new(),
            };
            answered(Part::ToolCall(call), messages);
        }
        "function_call_output" => {
            let id = text(&mut map, "call_id", at)?;
            let parts = match take(&mut map, "output") {
                None => return Err(at.then("output").missing()),
                Some(output) => said(output, at, "output")?,
            };
            let parts = vec![Part::ToolResult { id, parts, failed: false, rest: Map::new() }];
            messages.push(Message { role: Role::Tool, parts, name: None });
        }
        "reasoning" => answered(thought(map, at)?, messages),
        "item_reference" => {
            return Err(at.wrong("refers to an item, but nothing is stored here; send the item itself"));
        }
        _ => {
            let known = "`message`, `function_call`, `function_call_output` or `reasoning`";
            return Err(at.then("type").wrong(format!("must be {known}")));
        }
    }
    Ok(())
}

fn messages_of(mut map: Map<String, Value>, at: &At<'_>, messages: &mut Vec<Message>) -> Result<()> {
    let place = at.then("role");
    let role = role(&text(&mut map, "role", at)?).filter(|role| *role != Role::Tool);
    let role =
        role.ok_or_else(|| place.wrong("must be one of `user`, `assistant`, `system` and `developer`"))?;
    let content = take(&mut map, "content").ok_or_else(|| at.then("content").missing())?;
    let mut parts = said(content, at, "content")?;
    match messages.last_mut() {
        // What was thought and what was said then are one turn. Where nothing was said the thoughts are not looked at:
        // all of them would be for each of any number of such turns.
        Some(Message { role: Role::Assistant, parts: before, .. })
            if role == Role::Assistant
                && (parts.is_empty() || before.iter().all(|part| matches!(part, Part::Reasoning { .. }))) =>
        {
            before.append(&mut parts);
        }
        _ => messages.push(Message { role, parts, name: None }),
    }
    Ok(())
}

/// Adds to the model's turn.
fn answered(part: Part, messages: &mut Vec<Message>) {
    match messages.last_mut() {
        Some(Message { role: Role::Assistant, parts, .. }) => parts.push(part),
        _ => messages.push(Message { role: Role::Assistant, parts: vec![part], name: None }),
    }
}

fn said(content: Value, at: &At<'_>, field: &str) -> Result<Vec<Part>> {
    match content {
        Value::String(text) => Ok(vec![Part::Text { text, rest: Map::new() }]),
        Value::Array(list) => {
            let parts = list.into_iter().enumerate().map(|(index, value)| {
                let at = at.then_item(field, index);
                match value {
                    Value::Object(map) => responses_part(map, &at),
                    _ => Err(at.wrong("must be an object")),
                }
            });
            parts.collect()
        }
        _ => Err(at.then(field).wrong("must be a string or a list")),
    }
}

/// A thought given back. Our own answers put its signature where OpenAI puts what it encrypts.
fn thought(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    let mut text = String::new();
    for field in ["content", "summary"] {
        // Where the thought itself is given, its summary says nothing more.
        if let Some(list) = take(&mut map, field).filter(|_| text.is_empty()) {
            for part in said(list, at, field)? {
                if let Part::Text { text: piece, .. } = part {
                    text.push_str(&piece);
                }
            }
        }
    }
    let proof = maybe_text(&mut map, "encrypted_content", at)?;
    let (signature, redacted) = if text.is_empty() { (None, proof) } else { (proof, None) };
    Ok(Part::Reasoning { text, signature, redacted })
}
