//! What holds for every stream of a compatible API, whatever the model does.
use proptest::prelude::*;
use serde_json::Value;

use super::{anthropic, openai, sse::written};
use crate::{
    chat::{Completion, Event, Finish, Request, Usage},
    error::Error,
    reply::Head,
};

fn event() -> impl Strategy<Value = Event> {
    let text = || "[a-z\"\\\\\n\u{2028}é€\u{1F600}]{0,4}";
    let choice = || 0u32..3;
    let finish = prop_oneof![
        Just(Finish::Stop),
        Just(Finish::Length),
        Just(Finish::ToolCalls),
        Just(Finish::Filtered),
        text().prop_map(|text| Finish::StopSequence(Some(text))),
    ];
    prop_oneof![
        (choice(), text()).prop_map(|(choice, text)| Event::Text { choice, text }),
        (choice(), text()).prop_map(|(choice, text)| Event::Refusal { choice, text }),
        (choice(), text(), prop::option::of(text()), prop::option::of(text())).prop_map(
            |(choice, text, signature, redacted)| Event::Reasoning { choice, text, signature, redacted }
        ),
        (choice(), 0u32..3, prop::option::of(text()), prop::option::of(text()), text()).prop_map(
            |(choice, index, id, name, arguments)| Event::ToolCall { choice, index, id, name, arguments }
        ),
        (0u64..9, 0u64..9)
            .prop_map(|(input, output)| { Event::Usage(Usage { input, output, ..Usage::default() }) }),
        (choice(), finish).prop_map(|(choice, reason)| Event::Finish { choice, reason }),
    ]
}

/// The data of the events, which must all be JSON.
fn data(stream: &str) -> Vec<Value> {
    assert!(stream.ends_with("\n\n"));
    let line = |event: &str| {
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
        assert!(event.lines().count() <= 2, "an event has a name and one line of data: {event}");
        data
    };
    let lines = stream.split_terminator("\n\n").map(line).filter(|line| line != "[DONE]");
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_a_client_puts_together_is_what_the_model_said(
        events in prop::collection::vec(event(), 0..20),
        broken in any::<bool>(),
    ) {
        let error = Error::Timeout { phase: "idle" };
        let failed = broken.then_some(&error);
        let (head, chat) = (Head::default(), Request { model: "m".into(), ..Request::default() });
        let mut done = Completion::default();
        events.iter().for_each(|event| done.push(event));
        let first = done.choices.first().cloned().unwrap_or_default();

        let chunks = data(&written(openai::chat_stream::ChatStream::new(&head, &chat, true, "r", 7), events.clone(), failed));
        let mut text = String::new();
        for chunk in &chunks {
            let choice = &chunk["choices"][0];
            if choice["index"] == 0 {
                text += choice["delta"]["content"].as_str().unwrap_or_default();
            }
        }
        prop_assert_eq!(text, first.text.as_str());

        // Blocks: each begun once, in order, and ended once.
        let told = data(&written(anthropic::stream::MessageStream::new(&head, &chat, "r"), events.clone(), failed));
        let indices = |kind: &str| -> Vec<_> {
            told.iter().filter(|event| event["type"] == kind).map(|event| event["index"].as_u64().unwrap()).collect()
        };
        let (begun, ended) = (indices("content_block_start"), indices("content_block_stop"));
        prop_assert_eq!(&begun, &(0..begun.len() as u64).collect::<Vec<_>>());
        prop_assert!(ended == begun || broken && begun.starts_with(&ended));

        // The last event has the whole answer.
        let told = data(&written(openai::responses::stream::ResponseStream::new(&head, &chat, "r", 7), events, failed));
        let numbers: Vec<_> = told.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        prop_assert_eq!(&numbers, &(0..numbers.len() as u64).collect::<Vec<_>>());
        let output = &told.last().unwrap()["response"]["output"];
        let parts = output.as_array().unwrap().iter().flat_map(|item| item["content"].as_array().into_iter().flatten());
        let said: String = parts.filter_map(|part| part["text"].as_str()).collect();
        prop_assert_eq!(said, first.text);
    }
}
