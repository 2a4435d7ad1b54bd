//! The routes as Anthropic's models: <https://docs.anthropic.com/en/api/models-list>.
use serde::Serialize;

use crate::http::{json, openai::models::Row};

#[derive(Serialize)]
struct List<'a> {
    data: Vec<Model<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
}

impl<'a> From<&Row<'a>> for Model<'a> {
    fn from(row: &Row<'a>) -> Self {
        let created =
            i64::try_from(row.created).ok().and_then(|secs| jiff::Timestamp::from_second(secs).ok());
        let created_at = created.unwrap_or_default().to_string();
        Self { kind: "model", id: row.id, display_name: row.id, created_at }
    }
}

/// All models, on one page.
pub fn list(rows: &[Row<'_>]) -> Vec<u8> {
    let (first_id, last_id) = (rows.first().map(|row| row.id), rows.last().map(|row| row.id));
    json::bytes(&List { data: rows.iter().map(Model::from).collect(), has_more: false, first_id, last_id })
}

/// One model.
pub fn model(row: &Row<'_>) -> Vec<u8> {
    json::bytes(&Model::from(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed() {
        let row = Row { id: "m", owned_by: "sluice", created: 7 };
        let one = r#"{"type":"model","id":"m","display_name":"m","created_at":"1970-01-01T00:00:07Z"}"#;
        assert_eq!(String::from_utf8(model(&row)).unwrap(), one);
        let all = format!(r#"{{"data":[{one}],"has_more":false,"first_id":"m","last_id":"m"}}"#);
        assert_eq!(String::from_utf8(list(&[row])).unwrap(), all);
        assert_eq!(
            String::from_utf8(list(&[])).unwrap(),
            r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#
        );
    }
}
