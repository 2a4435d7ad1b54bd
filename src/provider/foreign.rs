//! Parts of a message that a provider has no form for.
use serde_json::Value;

use crate::{
    chat::{Part, Purpose, Request, Role, ToolChoice},
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

/// Fails where a provider that reads text alone is asked about something else: it would answer as if that were not
/// there. It answers what was said last; what was shown before is history, and it reads none.
pub(super) fn text_alone(chat: &Request) -> Result<()> {
    let unseen = |what: &str| {
        let what = format!("its provider reads text alone, and would not see {what}").into();
        Err(Error::Unsupported { model: chat.model.clone(), what })
    };
    let embeds = matches!(chat.purpose, Purpose::Embed { .. });
    let last = chat.messages.iter().rposition(|message| message.role == Role::User && !embeds);
    for part in chat.messages.iter().skip(last.unwrap_or_default()).flat_map(|message| &message.parts) {
        match part {
            Part::Text { .. } | Part::Reasoning { .. } | Part::Refusal(_) => {}
            Part::Image(_) => return unseen("an image"),
            Part::File(_) => return unseen("a file"),
            Part::Audio(_) => return unseen("audio"),
            Part::ToolCall(_) | Part::ToolResult { .. } => return unseen("what a tool gave back"),
            Part::Other(_) if embeds => return unseen("a text that is given as tokens"),
            Part::Other(value) => self::part(chat, value)?,
        }
    }
    match &chat.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            let what = "its provider calls no tools, and one has to be called".into();
            Err(Error::Unsupported { model: chat.model.clone(), what })
        }
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Other(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::chat::{Media, Message, ToolCall};

    #[test]
    fn who_reads_text_alone_says_what_he_would_not_see() {
        let saying = |role, parts| Message { role, parts, name: None };
        let text = || Message::new(Role::User, "What is this?");
        let told = |messages: Vec<Message>| {
            let chat = Request { model: "main".into(), messages, ..Request::default() };
            text_alone(&chat).map_err(|error| error.to_string())
        };
        let result =
            || Part::ToolResult { id: "c".into(), parts: Vec::new(), failed: false, rest: Map::new() };
        for (part, word) in [
            (Part::Image(Media::default()), "an image"),
            (Part::File(Media::default()), "a file"),
            (Part::Audio(Media::default()), "audio"),
            (result(), "what a tool gave back"),
            (Part::Other(json!({"type": "search_result"})), "`search_result`"),
        ] {
            let mut asked = text();
            asked.parts.push(part.clone());
            assert!(told(vec![asked.clone()]).unwrap_err().contains(word), "{word}");
            // Before the question it is history.
            assert_eq!(told(vec![asked, Message::new(Role::Assistant, "A cat."), text()]), Ok(()), "{word}");
        }
        let called = saying(Role::Assistant, vec![Part::ToolCall(ToolCall::default())]);
        let given = saying(Role::Tool, vec![result()]);
        assert!(
            told(vec![text(), called.clone(), given.clone()]).is_err(),
            "the result is what it is asked about"
        );
        assert_eq!(told(vec![text(), called, given, text()]), Ok(()));
        let mut chat = Request { messages: vec![text()], ..Request::default() };
        for (choice, good) in
            [(ToolChoice::Auto, true), (ToolChoice::None, true), (ToolChoice::Required, false)]
        {
            chat.tool_choice = Some(choice);
            assert_eq!(text_alone(&chat).is_ok(), good);
        }
        let tokens = saying(Role::User, vec![Part::Other(json!([1, 2]))]);
        let purpose = Purpose::Embed { dimensions: None };
        let chat = Request { messages: vec![tokens, text()], purpose, ..Request::default() };
        assert!(text_alone(&chat).unwrap_err().to_string().contains("tokens"));
    }

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
