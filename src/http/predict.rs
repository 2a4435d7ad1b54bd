//! `POST /predict`: the label of a text.
use axum::{body::Body, extract::State, response::Response};
use http::Request as HttpRequest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    App, answer,
    error::Shape,
    fields::{Fields, UNBOUNDED},
    inbound, respond_error,
};
use crate::{
    call::{Call, Context, Notes},
    chat::{Completion, Family, Format, Message, Request, Role},
    error::{Error, Result},
    guard::safety,
    reply::Head,
};

/// The longest text that is read, in words; the rest is cut, not refused.
const LONGEST: usize = 512;
/// The labels.
const LABELS: [&str; 2] = ["NEGATIVE", "POSITIVE"];

/// What `/predict` answers.
#[derive(Serialize, schemars::JsonSchema)]
pub struct Prediction {
    /// The label: `NEGATIVE` or `POSITIVE`.
    pub label: String,
    /// How sure the model is, 0 to 1.
    pub confidence: f64,
    /// The label again, under the name that A/B clients read.
    pub prediction: String,
    /// The version of the model that answered.
    pub model_version: Option<String>,
}

/// What the model is to write.
#[derive(Deserialize)]
struct Labelled {
    label: String,
    #[serde(default = "even")]
    confidence: f64,
}

fn even() -> f64 {
    0.5
}

/// The endpoint.
pub async fn post(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    let (id, path) = super::identity(&request);
    // Boxed: a large future is copied by every wrapper above.
    match Box::pin(ask(&app, request)).await {
        Ok(response) => response,
        Err(error) => respond_error(&app, &error, Shape::Native, &id, path),
    }
}

async fn ask(app: &App, request: HttpRequest<Body>) -> Result<Response> {
    let inbound = inbound::read(app, request).await?;
    let mut fields = Fields::read(&inbound.body)?;
    let text = fields.required("text", 1, UNBOUNDED);
    fields.done()?;
    let sanitize = &app.running().sanitize;
    let clean = sanitize.enabled.then(|| safety::sanitized(&text, sanitize)).flatten();
    let text = cut(clean.as_deref().unwrap_or(&text));
    let user = inbound.parts.headers.get("x-user-id").and_then(|user| user.to_str().ok());
    let running = app.running();
    let mut context = inbound.context("/predict", user);
    context.cache_ttl = Some(running.predict.1);
    let prompt = running.prompts.classify(&LABELS, text).map_err(Error::internal)?;
    let schema = json!({
        "type": "object",
        "properties": {"label": {"type": "string", "enum": LABELS}, "confidence": {"type": "number"}},
        "required": ["label", "confidence"],
        "additionalProperties": false,
    });
    let chat = Request {
        model: running.predict.0.clone(),
        messages: vec![Message::new(Role::System, prompt), Message::new(Role::User, text)],
        temperature: Some(0.0),
        max_tokens: Some(64),
        format: Some(Format::Schema { name: "label".into(), schema, description: None, strict: Some(true) }),
        family: Family::Native,
        ..Request::default()
    };
    let call = Call::new(context, chat);
    let render = |_: &Head, done: Completion, _: &Context, notes: &Notes| {
        let labelled = read(done.text());
        let prediction = Prediction {
            prediction: labelled.label.clone(),
            label: labelled.label,
            confidence: labelled.confidence.clamp(0.0, 1.0),
            model_version: notes.target.as_ref().map(|target| target.version.to_string()),
        };
        serde_json::to_vec(&prediction).unwrap_or_default()
    };
    Ok(answer::whole(app, call, Shape::Native, render).await)
}

/// The label in what the model wrote. A model that does not keep to the form
/// is read by its words; one that names no label is evenly unsure of the first.
fn read(text: &str) -> Labelled {
    let start = text.find('{').unwrap_or(0);
    let end = text.rfind('}').map_or(text.len(), |end| end + 1);
    let json = text.get(start..end).unwrap_or_default();
    let named = |text: &str| {
        let upper = text.to_uppercase();
        LABELS.into_iter().find(|label| upper.contains(label)).map(str::to_owned)
    };
    if let Ok(found) = serde_json::from_str::<Labelled>(json)
        && let Some(label) = named(&found.label)
    {
        return Labelled { label, confidence: found.confidence };
    }
    let label = named(text);
    Labelled { label: label.unwrap_or_else(|| LABELS[0].to_owned()), confidence: even() }
}

/// The first words of a text, spaces as they were.
fn cut(text: &str) -> &str {
    let mut words = 0;
    let mut within = false;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            within = false;
        } else if !std::mem::replace(&mut within, true) {
            words += 1;
            if words > LONGEST {
                return text[..at].trim_end();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_labels_are_read_from_whatever_a_model_writes() {
        assert_eq!(cut("a b"), "a b");
        assert_eq!(cut(&"w ".repeat(600)).split_whitespace().count(), LONGEST);
        assert_eq!(read(r#"{"label":"POSITIVE","confidence":0.9}"#).label, "POSITIVE");
        assert_eq!(read("Sure: {\"label\": \"negative\"}").label, "NEGATIVE");
        let unsure = read("This is positive.");
        assert_eq!((unsure.label.as_str(), unsure.confidence), ("POSITIVE", 0.5));
    }
}
