//! All texts of a question, in one order: what is searched is what is changed.
use serde_json::{Map, Value};

use super::{super::encoded, question::Trust};
use crate::chat::{Format, Media, Message, Part, Purpose, Request, Role, Source, Tool};

/// Shows every text to `look`, with the name of the field it stands in where that says something.
pub(super) fn each(chat: &Request, system: bool, look: &mut impl FnMut(&str, Option<&str>, Trust)) {
    for message in chat.messages.iter().filter(|message| system || !is_system(message.role)) {
        message.parts.iter().for_each(|part| part_texts(part, Trust::Words, look));
        message.name.iter().for_each(|name| look(name, None, Trust::Words));
    }
    chat.user.iter().for_each(|user| look(user, None, Trust::Words));
    chat.stop.iter().for_each(|stop| look(stop, None, Trust::Words));
    for tool in &chat.tools {
        match tool {
            Tool::Function { description, parameters, rest, .. } => {
                description.iter().for_each(|text| look(text, None, Trust::Words));
                schema_texts(parameters, look);
                map_texts(rest, look);
            }
            Tool::Other(tool) => {
                custom_description(tool).into_iter().for_each(|text| look(text, None, Trust::Words));
            }
        }
    }
    if let Some(Format::Schema { schema, description, .. }) = &chat.format {
        description.iter().for_each(|text| look(text, None, Trust::Words));
        schema_texts(schema, look);
    }
    map_texts(&chat.rest, look);
}

/// Lets `change` change every text, in the same order.
pub(super) fn each_mut(chat: &mut Request, system: bool, change: &mut impl FnMut(&mut String, Trust)) {
    for message in chat.messages.iter_mut().filter(|message| system || !is_system(message.role)) {
        message.parts.iter_mut().for_each(|part| change_part(part, Trust::Words, change));
        message.name.iter_mut().for_each(|name| change(name, Trust::Words));
    }
    chat.user.iter_mut().for_each(|user| change(user, Trust::Words));
    chat.stop.iter_mut().for_each(|stop| change(stop, Trust::Words));
    for tool in &mut chat.tools {
        match tool {
            Tool::Function { description, parameters, rest, .. } => {
                description.iter_mut().for_each(|text| change(text, Trust::Words));
                change_schema(parameters, change);
                change_map(rest, change);
            }
            Tool::Other(tool) => {
                if let Some(Value::String(text)) = description_mut(tool) {
                    change(text, Trust::Words);
                }
            }
        }
    }
    if let Some(Format::Schema { schema, description, .. }) = &mut chat.format {
        description.iter_mut().for_each(|text| change(text, Trust::Words));
        change_schema(schema, change);
    }
    change_map(&mut chat.rest, change);
}

/// The description of a tool that takes free text (`custom`, of both of OpenAI's APIs). One that the provider runs itself
/// may carry a key that it is to use, and a grammar is followed to the letter.
fn custom_description(tool: &Value) -> Option<&str> {
    let is_custom = tool["type"] == "custom";
    tool.get("custom").unwrap_or(tool).get("description").filter(|_| is_custom)?.as_str()
}

fn description_mut(tool: &mut Value) -> Option<&mut Value> {
    custom_description(tool)?;
    let at = if tool.get("custom").is_some() { "/custom/description" } else { "/description" };
    tool.pointer_mut(at)
}

/// Shows texts that stand side by side, in one message or at the border of two that one party writes one after the
/// other, each with its number in the order of [`each`].
pub(super) fn neighbours<'c>(chat: &'c Request, system: bool, look: &mut impl FnMut(&[(usize, &'c str)])) {
    // Each of the texts to embed is one by itself.
    let talk = chat.purpose == Purpose::Chat;
    let beside = |one: &Message, two: &Message| talk && one.role == two.role && one.name == two.name;
    let more = |part: &Part| matches!(part, Part::ToolResult { parts, .. } if parts.len() > 1);
    let many = |message: &Message| message.parts.len() > 1 || message.parts.iter().any(more);
    if !chat.messages.iter().any(many) && !chat.messages.windows(2).any(|pair| beside(&pair[0], &pair[1])) {
        return;
    }
    let (mut number, mut row, mut last) = (0, Vec::new(), None);
    for message in &chat.messages {
        if last.is_none_or(|last| !beside(last, message)) {
            shown(&mut row, look);
        }
        last = Some(message);
        if system || !is_system(message.role) {
            side_by_side(&message.parts, &mut number, &mut row, look);
            number += usize::from(message.name.is_some());
        }
    }
    shown(&mut row, look);
}

/// Shows a row of texts, and begins another.
fn shown<'c>(row: &mut Vec<(usize, &'c str)>, look: &mut impl FnMut(&[(usize, &'c str)])) {
    if row.len() > 1 {
        look(row);
    }
    row.clear();
}

fn side_by_side<'c>(
    parts: &'c [Part],
    number: &mut usize,
    row: &mut Vec<(usize, &'c str)>,
    look: &mut impl FnMut(&[(usize, &'c str)]),
) {
    for part in parts {
        if let Part::Text { text, rest } = part {
            row.push((*number, text));
            *number += 1;
            map_texts(rest, &mut |_, _, _| *number += 1);
            continue;
        }
        shown(row, look);
        if let Part::ToolResult { parts, rest, .. } = part {
            side_by_side(parts, number, row, look);
            shown(row, look);
            map_texts(rest, &mut |_, _, _| *number += 1);
        } else {
            part_texts(part, Trust::Words, &mut |_, _, _| *number += 1);
        }
    }
}

fn is_system(role: Role) -> bool {
    matches!(role, Role::System | Role::Developer)
}

/// `said`: how what it says in words is to be taken.
fn part_texts(part: &Part, said: Trust, look: &mut impl FnMut(&str, Option<&str>, Trust)) {
    let is_file = matches!(part, Part::File(_));
    match part {
        Part::Text { text, rest } => {
            look(text, None, said);
            map_texts(rest, look);
        }
        Part::Refusal(text) => look(text, None, said),
        Part::Reasoning { text, .. } => look(text, None, Trust::Signed),
        Part::ToolCall(call) => {
            look(&call.arguments, None, Trust::Json);
            map_texts(&call.rest, look);
        }
        Part::ToolResult { parts, rest, .. } => {
            parts.iter().for_each(|part| part_texts(part, Trust::Told, look));
            map_texts(rest, look);
        }
        Part::Image(media) | Part::File(media) | Part::Audio(media) => {
            let Media { source, name, rest, mime: _ } = media;
            match source {
                Source::Text(text) => look(text, None, said),
                Source::Base64(file) if is_file => {
                    encoded::text(file).iter().for_each(|text| look(text, None, said));
                }
                _ => {}
            }
            name.iter().for_each(|name| look(name, None, Trust::Words));
            map_texts(rest, look);
        }
        Part::Other(value) => value_texts(None, value, look),
    }
}

fn change_part(part: &mut Part, said: Trust, change: &mut impl FnMut(&mut String, Trust)) {
    let is_file = matches!(part, Part::File(_));
    match part {
        Part::Text { text, rest } => {
            change(text, said);
            change_map(rest, change);
        }
        Part::Refusal(text) => change(text, said),
        Part::Reasoning { text, .. } => change(text, Trust::Signed),
        Part::ToolCall(call) => {
            change(&mut call.arguments, Trust::Json);
            change_map(&mut call.rest, change);
        }
        Part::ToolResult { parts, rest, .. } => {
            parts.iter_mut().for_each(|part| change_part(part, Trust::Told, change));
            change_map(rest, change);
        }
        Part::Image(media) | Part::File(media) | Part::Audio(media) => {
            let Media { source, name, rest, mime: _ } = media;
            match source {
                Source::Text(text) => change(text, said),
                Source::Base64(file) if is_file => {
                    if let Some(text) = encoded::text(file) {
                        let mut masked = text.clone();
                        change(&mut masked, said);
                        if masked != text {
                            *file = encoded::file(&masked);
                        }
                    }
                }
                _ => {}
            }
            name.iter_mut().for_each(|name| change(name, Trust::Words));
            change_map(rest, change);
        }
        Part::Other(value) => change_value(None, value, change),
    }
}

/// Fields that hold bytes, ids and words of the API: no text of people.
const NO_TEXT: [&str; 11] = [
    "data",
    "id",
    "type",
    "media_type",
    "mime_type",
    "encrypted_content",
    "signature",
    "file_id",
    "file_data",
    "previous_response_id",
    "cache_control",
];

fn is_text(name: Option<&str>) -> bool {
    name.is_none_or(|name| !NO_TEXT.contains(&name))
}

fn map_texts<'c>(map: &'c Map<String, Value>, look: &mut impl FnMut(&'c str, Option<&'c str>, Trust)) {
    map.iter().for_each(|(name, value)| value_texts(Some(name), value, look));
}

fn change_map(map: &mut Map<String, Value>, change: &mut impl FnMut(&mut String, Trust)) {
    map.iter_mut().for_each(|(name, value)| change_value(Some(name), value, change));
}

/// What in a JSON Schema is words or values; all else are names, which an answer must have to the letter.
const SAID: [&str; 7] = ["description", "title", "default", "const", "enum", "examples", "$comment"];

fn schema_texts(schema: &Value, look: &mut impl FnMut(&str, Option<&str>, Trust)) {
    match schema {
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            // A property may be called `title`: then it is a schema.
            if SAID.contains(&&**name) && !value.is_object() {
                value_texts(None, value, look);
            } else {
                schema_texts(value, look);
            }
        }),
        Value::Array(items) => items.iter().for_each(|item| schema_texts(item, look)),
        _ => {}
    }
}

fn change_schema(schema: &mut Value, change: &mut impl FnMut(&mut String, Trust)) {
    match schema {
        Value::Object(map) => map.iter_mut().for_each(|(name, value)| {
            if SAID.contains(&&**name) && !value.is_object() {
                change_value(None, value, change);
            } else {
                change_schema(value, change);
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| change_schema(item, change)),
        _ => {}
    }
}

/// Shows every text of people in a JSON value, which stands in a field of such a name.
pub(in crate::guard) fn texts_in<'c>(
    name: Option<&'c str>,
    value: &'c Value,
    look: &mut impl FnMut(&'c str),
) {
    value_texts(name, value, &mut |text, _, _| look(text));
}

fn value_texts<'c>(
    name: Option<&'c str>,
    value: &'c Value,
    look: &mut impl FnMut(&'c str, Option<&'c str>, Trust),
) {
    match value {
        Value::String(text) if is_text(name) => look(text, name, Trust::Words),
        Value::Array(items) => items.iter().for_each(|item| value_texts(name, item, look)),
        Value::Object(map) => map_texts(map, look),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn change_value(name: Option<&str>, value: &mut Value, change: &mut impl FnMut(&mut String, Trust)) {
    match value {
        Value::String(text) if is_text(name) => change(text, Trust::Words),
        Value::Array(items) => items.iter_mut().for_each(|item| change_value(name, item, change)),
        Value::Object(map) => change_map(map, change),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
