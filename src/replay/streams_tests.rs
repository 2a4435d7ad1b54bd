use proptest::prelude::*;

use super::*;
use crate::settings::{Size, Span};

fn streams(settings: &Settings) -> Arc<Streams> {
    Arc::new(Streams::new(settings, Root::new(None), &Metrics::new().unwrap(), None, TaskTracker::new()))
}

fn caller() -> Caller {
    Caller::named("k", "t")
}

#[test]
fn a_stream_is_its_callers_alone() {
    let streams = streams(&Settings::default());
    let recorder = streams.begin(&caller(), &"r".into(), false, String::new);
    let id = recorder.stream.id;
    assert!(streams.find(&caller(), id).is_some());
    for other in [Caller::named("k2", "t"), Caller::named("k", "t2")] {
        assert!(streams.find(&other, id).is_none());
    }
    assert!(streams.find(&caller(), Id::random()).is_none());
}

#[tokio::test]
async fn what_was_said_to_a_person_is_forgotten_and_read_to_its_end_by_who_reads() {
    let streams = streams(&Settings::default());
    let anna = Caller { user: Some("anna".into()), ..caller() };
    let recorder = streams.begin(&anna, &"r".into(), false, String::new);
    let (id, mut reader) = (recorder.stream.id, recorder.stream.recording.read(0));
    recorder.append(b"data: x\n\n");
    streams.erase(|tenant, user| (tenant, user) == ("t", "bob")).await.unwrap();
    assert!(streams.find(&anna, id).is_some());
    streams.erase(|tenant, user| (tenant, user) == ("t", "anna")).await.unwrap();
    assert!(streams.find(&anna, id).is_none());
    let piece = std::future::poll_fn(|cx| reader.poll(cx)).await;
    assert!(matches!(piece, crate::replay::recording::Read::Piece(piece) if *piece == *b"data: x\n\n"));
    drop((recorder, reader));
    assert_eq!(streams.budget.used(), 0);
}

#[test]
fn a_stream_is_forgotten_some_time_after_its_end() {
    let streams = streams(&Settings { keep: Span::millis(0), ..Settings::default() });
    let recorder = streams.begin(&caller(), &"r".into(), false, String::new);
    let id = recorder.stream.id;
    recorder.append(b"data: x\n\n");
    assert!(streams.find(&caller(), id).is_some(), "it still runs");
    drop(recorder);
    assert!(streams.find(&caller(), id).is_none());
    assert_eq!(streams.budget.used(), 0);
}

#[test]
fn many_streams_stay_within_their_bound() {
    let max = 64 << 10;
    let streams = streams(&Settings { max_bytes: Size(max), ..Settings::default() });
    let mut last = Id::random();
    for _ in 0..2000 {
        let recorder = streams.begin(&caller(), &"r".into(), false, String::new);
        (0..20).for_each(|_| recorder.append(b"data: some words\n\n"));
        last = recorder.stream.id;
    }
    assert!(streams.budget.used() <= max, "{}", streams.budget.used());
    assert!(streams.known.lock().streams.len() <= max / ENTRY);
    assert!(streams.find(&caller(), last).is_some(), "the newest are kept");
}

#[test]
fn a_tenant_loses_no_stream_to_another() {
    let max = 256 << 10;
    let streams = streams(&Settings { max_bytes: Size(max), ..Settings::default() });
    let say = |tenant: &str, events: usize| {
        let recorder = streams.begin(&Caller::named("k", tenant), &"r".into(), false, String::new);
        (0..events).for_each(|_| recorder.append(&[b"data: ", &[b'x'; 1000][..], b"\n\n"].concat()));
        recorder
    };
    let (small, running) = (say("small", 60).stream.id, say("small", 40));
    for _ in 0..40 {
        say("large", 100);
    }
    let caller = Caller::named("k", "small");
    let kept = streams.find(&caller, small).map(|stream| stream.recording.first());
    assert_eq!(kept, Some(0), "what has ended is there in full");
    assert_eq!(running.stream.recording.first(), 0, "and so is what runs");
    assert!(streams.budget.used() <= max + (101 << 10), "{}", streams.budget.used());
    // Alone it may have all.
    drop(running);
    let last = say("large", 100).stream.id;
    assert!(streams.find(&Caller::named("k", "large"), last).is_some());
}

proptest! {
    #[test]
    fn an_id_is_read_as_it_was_written(event in 0u64..1_000_000_000_000) {
        let id = EventId { stream: Id::random(), event };
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn nothing_else_is_an_id(text in "\\PC{0,40}") {
        if let Ok(id) = text.parse::<EventId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn what_looks_like_an_id_is_read_or_refused(text in "[A-Za-z0-9_-]{22,26}-[0-9]{0,14}") {
        if let Ok(id) = text.parse::<EventId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
