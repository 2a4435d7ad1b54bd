//! The routes as OpenAI's models: <https://platform.openai.com/docs/api-reference/models>.
use serde::Serialize;

use crate::http::json;

/// A model, as a caller sees it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its name.
    pub id: &'a str,
    /// Who answers.
    pub owned_by: &'a str,
    /// Since when there is such a model, in seconds since 1970.
    pub created: u64,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

impl<'a> From<&Row<'a>> for Model<'a> {
    fn from(row: &Row<'a>) -> Self {
        Self { id: row.id, object: "model", created: row.created, owned_by: row.owned_by }
    }
}

/// All models.
pub fn list(rows: &[Row<'_>]) -> Vec<u8> {
    json::bytes(&List { object: "list", data: rows.iter().map(Model::from).collect() })
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
        let one = r#"{"id":"m","object":"model","created":7,"owned_by":"sluice"}"#;
        assert_eq!(String::from_utf8(model(&row)).unwrap(), one);
        assert_eq!(
            String::from_utf8(list(&[row])).unwrap(),
            format!(r#"{{"object":"list","data":[{one}]}}"#)
        );
    }
}
