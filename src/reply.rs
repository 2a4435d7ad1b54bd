//! An answer on its way back: always a stream of events.
//!
//! A whole answer is a short stream, and only the HTTP edge knows which of
//! the two the client wants. Whatever must happen when an answer ends hangs
//! on the reply and is told exactly once how it ended. No stage writes
//! `poll_next`; the combinators here are all there is.
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};

use tokio::time::Sleep;

use crate::{
    chat::{Completion, Event},
    error::{Error, Result},
};

mod pace;
mod rescue;

pub use pace::Pace;
pub use rescue::Rescue;

/// The events of a reply.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

/// An answer on its way back.
pub struct Reply {
    /// What is known before the first event.
    pub head: Head,
    events: Events,
}

/// What is known before the first event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The model that answers, in its provider's words.
    pub model: Arc<str>,
    /// The id that the provider gave the answer.
    pub id: Option<Arc<str>>,
    /// Where the answer comes from.
    pub origin: Origin,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A model.
    #[default]
    Model,
    /// The documents, with or without a model.
    Rag,
    /// An earlier, equal question.
    Cache,
    /// The gateway itself, because nobody else could.
    Fallback,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Reply {
    /// A reply whose events come from `events`.
    pub fn new(head: Head, events: impl Stream<Item = Result<Event>> + Send + 'static) -> Self {
        Self { head, events: Box::pin(events) }
    }

    /// A reply that is known already.
    pub fn whole(head: Head, completion: Completion) -> Self {
        Self::new(head, stream::iter(completion.into_events().into_iter().map(Ok)))
    }

    /// Waits for the first content, so that a failure before it is an `Err` of
    /// the call and may be retried; a failure after it is an `Err` in the stream.
    pub async fn primed(mut self) -> Result<Self> {
        let mut early = VecDeque::with_capacity(4);
        while let Some(event) = self.events.next().await.transpose()? {
            let content = event.is_content();
            early.push_back(event);
            if content {
                break;
            }
        }
        let events = Box::pin(Primed { early, rest: self.events });
        Ok(Self { head: self.head, events })
    }

    /// Lets `tap` watch the events go by, and tells it once how they ended.
    pub fn tap(self, tap: impl Tap) -> Self {
        self.with(|inner| Tapped { inner, tap: Some(tap) })
    }

    /// Keeps `guard` alive until the reply has been read or dropped.
    pub fn hold(self, guard: impl Send + 'static) -> Self {
        self.tap(Held { _guard: guard })
    }

    /// Lets `rewrite` change the events, hold them back, or stop the reply.
    pub fn rewrite(self, rewrite: impl Rewrite) -> Self {
        self.with(|inner| Rewritten { inner: Some(inner), rewrite, ready: VecDeque::new() })
    }

    /// Fails the reply, and drops its upstream, at the first event that `watch` objects to.
    pub fn guarded(self, watch: impl FnMut(&Event) -> Result<()> + Send + Unpin + 'static) -> Self {
        self.with(|inner| Guarded { inner: Some(inner), watch })
    }

    /// Fails the reply when it is silent for longer than `idle`, or, with `late`, when it is not over by `deadline`.
    pub fn timed(self, idle: Duration, deadline: Instant, late: Error) -> Self {
        self.with(|inner| Timed { inner, idle, deadline, late: Some(late), alarm: None, since: None })
    }

    /// When the reply has ended well, passes the end on only after `last`, and
    /// whatever events it adds before it. A failure of `last` fails the reply.
    pub fn then(self, last: impl Future<Output = Result<Vec<Event>>> + Send + 'static) -> Self {
        self.with(|inner| Then::new(inner, last.boxed(), false))
    }

    /// Passes the end on only after `last`, be it good or bad: as [`Self::then`], and an error waits for it, too.
    pub fn finally(self, last: impl Future<Output = Result<Vec<Event>>> + Send + 'static) -> Self {
        self.with(|inner| Then::new(inner, last.boxed(), true))
    }

    /// When the reply has ended well, passes the end on only after `last`.
    pub fn seal(self, last: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        self.then(last.map(|done| done.map(|()| Vec::new())))
    }

    /// Reads the reply to its end.
    pub async fn collect(mut self) -> Result<(Head, Completion)> {
        let mut whole = Completion::default();
        while let Some(event) = self.events.next().await {
            whole.push(&event?);
        }
        Ok((self.head, whole))
    }

    /// The head and the events.
    pub fn into_parts(self) -> (Head, Events) {
        (self.head, self.events)
    }

    fn with<T: Stream<Item = Result<Event>> + Send + 'static>(self, wrap: impl FnOnce(Events) -> T) -> Self {
        Self { head: self.head, events: Box::pin(wrap(self.events)) }
    }
}

/// Watches one reply: the only way in which a stage learns how an answer ended.
pub trait Tap: Send + 'static {
    /// An event goes by.
    fn event(&mut self, _event: &Event) {}
    /// The reply has ended. Heard exactly once. May run in `drop`: it does not
    /// await, block or panic.
    fn end(&mut self, end: End<'_>);
}

/// How a reply ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// Read to its end.
    Complete,
    /// Broken off by an error.
    Failed(&'a Error),
    /// Dropped by its reader.
    Cancelled,
}

impl End<'_> {
    /// The outcome in one word: `complete`, `cancelled`, or the error's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed(error) => error.facts().code,
            Self::Cancelled => "cancelled",
        }
    }

    /// The HTTP status that fits the end; 499 is what nginx calls a client that left.
    pub fn status(&self) -> u16 {
        match self {
            Self::Complete => 200,
            Self::Failed(error) => error.facts().status.as_u16(),
            Self::Cancelled => 499,
        }
    }
}

struct Held<G> {
    _guard: G,
}
impl<G: Send + 'static> Tap for Held<G> {
    fn end(&mut self, _: End<'_>) {}
}

struct Primed {
    early: VecDeque<Event>,
    rest: Events,
}

impl Stream for Primed {
    type Item = Result<Event>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.early.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None => self.rest.as_mut().poll_next(cx),
        }
    }
}

struct Tapped<T: Tap> {
    inner: Events,
    tap: Option<T>,
}

impl<T: Tap> Unpin for Tapped<T> {}

impl<T: Tap> Tapped<T> {
    fn finish(&mut self, end: End<'_>) {
        // Taken first: the tap is gone, and what it holds with it, before the end is passed on.
        if let Some(mut tap) = self.tap.take() {
            tap.end(end);
        }
    }
}

impl<T: Tap> Stream for Tapped<T> {
    type Item = Result<Event>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.inner.as_mut().poll_next(cx));
        match &item {
            Some(Ok(event)) => {
                if let Some(tap) = &mut self.tap {
                    tap.event(event);
                }
            }
            Some(Err(error)) => self.finish(End::Failed(error)),
            None => self.finish(End::Complete),
        }
        Poll::Ready(item)
    }
}

impl<T: Tap> Drop for Tapped<T> {
    fn drop(&mut self) {
        // Inner taps hear the end first, as they do when a reply is read to its end.
        self.inner = Box::pin(stream::empty());
        self.finish(End::Cancelled);
    }
}

/// Changes one reply as it goes by.
pub trait Rewrite: Send + Unpin + 'static {
    /// Passes on what may leave by now. `Stop` drops the upstream at once.
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Flow;
    /// The upstream has ended well: what was held back leaves.
    fn end(&mut self, _out: &mut VecDeque<Event>) {}
}

/// Whether a rewritten reply goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// What was passed on is the end of it.
    Stop,
}

struct Rewritten<R> {
    inner: Option<Events>,
    rewrite: R,
    ready: VecDeque<Event>,
}

impl<R: Rewrite> Stream for Rewritten<R> {
    type Item = Result<Event>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            match ready!(inner.as_mut().poll_next(cx)) {
                Some(Ok(event)) => {
                    if this.rewrite.event(event, &mut this.ready) == Flow::Stop {
                        this.inner = None;
                    }
                }
                Some(Err(error)) => {
                    this.inner = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.inner = None;
                    this.rewrite.end(&mut this.ready);
                }
            }
        }
    }
}

struct Guarded<W> {
    inner: Option<Events>,
    watch: W,
}

impl<W: FnMut(&Event) -> Result<()> + Unpin> Stream for Guarded<W> {
    type Item = Result<Event>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let item = ready!(inner.as_mut().poll_next(cx));
        if let Some(Ok(event)) = &item
            && let Err(error) = (this.watch)(event)
        {
            this.inner = None;
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(item)
    }
}

struct Timed {
    inner: Events,
    idle: Duration,
    deadline: Instant,
    late: Option<Error>,
    /// Made at the first silence: most whole replies never need it.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Since when the upstream is silent.
    since: Option<Instant>,
}

impl Stream for Timed {
    type Item = Result<Event>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Poll::Ready(item) = this.inner.as_mut().poll_next(cx) {
            this.since = None;
            return Poll::Ready(item);
        }
        let since = *this.since.get_or_insert_with(|| tokio::time::Instant::now().into_std());
        let until = (since + this.idle).min(this.deadline);
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        // The alarm is not set anew for every event, which would cost more than
        // the event: when it rings too early, it is set to the true end.
        loop {
            ready!(alarm.as_mut().poll(cx));
            if tokio::time::Instant::now().into_std() >= until {
                break;
            }
            alarm.as_mut().reset(until.into());
        }
        this.inner = Box::pin(stream::empty());
        let late = this.late.take().filter(|_| until == this.deadline);
        Poll::Ready(Some(Err(late.unwrap_or(Error::Timeout { phase: "idle" }))))
    }
}

struct Then {
    inner: Option<Events>,
    last: Option<BoxFuture<'static, Result<Vec<Event>>>>,
    ready: VecDeque<Event>,
    /// Whether a failure waits for `last`, too.
    always: bool,
    /// The failure that waits.
    failed: Option<Error>,
}

impl Then {
    fn new(inner: Events, last: BoxFuture<'static, Result<Vec<Event>>>, always: bool) -> Self {
        Self { inner: Some(inner), last: Some(last), ready: VecDeque::new(), always, failed: None }
    }
}

impl Stream for Then {
    type Item = Result<Event>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(inner) = &mut this.inner {
                match ready!(inner.as_mut().poll_next(cx)) {
                    Some(Err(error)) => {
                        this.inner = None;
                        if !this.always {
                            this.last = None;
                            return Poll::Ready(Some(Err(error)));
                        }
                        this.failed = Some(error);
                    }
                    Some(event) => return Poll::Ready(Some(event)),
                    None => this.inner = None,
                }
            } else if let Some(last) = &mut this.last {
                let done = ready!(last.as_mut().poll(cx));
                this.last = None;
                match (done, this.failed.take()) {
                    (Err(error), _) | (Ok(_), Some(error)) => return Poll::Ready(Some(Err(error))),
                    (Ok(events), None) => this.ready = events.into(),
                }
            } else {
                return Poll::Ready(None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
