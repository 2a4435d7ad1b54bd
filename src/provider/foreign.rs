//! Parts of a message that only another vendor's API defines.
use serde_json::Value;

use crate::{
    chat::Request,
    error::{Error, Result},
};

/// The longest name of a type that a message repeats, in bytes.
const LONGEST_NAME: usize = 48;

/// Fails for a part that this API has no form for: the model would not see it, and nobody would know. What the tools
/// left behind that another vendor runs itself stays behind as they do.
pub(super) fn part(chat: &Request, value: &Value) -> Result<()> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    if matches!(kind, "server_tool_use" | "mcp_tool_use") || kind.ends_with("_tool_result") {
        return Ok(());
    }
    // The name of a type, not whatever a caller wrote in its place.
    let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let what = if !kind.is_empty() && kind.len() <= LONGEST_NAME && kind.bytes().all(name) {
        format!("its provider's API has no form for content of the type `{kind}`").into()
    } else {
        "its provider's API has no form for content of this type".into()
    };
    Err(Error::Unsupported { model: chat.model.clone(), what })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_would_see_is_refused_by_its_name() {
        let chat = Request { model: "main".into(), ..Request::default() };
        for kind in ["server_tool_use", "mcp_tool_use", "web_search_tool_result", "mcp_tool_result"] {
            assert!(part(&chat, &json!({"type": kind})).is_ok(), "{kind}");
        }
        let told = |value| part(&chat, &value).unwrap_err().to_string();
        assert!(told(json!({"type": "search_result"})).contains("of the type `search_result`"));
        for odd in [json!({"type": "Ann Lee 4111"}), json!({"type": "a".repeat(49)}), json!({}), json!(7)] {
            assert!(told(odd).ends_with("no form for content of this type"));
        }
    }
}
