//! Parts of a message, which Chat Completions and Responses name differently.
use serde_json::{Map, Value};

use crate::{
    chat::{Media, Part, Source},
    error::Result,
    http::read::{At, maybe_text, object, source_of, text},
};

/// A part of a message of Chat Completions.
pub(super) fn chat_part(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    let kind = kind_of(&map, at)?;
    match kind {
        Kind::Text => text_part(map, at),
        Kind::ImageUrl => {
            forget_kind(&mut map);
            let mut image = object(&mut map, "image_url", at)?;
            let (source, mime) = source_of(text(&mut image, "url", &at.then("image_url"))?);
            // `detail` is understood wherever it stands.
            map.append(&mut image);
            Ok(Part::Image(Media { source, mime, name: None, rest: map }))
        }
        Kind::InputAudio => audio(map, at),
        Kind::File => {
            forget_kind(&mut map);
            let mut file = object(&mut map, "file", at)?;
            let media = file_of(&mut file, &at.then("file"))?;
            map.append(&mut file);
            Ok(Part::File(Media { rest: map, ..media }))
        }
        Kind::Refusal => text(&mut map, "refusal", at).map(Part::Refusal),
        Kind::InputImage | Kind::InputFile | Kind::Other => Ok(Part::Other(Value::Object(map))),
    }
}

/// A part of a message of Responses.
pub(super) fn responses_part(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    match kind_of(&map, at)? {
        Kind::Text => text_part(map, at),
        Kind::InputImage => {
            forget_kind(&mut map);
            let (source, mime) = match maybe_text(&mut map, "image_url", at)? {
                Some(url) => source_of(url),
                None => match maybe_text(&mut map, "file_id", at)? {
                    Some(id) => (Source::Id(id), None),
                    None => return Err(at.then("image_url").missing()),
                },
            };
            Ok(Part::Image(Media { source, mime, name: None, rest: map }))
        }
        Kind::InputFile => {
            forget_kind(&mut map);
            let media = file_of(&mut map, at)?;
            Ok(Part::File(Media { rest: map, ..media }))
        }
        Kind::InputAudio => audio(map, at),
        Kind::Refusal => text(&mut map, "refusal", at).map(Part::Refusal),
        // No provider is asked in this API: it would be sent to nobody.
        Kind::ImageUrl | Kind::File | Kind::Other => {
            let known =
                "`input_text`, `input_image`, `input_file`, `input_audio`, `output_text` or `refusal`";
            Err(at.then("type").wrong(format!("must be {known}")))
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    ImageUrl,
    InputImage,
    InputAudio,
    File,
    InputFile,
    Refusal,
    Other,
}

fn kind_of(map: &Map<String, Value>, at: &At<'_>) -> Result<Kind> {
    let name = match map.get("type") {
        Some(Value::String(name)) => name,
        None | Some(Value::Null) => return Err(at.then("type").missing()),
        Some(_) => return Err(at.then("type").wrong("must be a string")),
    };
    Ok(match name.as_str() {
        "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" => Kind::Text,
        "image_url" => Kind::ImageUrl,
        "input_image" => Kind::InputImage,
        "input_audio" => Kind::InputAudio,
        "file" => Kind::File,
        "input_file" => Kind::InputFile,
        "refusal" => Kind::Refusal,
        _ => Kind::Other,
    })
}

fn forget_kind(map: &mut Map<String, Value>) {
    map.shift_remove("type");
}

fn text_part(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    let text = text(&mut map, "text", at)?;
    // What an answer's part has, sent back with it: no parameter.
    for name in ["type", "annotations", "logprobs"] {
        map.shift_remove(name);
    }
    Ok(Part::Text { text, rest: map })
}

fn audio(mut map: Map<String, Value>, at: &At<'_>) -> Result<Part> {
    forget_kind(&mut map);
    let mut audio = object(&mut map, "input_audio", at)?;
    let at = at.then("input_audio");
    let (source, format) = (Source::Base64(text(&mut audio, "data", &at)?), text(&mut audio, "format", &at)?);
    let mime = if format == "mp3" { "audio/mpeg".to_owned() } else { format!("audio/{format}") };
    Ok(Part::Audio(Media { source, mime: Some(mime), name: None, rest: map }))
}

/// A document, by its bytes, its id or its address.
fn file_of(map: &mut Map<String, Value>, at: &At<'_>) -> Result<Media> {
    let name = maybe_text(map, "filename", at)?;
    let (source, mime) = if let Some(id) = maybe_text(map, "file_id", at)? {
        (Source::Id(id), None)
    } else if let Some(url) = maybe_text(map, "file_url", at)? {
        source_of(url)
    } else if let Some(bytes) = maybe_text(map, "file_data", at)? {
        // Some clients send the bytes without the `data:` before them.
        match source_of(bytes) {
            (Source::Url(bytes), _) => (Source::Base64(bytes), Some("application/pdf".to_owned())),
            with_kind => with_kind,
        }
    } else {
        return Err(at.then("file_data").missing());
    };
    Ok(Media { source, mime, name, rest: Map::new() })
}
