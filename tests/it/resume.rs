//! A native stream whose reader lost the connection, and comes back.
use serde_json::{Value, json};

use crate::support::{Act, Frame, Gateway, Setup, Sse, Upstream, Wire, gateway::key, ms};

const TEXT: &str = "one two three\nfour five six";

fn prompt() -> Value {
    json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})
}

/// A stream that goes on while its reader is away.
async fn lasting(gateway: &Gateway) -> Sse {
    gateway.ask("POST", "/stream").header("x-sluice-resume", "1").json(&prompt()).stream().await
}

/// The rest after an event, as an `EventSource` asks for it.
async fn rest(gateway: &Gateway, last: &str) -> Sse {
    gateway.ask("GET", "/stream?prompt=Hi&mode=chat").header("last-event-id", last).stream().await
}

fn ids(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.id.as_deref().unwrap_or("none")).collect()
}

/// The text that a reader has put together.
fn text(frames: &[Frame]) -> String {
    let words =
        frames.iter().filter(|frame| frame.event.is_empty()).filter_map(|frame| frame.data.as_deref());
    words.filter(|word| *word != "[DONE]").collect()
}

/// Events up to the `count`th.
async fn some(stream: &mut Sse, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let Some(frame) = stream.next().await else { break };
        if frame.data.is_some() {
            frames.push(frame);
        }
    }
    frames
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_and_gone_on_with_is_whole_and_says_nothing_twice() {
    let upstream = Upstream::start(Act::say(TEXT).chunks_of(3).every(ms(2))).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let events = lasting(&gateway).await.rest().await.len();
    assert!(events > 10);
    for cut in 1..events {
        let asked = upstream.asked();
        let mut stream = lasting(&gateway).await;
        let mut frames = some(&mut stream, cut).await;
        drop(stream);
        let last = frames.last().unwrap().id.clone().unwrap();
        let mut on = rest(&gateway, &last).await;
        assert_eq!(on.head.status, 200);
        frames.extend(on.rest().await);
        assert_eq!(text(&frames), TEXT, "cut after {cut}");
        assert_eq!(frames.len(), events);
        assert_eq!(frames[0].event, "meta");
        assert_eq!(frames[events - 2].event, "usage");
        let mut unique = ids(&frames);
        unique.dedup();
        assert_eq!(unique.len(), events);
        assert_eq!(on.head.header("x-request-id").unwrap(), frames[0].json()["request_id"]);
        assert_eq!(upstream.asked(), asked + 1, "no second model call");
    }
}

#[tokio::test]
async fn a_stream_is_followed_while_it_runs_and_may_be_cut_again_and_again() {
    let upstream = Upstream::start(Act::say(TEXT).chunks_of(2).every(ms(40))).await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream = lasting(&gateway).await;
    let mut frames = some(&mut stream, 2).await;
    drop(stream);
    for _ in 0..4 {
        let last = frames.last().unwrap().id.clone().unwrap();
        let path = format!("/stream?last_event_id={last}");
        let mut on = gateway.ask("POST", &path).stream().await;
        frames.extend(some(&mut on, 2).await);
        assert_eq!(upstream.busy(), 1, "it still runs");
    }
    let last = frames.last().unwrap().id.clone().unwrap();
    frames.extend(rest(&gateway, &last).await.rest().await);
    assert_eq!(text(&frames), TEXT);
    assert_eq!(upstream.asked(), 1);
    assert!(upstream.last().gone.is_none());
    assert!(
        (gateway.metric("sluice_stream_resumes_total", &[("result", "resumed")]).await - 5.0).abs() < 0.1
    );
    // One of the call, and one of each time that it was gone on with.
    let records = gateway.audit(6).await;
    let (calls, rests): (Vec<_>, Vec<_>) = records.iter().partition(|record| record["replay_of"].is_null());
    assert_eq!((calls.len(), &calls[0]["outcome"], rests.len()), (1, &json!("complete"), 5));
}

#[tokio::test]
async fn an_event_source_that_forgot_to_close_is_told_to_stop() {
    let upstream = Upstream::answering().await;
    let gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let frames = gateway.stream("/stream", &prompt()).await.rest().await;
    let last = frames.last().unwrap();
    assert_eq!(last.data.as_deref(), Some("[DONE]"));
    let again = rest(&gateway, last.id.as_deref().unwrap()).await;
    assert_eq!(again.head.status, 204);
    // Who has not seen the end gets it, also of a stream that nobody asked to last.
    let end = rest(&gateway, frames[frames.len() - 2].id.as_deref().unwrap()).await.rest().await;
    assert_eq!(end.len(), 1);
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn an_id_that_leads_nowhere_is_not_a_new_question() {
    let upstream = Upstream::answering().await;
    let mut keys = vec![key("a", "sk-a"), key("b", "sk-b"), key("c", "sk-c")];
    keys[1]["tenant"] = "other".into();
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&json!({"auth": {"keys": keys}})).start().await;
    let frames = gateway.ask("POST", "/stream").bearer("sk-a").json(&prompt()).stream().await.rest().await;
    let own = frames[0].id.clone().unwrap();
    let stranger = own.replace(&own[..4], "AAAA");
    let (stream, _) = own.rsplit_once('-').unwrap();
    let (early, late) = (format!("{stream}-99"), format!("{stream}-01"));
    let ask = |who: &str, id: &str| {
        let ask = gateway.ask("GET", "/stream?prompt=Hi&mode=chat").bearer(who).header("last-event-id", id);
        ask.send()
    };
    let absent = ask("sk-a", &stranger).await.expect(404);
    assert_eq!(absent["type"], "urn:sluice:problem:stream_not_found");
    for (who, id) in [("sk-b", &own), ("sk-c", &own), ("sk-a", &early), ("sk-a", &late)] {
        let mut other = ask(who, id).await.expect(404);
        other["instance"] = absent["instance"].clone();
        assert_eq!(other, absent, "somebody else's looks like one that is not there");
    }
    for id in ["7", "x", "\u{e9}", "-", "0000000000000000-", "'; drop"] {
        ask("sk-a", id).await.expect(404);
    }
    ask("sk-wrong", &own).await.expect(401);
    assert_eq!(ask("sk-a", &own).await.status, 200);
    assert_eq!(upstream.asked(), 1);
    // An empty one is none.
    assert_eq!(ask("sk-a", "").await.status, 200);
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test]
async fn a_stream_is_forgotten_after_its_time() {
    let upstream = Upstream::answering().await;
    let brief = json!({"resume": {"keep": "100ms"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&brief).start().await;
    let frames = gateway.stream("/stream", &prompt()).await.rest().await;
    tokio::time::sleep(ms(150)).await;
    assert_eq!(rest(&gateway, frames[0].id.as_deref().unwrap()).await.head.status, 404);
}

#[tokio::test]
async fn a_stream_that_was_not_asked_to_last_ends_with_its_reader_and_says_so() {
    let upstream = Upstream::start(Act::default().hang_after(3)).await;
    let patient = json!({"timeouts": {"first_token": "20s", "idle": "20s", "total": "30s"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&patient).start().await;
    let mut stream = gateway.stream("/stream", &prompt()).await;
    let frames = some(&mut stream, 2).await;
    drop(stream);
    upstream.gone(ms(1000)).await;
    let messages = rest(&gateway, frames[0].id.as_deref().unwrap()).await.messages().await;
    let [text @ .., error, done] = messages.as_slice() else { panic!("{messages:?}") };
    assert!(!text.is_empty() && error.starts_with("[ERROR: ") && done == "[DONE]", "{messages:?}");
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn a_stream_that_nobody_comes_back_for_ends_after_its_grace() {
    let upstream = Upstream::start(Act::default().hang_after(3)).await;
    let brief = json!({
        "resume": {"grace": "300ms", "always": true},
        "timeouts": {"first_token": "20s", "idle": "20s", "total": "30s"},
    });
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&brief).start().await;
    let mut stream = gateway.stream("/stream", &prompt()).await;
    let mut frames = some(&mut stream, 1).await;
    drop(stream);
    // Back in time, and away again.
    tokio::time::sleep(ms(100)).await;
    let mut on = rest(&gateway, frames[0].id.as_deref().unwrap()).await;
    frames.extend(some(&mut on, 1).await);
    tokio::time::sleep(ms(500)).await;
    assert!(upstream.last().gone.is_none(), "somebody reads");
    drop(on);
    upstream.gone(ms(5000)).await;
    let messages = rest(&gateway, frames[1].id.as_deref().unwrap()).await.messages().await;
    assert_eq!(messages.last().unwrap(), "[DONE]");
    assert!(messages.iter().any(|message| message.starts_with("[ERROR: ")), "{messages:?}");
    let records = gateway.audit(3).await;
    let call = records.iter().find(|record| record["replay_of"].is_null()).unwrap();
    assert_eq!(call["outcome"], "cancelled");
}

#[tokio::test]
async fn a_long_stream_keeps_its_end_and_a_reader_who_is_not_too_far_behind_goes_on() {
    let words = "0123456789".repeat(200);
    let upstream = Upstream::start(Act::say(&words).chunks_of(10)).await;
    let small = json!({"resume": {"max_stream": "4KiB"}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&small).start().await;
    for asked in [false, true] {
        let frames = match asked {
            true => lasting(&gateway).await.rest().await,
            false => gateway.stream("/stream", &prompt()).await.rest().await,
        };
        assert_eq!(text(&frames), words);
        assert_eq!(rest(&gateway, frames[0].id.as_deref().unwrap()).await.head.status, 404);
        let near = frames.len() - 10;
        let end = rest(&gateway, frames[near - 1].id.as_deref().unwrap()).await.rest().await;
        assert_eq!(end, frames[near..]);
    }
}

#[tokio::test]
async fn switched_off_nothing_is_kept() {
    let upstream = Upstream::answering().await;
    let off = json!({"resume": {"enabled": false}});
    let gateway = Setup::one(Wire::OpenAi, &upstream).set(&off).start().await;
    let frames = lasting(&gateway).await.rest().await;
    assert!(frames.iter().all(|frame| frame.id.is_some()));
    assert_eq!(rest(&gateway, frames[0].id.as_deref().unwrap()).await.head.status, 404);
    assert!((gateway.metric("sluice_stream_resume_size_bytes", &[]).await - 0.0).abs() < 0.1);
}
