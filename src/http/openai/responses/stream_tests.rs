use serde_json::{Value, json};

use super::*;
use crate::http::sse::written;

/// The events' data. Each repeats its name, and they are numbered.
fn told(events: Vec<Event>, failed: Option<&Error>) -> Vec<Value> {
    let chat = Request { model: "m".into(), ..Request::default() };
    let text = written(ResponseStream::new(&Head::default(), &chat, "r-1", 7), events, failed);
    let read = |(number, event): (usize, &str)| {
        let (name, data) =
            event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
        data
    };
    text.split_terminator("\n\n").enumerate().map(read).collect()
}

fn names(told: &[Value]) -> Vec<String> {
    let name = |event: &Value| {
        let index = event["output_index"].as_u64().map(|index| format!(" {index}")).unwrap_or_default();
        event["type"].as_str().unwrap().trim_start_matches("response.").to_owned() + &index
    };
    told.iter().map(name).collect()
}

fn call(index: u32, id: Option<&str>, arguments: &str) -> Event {
    let (id, name) = (id.map(Into::into), id.map(|_| "f".into()));
    Event::ToolCall { choice: 0, index, id, name, arguments: arguments.into() }
}

fn thought(text: &str, signature: Option<&str>) -> Event {
    Event::Reasoning { choice: 0, text: text.into(), signature: signature.map(Into::into), redacted: None }
}

#[test]
fn a_text_goes_out_event_by_event() {
    let usage = Event::Usage(chat::Usage { input: 3, output: 5, ..chat::Usage::default() });
    let told = told(vec![Event::text("a"), Event::text("b"), Event::finish(Finish::Stop), usage], None);
    assert_eq!(
        names(&told),
        [
            "created",
            "in_progress",
            "output_item.added 0",
            "content_part.added 0",
            "output_text.delta 0",
            "output_text.delta 0",
            "output_text.done 0",
            "content_part.done 0",
            "output_item.done 0",
            "completed",
        ]
    );
    assert_eq!(told[0]["response"]["status"], "in_progress");
    assert_eq!(told[0]["response"]["usage"], Value::Null);
    assert_eq!(
        told[2]["item"],
        json!({"id": "msg_r1_0", "type": "message", "status": "in_progress", "role": "assistant", "content": []})
    );
    assert_eq!(
        told[3]["part"],
        json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
    );
    assert_eq!(
        told[4],
        json!({"type": "response.output_text.delta", "sequence_number": 4, "item_id": "msg_r1_0",
            "output_index": 0, "content_index": 0, "delta": "a", "logprobs": []})
    );
    assert_eq!(told[6]["text"], "ab");
    assert_eq!(told[7]["part"]["text"], "ab");
    let response = &told[9]["response"];
    assert_eq!((&response["status"], &response["output"][0]), (&json!("completed"), &told[8]["item"]));
    assert_eq!((&response["usage"]["total_tokens"], &response["tools"]), (&json!(8), &json!([])));
}

#[test]
fn items_follow_one_another_in_order() {
    let refusal = Event::Refusal { choice: 0, text: "no".into() };
    let redacted =
        Event::Reasoning { choice: 0, text: String::new(), signature: None, redacted: Some("opaque".into()) };
    let events = vec![
        thought("hm", None),
        thought("", Some("sig")),
        redacted,
        Event::text("a"),
        refusal,
        call(0, Some("x"), ""),
        call(1, Some("y"), "{}"),
        call(0, None, "{}"),
        Event::finish(Finish::Length),
    ];
    let told = told(events, None);
    assert_eq!(
        names(&told)[2..],
        [
            "output_item.added 0",
            "reasoning_summary_part.added 0",
            "reasoning_summary_text.delta 0",
            "reasoning_summary_text.done 0",
            "reasoning_summary_part.done 0",
            "output_item.done 0",
            "output_item.added 1",
            "output_item.done 1",
            "output_item.added 2",
            "content_part.added 2",
            "output_text.delta 2",
            "output_text.done 2",
            "content_part.done 2",
            "content_part.added 2",
            "refusal.delta 2",
            "refusal.done 2",
            "content_part.done 2",
            "output_item.done 2",
            "output_item.added 3",
            "function_call_arguments.done 3",
            "output_item.done 3",
            "output_item.added 4",
            "function_call_arguments.delta 4",
            "function_call_arguments.delta 3",
            "function_call_arguments.done 4",
            "output_item.done 4",
            "incomplete",
        ]
    );
    let output = &told.last().unwrap()["response"]["output"];
    assert_eq!(
        (&output[0]["encrypted_content"], &output[1]["encrypted_content"]),
        (&json!("sig"), &json!("opaque"))
    );
    assert_eq!((&output[3]["arguments"], &output[4]["arguments"]), (&json!("{}"), &json!("{}")));
    assert_eq!((&output[3]["call_id"], &output[3]["id"]), (&json!("x"), &json!("fc_r1_3")));
}

#[test]
fn a_broken_stream_says_so() {
    let told = told(vec![Event::text("a")], Some(&Error::Timeout { phase: "idle" }));
    let [.., error, failed] = told.as_slice() else { panic!("two events at the end") };
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("server_error"), &json!("the model did not answer in time"))
    );
    assert_eq!(
        (&failed["type"], &failed["response"]["status"], &failed["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("failed"), &json!("server_error"))
    );
}
