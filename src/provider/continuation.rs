//! How a model is asked to go on with an answer that another one began.
use serde_json::Value;

use super::{anthropic, catalog::Kind};
use crate::chat::{Format, Message, Part, Purpose, Request, Role, ToolChoice};

/// What a provider makes of the beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// It goes on from its last letter, and has to be told that it should.
    Asked,
    /// It goes on from its last letter by itself.
    Itself,
    /// It does not take it for a beginning: it has to be told in words.
    No,
}

impl Prefill {
    /// What `model` of a provider of this kind makes of it; `None` where it cannot go on at all.
    ///
    /// Claude took a beginning up to version 4.5 and refuses it since
    /// (<https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-6>);
    /// vLLM takes it with `continue_final_message`, llama.cpp as it is. Of the
    /// others some do, with some models: they are told in words, which all understand.
    pub fn of(kind: Kind, model: &str) -> Option<Self> {
        if kind.is_embedded() {
            return None;
        }
        Some(match kind.row().name {
            "anthropic" if anthropic::takes_prefill(model) => Self::Itself,
            "vllm" | "llamacpp" => Self::Asked,
            _ => Self::No,
        })
    }
}

/// Parameters that hold a model to a grammar, which begins anew with each answer.
const GRAMMARS: [&str; 8] = [
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "json_schema",
    "output_config",
    "structured_outputs",
];

/// Whether another model can go on with the answer to this question: one
/// plain text. A form that is to be kept to would begin anew, a tool that has
/// to be called makes the text no answer, and several answers break off together.
pub fn possible(chat: &Request) -> bool {
    chat.purpose == Purpose::Chat
        && chat.choice_count() == 1
        && matches!(chat.format, None | Some(Format::Text))
        && matches!(chat.tool_choice, None | Some(ToolChoice::Auto | ToolChoice::None))
        && !GRAMMARS.iter().any(|name| chat.rest.contains_key(*name))
}

/// Makes the question one for the rest of the answer, of which `text` is
/// there; `last` are its last words.
pub fn ask(chat: &mut Request, text: &str, last: &str, prefill: Prefill) {
    if last.is_empty() {
        return;
    }
    // Anthropic refuses white space at the end of a beginning, and others begin with it once more.
    say(&mut chat.messages, if prefill == Prefill::No { text } else { text.trim_end() });
    if prefill == Prefill::No {
        chat.messages.push(Message::new(Role::User, told(last)));
        return;
    }
    // Who thinks first does not go on from the last letter, and APIs refuse the two together.
    chat.reasoning = None;
    chat.rest.shift_remove("thinking");
    if prefill == Prefill::Asked {
        chat.rest.insert("continue_final_message".into(), Value::Bool(true));
        chat.rest.insert("add_generation_prompt".into(), Value::Bool(false));
    }
}

/// Adds what the model has said; the caller may have begun its answer.
fn say(messages: &mut Vec<Message>, text: &str) {
    if let Some(Message { role: Role::Assistant, parts, .. }) = messages.last_mut()
        && let Some(Part::Text { text: begun, .. }) = parts.last_mut()
    {
        begun.push_str(text);
    } else {
        messages.push(Message::new(Role::Assistant, text));
    }
}

fn told(last: &str) -> String {
    format!(
        "Your answer above was cut off by a technical fault; I have received all of it up to its last \
         letter. Its last words are:\n<last-words>{last}</last-words>\nGo on from exactly there. First \
         repeat these last words, letter for letter and without the tags, then write what is still missing \
         of the answer, and nothing else: no introduction, no apology, no word about the interruption. If \
         nothing is missing, repeat the last words only."
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::{Dialect, anthropic::Anthropic, openai::OpenAi};

    fn asked() -> Request {
        Request { messages: vec![Message::new(Role::User, "hi")], ..Request::default() }
    }

    fn sent(prefill: Prefill, chat: &Request) -> Value {
        let mut chat = chat.clone();
        ask(&mut chat, "It is so ", "It is so", prefill);
        let sent = match prefill {
            Prefill::Itself => Anthropic.encode(&chat, "claude-sonnet-4-5"),
            _ => OpenAi::default().encode(&chat, "qwen3"),
        };
        serde_json::from_slice(&sent.unwrap().body).unwrap()
    }

    #[test]
    fn each_api_is_asked_in_its_own_way() {
        let body = sent(Prefill::Asked, &asked());
        let trimmed = json!({"role": "assistant", "content": "It is so"});
        assert_eq!(body["messages"][1], trimmed, "no white space");
        assert_eq!(
            (&body["continue_final_message"], &body["add_generation_prompt"]),
            (&json!(true), &json!(false))
        );
        let body = sent(Prefill::Itself, &asked());
        assert_eq!(body["messages"][1], trimmed, "no white space");
        let body = sent(Prefill::No, &asked());
        assert_eq!(body["messages"][1]["content"], "It is so ");
        let words = body["messages"][2]["content"].as_str().unwrap();
        assert!(words.contains("<last-words>It is so</last-words>"), "{words}");
    }

    #[test]
    fn a_beginning_of_the_callers_is_gone_on_with() {
        let mut chat = asked();
        chat.messages.push(Message::new(Role::Assistant, "Well: "));
        assert_eq!(sent(Prefill::Itself, &chat)["messages"][1]["content"], "Well: It is so");
    }

    #[test]
    fn who_takes_a_beginning_is_known_by_kind_and_model() {
        let of = |kind: &str, model| Prefill::of(kind.parse().unwrap(), model);
        for (model, prefill) in [
            ("claude-sonnet-4-5-20250929", Prefill::Itself),
            ("claude-3-5-haiku-latest", Prefill::Itself),
            ("claude-opus-4-6", Prefill::No),
            ("claude-sonnet-5", Prefill::No),
            ("kimi-k2", Prefill::No),
        ] {
            assert_eq!(of("anthropic", model), Some(prefill), "{model}");
        }
        assert_eq!(of("vllm", "qwen3"), Some(Prefill::Asked));
        assert_eq!(of("openai", "gpt-4o"), Some(Prefill::No));
        assert_eq!(of("extractive", "extractive"), None);
    }

    #[test]
    fn what_cannot_be_right_is_not_gone_on_with() {
        let change = |change: fn(&mut Request)| {
            let mut chat = asked();
            change(&mut chat);
            possible(&chat)
        };
        assert!(change(|_| ()));
        assert!(!change(|chat| chat.choices = Some(2)));
        assert!(!change(|chat| chat.format = Some(Format::Json)));
        assert!(!change(|chat| chat.tool_choice = Some(ToolChoice::Required)));
        assert!(!change(|chat| chat.purpose = Purpose::Embed { dimensions: None }));
        assert!(!change(|chat| drop(chat.rest.insert("guided_json".into(), json!({})))));
    }
}
