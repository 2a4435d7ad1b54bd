//! Fields that pass on to a provider of the same API as they stand: what is known of their form.
use serde_json::{Map, Value};

use super::read::Checks;

/// The form of a field that is passed on unread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// A number.
    Number,
    /// A whole number, not below 0.
    Count,
    /// True or false.
    Flag,
    /// A text.
    Text,
    /// An object.
    Object,
    /// An object of numbers.
    Numbers,
}

impl Form {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Number => value.is_number(),
            Self::Count => value.is_u64(),
            Self::Flag => value.is_boolean(),
            Self::Text => value.is_string(),
            Self::Object => value.is_object(),
            Self::Numbers => value.as_object().is_some_and(|object| object.values().all(Value::is_number)),
        }
    }

    fn said(self) -> &'static str {
        match self {
            Self::Number => "must be a number",
            Self::Count => "must be a whole number, not below 0",
            Self::Flag => "must be true or false",
            Self::Text => "must be a text",
            Self::Object => "must be an object",
            Self::Numbers => "must be an object of numbers",
        }
    }
}

impl Checks {
    /// Options of a stream need one: OpenAI refuses them too.
    pub(super) fn stream_options(&mut self, stream: Option<bool>, given: bool) {
        if given && stream != Some(true) {
            self.wrong("stream_options", "is only allowed when `stream` is true");
        }
    }

    /// Fields that are passed on unread, each of a form that its API documents. Other bounds are the provider's own.
    pub(super) fn forms(&mut self, rest: &Map<String, Value>, forms: &[(&str, Form)]) {
        if rest.is_empty() {
            return;
        }
        for (field, form) in forms {
            if let Some(value) = rest.get(*field).filter(|value| !value.is_null())
                && !form.is_of(value)
            {
                self.wrong(field, form.said());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::read::tests::complaint;

    #[test]
    fn what_is_passed_on_unread_has_its_form() {
        use serde_json::json;
        for (form, good, bad) in [
            (Form::Number, vec![json!(1), json!(-0.5)], vec![json!("1"), json!([1])]),
            (Form::Count, vec![json!(0), json!(40)], vec![json!(-1), json!(1.5), json!(true)]),
            (Form::Flag, vec![json!(true)], vec![json!(1), json!("true")]),
            (Form::Text, vec![json!("")], vec![json!(1), json!({})]),
            (Form::Object, vec![json!({}), json!({"a": [1]})], vec![json!([]), json!("{}")]),
            (Form::Numbers, vec![json!({"50256": -100})], vec![json!({"a": "b"}), json!([1])]),
        ] {
            let told = |value: &Value| {
                let mut checks = Checks::default();
                checks.forms(&Map::from_iter([("f".to_owned(), value.clone())]), &[("f", form), ("g", form)]);
                complaint(checks.done())
            };
            for value in good.iter().chain([&Value::Null]) {
                assert_eq!(told(value), "it was accepted", "{form:?} {value}");
            }
            for value in bad {
                assert_eq!(told(&value), format!("f: {}", form.said()), "{value}");
            }
        }
    }
}
