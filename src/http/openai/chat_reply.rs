//! A whole answer of Chat Completions:
//! <https://platform.openai.com/docs/api-reference/chat/object>.
use serde::Serialize;

use crate::{
    chat::{self, Completion, Finish, Request},
    http::json,
    reply::Head,
    wire::openai::{Usage, finish_name},
};

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: Usage,
    system_fingerprint: Option<&'a str>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// The body of a whole answer. `id` is the request's, `created` in seconds since 1970.
pub fn whole(head: &Head, done: &Completion, chat: &Request, id: &str, created: u64) -> Vec<u8> {
    json::bytes(&Whole {
        id: &answer_id(head, id),
        object: "chat.completion",
        created,
        model: model(head, chat),
        choices: done.choices.iter().enumerate().map(|(index, choice)| choice_of(index, choice)).collect(),
        usage: Usage::from(&done.usage.unwrap_or_default()),
        system_fingerprint: None,
    })
}

/// The answer's id: its provider's, else one made of the request's.
pub(super) fn answer_id(head: &Head, id: &str) -> String {
    head.id.as_deref().map_or_else(|| format!("chatcmpl-{id}"), str::to_owned)
}

/// The model that an answer names: the one that answered, where it is known.
pub(super) fn model<'a>(head: &'a Head, chat: &'a Request) -> &'a str {
    if head.model.is_empty() { &chat.model } else { &head.model }
}

fn choice_of(index: usize, choice: &chat::Choice) -> Choice<'_> {
    let refusal = (!choice.refusal.is_empty()).then_some(choice.refusal.as_str());
    let nothing_said = choice.text.is_empty() && (refusal.is_some() || !choice.tool_calls.is_empty());
    let tool_calls = choice.tool_calls.iter().map(|call| Call {
        id: &call.id,
        kind: "function",
        function: Function { name: &call.name, arguments: &call.arguments },
    });
    let ended = if choice.tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    Choice {
        index,
        message: Message {
            role: "assistant",
            content: (!nothing_said).then_some(&choice.text),
            reasoning_content: &choice.reasoning,
            refusal,
            tool_calls: tool_calls.collect(),
        },
        logprobs: None,
        finish_reason: finish_name(choice.finish.as_ref().unwrap_or(&ended)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::ToolCall;

    fn body(done: &Completion) -> Value {
        let chat = Request { model: "route".into(), ..Request::default() };
        serde_json::from_slice(&whole(&Head::default(), done, &chat, "r1", 7)).unwrap()
    }

    #[test]
    fn a_text_is_written_as_it_always_is() {
        let usage = chat::Usage { input: 9, output: 4, cached: 2, reasoning: 3, ..chat::Usage::default() };
        let head = Head { model: "gpt".into(), id: Some("chatcmpl-9".into()), ..Head::default() };
        let body = whole(&head, &Completion::of_text("hé\"", Some(usage)), &Request::default(), "r1", 7);
        let expected = concat!(
            r#"{"id":"chatcmpl-9","object":"chat.completion","created":7,"model":"gpt","choices":[{"index":0,"#,
            r#""message":{"role":"assistant","content":"hé\"","refusal":null},"logprobs":null,"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"#,
            r#""prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}},"#,
            r#""system_fingerprint":null}"#
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn calls_thoughts_and_refusals_are_written() {
        let call =
            ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), ..ToolCall::default() };
        let called =
            chat::Choice { tool_calls: vec![call], reasoning: "hm".into(), ..chat::Choice::default() };
        let refused = chat::Choice { refusal: "no".into(), ..chat::Choice::default() };
        let body = body(&Completion { choices: vec![called, refused], ..Completion::default() });
        assert_eq!((&body["id"], &body["model"]), (&json!("chatcmpl-r1"), &json!("route")));
        let message = json!({"role": "assistant", "content": null, "reasoning_content": "hm", "refusal": null,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
        assert_eq!(body["choices"][0]["message"], message);
        assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(
            body["choices"][1]["message"],
            json!({"role": "assistant", "content": null, "refusal": "no"})
        );
    }
}
