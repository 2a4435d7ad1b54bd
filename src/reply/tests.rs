//! What must hold of replies, whatever happens to them.
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::chat::Finish;

/// How an upstream ends after its events.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Close {
    Well,
    Broken,
    Silent,
}

/// What a stage does with a reply.
#[derive(Clone, Copy, Debug)]
enum Wrap {
    Tap,
    Hold,
    Keep,
    Timed,
    Then,
    Finally,
    Seal,
    SealBroken,
    Primed,
    StopAt(usize),
    Rescued(bool),
    Paced,
}

#[derive(Default)]
struct Heard {
    complete: AtomicUsize,
    failed: AtomicUsize,
    cancelled: AtomicUsize,
    released: AtomicUsize,
}

struct Listener(Arc<Heard>);

impl Tap for Listener {
    fn end(&mut self, end: End<'_>) {
        let which = match end {
            End::Complete => &self.0.complete,
            End::Failed(_) => &self.0.failed,
            End::Cancelled => &self.0.cancelled,
        };
        which.fetch_add(1, Ordering::Relaxed);
    }
}

struct Guard(Arc<Heard>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.released.fetch_add(1, Ordering::Relaxed);
    }
}

/// Changes nothing; with a number, stops after so many events.
struct Same(Option<usize>);

impl Rewrite for Same {
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow {
        out.push_back(event);
        let Some(left) = &mut self.0 else { return Flow::Continue };
        *left = left.saturating_sub(1);
        if *left == 0 { Flow::Stop } else { Flow::Continue }
    }
}

/// Goes on with another answer, if there is one left.
struct Spare(bool);

impl Rescue for Spare {
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Result<()> {
        out.push_back(event);
        Ok(())
    }
    fn end(&mut self, _: &mut VecDeque<Event>) -> Result<()> {
        Ok(())
    }
    fn rescue(self, error: Error) -> BoxFuture<'static, Result<(Self, Events)>> {
        let spare = upstream(vec![Event::text("spare"), Event::finish(Finish::Stop)], Close::Well);
        Box::pin(async move { if self.0 { Ok((Self(false), spare.into_parts().1)) } else { Err(error) } })
    }
}

fn upstream(events: Vec<Event>, close: Close) -> Reply {
    let last: Events = match close {
        Close::Well => Box::pin(stream::empty()),
        Close::Broken => Box::pin(stream::iter([Err(Error::broken("cut"))])),
        Close::Silent => Box::pin(stream::pending()),
    };
    Reply::new(Head::default(), stream::iter(events.into_iter().map(Ok)).chain(last))
}

/// Reads a reply until it ends, is silent, or `most` events were read. Tells
/// what was read, and whether it was read to its end.
fn read(reply: Reply, most: usize) -> (Vec<Event>, bool) {
    let (_, mut events) = reply.into_parts();
    let mut read = Vec::new();
    while read.len() < most {
        match events.next().now_or_never() {
            Some(Some(Ok(event))) => read.push(event),
            Some(Some(Err(_)) | None) => return (read, true),
            None => break,
        }
    }
    (read, false)
}

fn texts() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec("[a-z é]{0,6}".prop_map(Event::text), 0..6)
        .prop_map(|texts| texts.into_iter().chain([Event::finish(Finish::Stop)]).collect())
}

fn close() -> impl Strategy<Value = Close> {
    prop_oneof![Just(Close::Well), Just(Close::Broken), Just(Close::Silent)]
}

fn wraps() -> impl Strategy<Value = Vec<Wrap>> {
    let wrap = prop_oneof![
        Just(Wrap::Tap),
        Just(Wrap::Tap),
        Just(Wrap::Hold),
        Just(Wrap::Keep),
        Just(Wrap::Timed),
        Just(Wrap::Then),
        Just(Wrap::Finally),
        Just(Wrap::Seal),
        Just(Wrap::SealBroken),
        Just(Wrap::Primed),
        (1_usize..4).prop_map(Wrap::StopAt),
        proptest::bool::ANY.prop_map(Wrap::Rescued),
        Just(Wrap::Paced),
    ];
    proptest::collection::vec(wrap, 1..8)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #[test]
    fn every_tap_hears_exactly_one_end(
        events in texts(), close in close(), wraps in wraps(), most in 0_usize..9,
    ) {
        let runtime = runtime();
        let _entered = runtime.enter();
        let later = Instant::now() + Duration::from_secs(60);
        let (mut taps, mut holds) = (Vec::new(), Vec::new());
        let mut reply = Some(upstream(events, close));
        for wrap in &wraps {
            let Some(inner) = reply.take() else { break };
            let heard = Arc::new(Heard::default());
            reply = match wrap {
                Wrap::Tap => {
                    taps.push(heard.clone());
                    Some(inner.tap(Listener(heard)))
                }
                Wrap::Hold => {
                    holds.push(heard.clone());
                    Some(inner.hold(Guard(heard)))
                }
                Wrap::Keep => Some(inner.rewrite(Same(None))),
                Wrap::Rescued(spare) => Some(inner.rescued(Spare(*spare))),
                Wrap::Paced => Some(inner.paced(Pace { floor: 1, window: Duration::from_secs(1) })),
                Wrap::StopAt(most) => Some(inner.rewrite(Same(Some(*most)))),
                Wrap::Timed => Some(inner.timed(Duration::from_secs(60), later, Error::Timeout { phase: "total" })),
                Wrap::Then => Some(inner.then(async { Ok(vec![Event::text("last")]) })),
                Wrap::Finally => Some(inner.finally(async { Ok(vec![Event::text("last")]) })),
                Wrap::Seal => Some(inner.seal(async { Ok(()) })),
                Wrap::SealBroken => Some(inner.seal(async { Err(Error::Draining) })),
                // Silent or broken before the first content: the call itself fails or is dropped.
                Wrap::Primed => inner.primed().now_or_never().and_then(Result::ok),
            };
        }
        if let Some(reply) = reply {
            read(reply, most);
        }
        for heard in &taps {
            let [complete, failed, cancelled] =
                [&heard.complete, &heard.failed, &heard.cancelled].map(|count| count.load(Ordering::Relaxed));
            prop_assert_eq!(complete + failed + cancelled, 1, "of {:?}", &wraps);
        }
        for heard in &holds {
            prop_assert_eq!(heard.released.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn a_tap_hears_how_it_ended(events in texts(), close in close(), most in 0_usize..9) {
        let heard = Arc::new(Heard::default());
        let (_, over) = read(upstream(events, close).tap(Listener(heard.clone())), most);
        let expected = match (over, close) {
            (true, Close::Well) => &heard.complete,
            (true, _) => &heard.failed,
            (false, _) => &heard.cancelled,
        };
        prop_assert_eq!(expected.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_changes_nothing_changes_nothing(events in texts(), close in close(), most in 0_usize..9) {
        let runtime = runtime();
        let _entered = runtime.enter();
        let later = Instant::now() + Duration::from_secs(60);
        let plain = read(upstream(events.clone(), close), most);
        let same = upstream(events.clone(), close)
            .rewrite(Same(None))
            .rescued(Spare(false))
            .timed(Duration::from_secs(60), later, Error::Timeout { phase: "total" })
            .hold(())
            .rewrite(Same(None));
        prop_assert_eq!(&read(same, most), &plain);
        if let Some(Ok(primed)) = upstream(events, close).primed().now_or_never() {
            prop_assert_eq!(&read(primed, most), &plain);
        }
    }

    #[test]
    fn a_text_is_the_same_however_it_was_cut(text in "[a-zé ]{1,20}", cuts in proptest::collection::vec(0_usize..20, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| text.floor_char_boundary(cut)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| Event::text(&text[cut[0]..cut[1]]));
        let events = pieces.chain([Event::finish(Finish::Stop)]).collect();
        let collected = upstream(events, Close::Well).rewrite(Same(None)).collect().now_or_never();
        let (_, completion) = collected.unwrap().unwrap();
        prop_assert_eq!(completion.text(), text);
    }
}

#[test]
fn inner_taps_hear_the_end_before_outer_ones() {
    struct Named(&'static str, Arc<parking_lot::Mutex<Vec<&'static str>>>);
    impl Tap for Named {
        fn end(&mut self, _: End<'_>) {
            self.1.lock().push(self.0);
        }
    }
    for most in [0, 1, 9] {
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let reply = upstream(vec![Event::text("a")], Close::Well);
        read(reply.tap(Named("inner", order.clone())).tap(Named("outer", order.clone())), most);
        assert_eq!(*order.lock(), ["inner", "outer"]);
    }
}

#[tokio::test]
async fn the_end_waits_for_the_last_be_it_good_or_bad() {
    for (close, good) in [(Close::Well, true), (Close::Broken, false)] {
        let (tell, told) = tokio::sync::oneshot::channel();
        let reply = upstream(vec![Event::text("a")], close).finally(async {
            let _ = told.await;
            Ok(vec![Event::text("last")])
        });
        let (_, mut events) = reply.into_parts();
        assert!(events.next().await.unwrap().is_ok());
        assert!(events.next().now_or_never().is_none(), "told before the last: {close:?}");
        tell.send(()).unwrap();
        assert_eq!(events.next().await.unwrap().is_ok(), good);
        assert!(events.next().await.is_none());
        // What the last itself says against it counts.
        let refused = upstream(Vec::new(), close).finally(async { Err(Error::Draining) });
        assert!(matches!(refused.collect().await, Err(Error::Draining)));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_the_deadline_end_a_reply() {
    let now = tokio::time::Instant::now().into_std();
    for (idle, total, expected) in [(2, 60, "idle"), (60, 2, "total")] {
        let reply = upstream(vec![Event::text("a")], Close::Silent);
        let reply = reply.timed(
            Duration::from_secs(idle),
            now + Duration::from_secs(total),
            Error::Timeout { phase: "total" },
        );
        let error = reply.collect().await.unwrap_err();
        assert!(matches!(error, Error::Timeout { phase } if phase == expected), "{error:?}");
    }
}
