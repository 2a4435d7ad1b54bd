//! A whole answer of Responses:
//! <https://platform.openai.com/docs/api-reference/responses/object>.
use bytes::BytesMut;

use super::shell::{Item, Shell, State};
use crate::{
    chat::{Choice, Completion, Finish, Request},
    reply::Head,
};

/// The body of a whole answer. `id` is the request's, `created` in seconds since 1970.
pub fn whole(head: &Head, done: &Completion, chat: &Request, id: &str, created: u64) -> Vec<u8> {
    let shell = Shell::new(head, chat, id, created);
    let nothing = Choice::default();
    let choice = done.choices.first().unwrap_or(&nothing);
    let finish = choice.finish.as_ref().unwrap_or(&Finish::Stop);
    let mut out = BytesMut::with_capacity(choice.text.len() + 1024);
    shell.put(&items(choice, &shell), State::Ended(finish), Some(done.usage.unwrap_or_default()), &mut out);
    out.to_vec()
}

fn items(choice: &Choice, shell: &Shell) -> Vec<Item> {
    let mut items = Vec::new();
    for data in &choice.redacted {
        let id = shell.item_id("rs", items.len());
        items.push(Item::Reasoning { id, text: String::new(), proof: Some(data.clone()) });
    }
    if !choice.reasoning.is_empty() {
        let id = shell.item_id("rs", items.len());
        let proof = choice.signature.clone();
        items.push(Item::Reasoning { id, text: choice.reasoning.clone(), proof });
    }
    if !choice.text.is_empty() || !choice.refusal.is_empty() {
        let id = shell.item_id("msg", items.len());
        let (text, refusal) = (choice.text.clone(), choice.refusal.clone());
        items.push(Item::Message { id, text, refusal });
    }
    for call in &choice.tool_calls {
        let id = shell.item_id("fc", items.len());
        let call = call.clone();
        items.push(Item::Call { id, call_id: call.id, name: call.name, arguments: call.arguments });
    }
    items
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::{self, ToolCall};

    fn body(choice: Choice, usage: Option<chat::Usage>) -> Value {
        let chat = Request { model: "route".into(), max_tokens: Some(9), ..Request::default() };
        let done = Completion { choices: vec![choice], usage, ..Completion::default() };
        serde_json::from_slice(&whole(&Head::default(), &done, &chat, "r-1", 7)).unwrap()
    }

    #[test]
    fn a_text_is_a_message() {
        let choice = Choice {
            text: "a".into(),
            reasoning: "hm".into(),
            finish: Some(Finish::Stop),
            ..Choice::default()
        };
        let usage = chat::Usage { input: 9, output: 4, cached: 2, reasoning: 3, ..chat::Usage::default() };
        assert_eq!(
            body(choice, Some(usage)),
            json!({
                "id": "resp_r1", "object": "response", "created_at": 7, "status": "completed", "error": null,
                "incomplete_details": null, "model": "route",
                "output": [
                    {"id": "rs_r1_0", "type": "reasoning", "status": "completed",
                     "summary": [{"type": "summary_text", "text": "hm"}]},
                    {"id": "msg_r1_1", "type": "message", "status": "completed", "role": "assistant",
                     "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}]}],
                "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 4,
                    "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 13},
                "background": false, "instructions": null, "max_output_tokens": 9, "metadata": {},
                "parallel_tool_calls": true, "previous_response_id": null,
                "reasoning": {"effort": null, "summary": null}, "service_tier": "default", "store": false,
                "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
                "top_p": 1.0, "truncation": "disabled", "user": null
            })
        );
    }

    #[test]
    fn calls_refusals_and_cut_answers_are_told() {
        let call =
            ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), ..ToolCall::default() };
        let choice = Choice {
            refusal: "no".into(),
            redacted: vec!["opaque".into()],
            tool_calls: vec![call],
            finish: Some(Finish::Length),
            ..Choice::default()
        };
        let body = body(choice, None);
        assert_eq!(
            (&body["status"], &body["incomplete_details"]),
            (&json!("incomplete"), &json!({"reason": "max_output_tokens"}))
        );
        assert_eq!(
            body["output"],
            json!([
                {"id": "rs_r1_0", "type": "reasoning", "status": "completed", "summary": [], "encrypted_content": "opaque"},
                {"id": "msg_r1_1", "type": "message", "status": "completed", "role": "assistant",
                 "content": [{"type": "refusal", "refusal": "no"}]},
                {"id": "fc_r1_2", "type": "function_call", "status": "completed", "call_id": "c", "name": "f",
                 "arguments": "{}"},
            ])
        );
    }
}
