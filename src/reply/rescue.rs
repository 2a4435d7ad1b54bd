//! A reply that goes on with another one where it breaks off.
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, future::BoxFuture};

use super::{Events, Reply};
use crate::{
    chat::Event,
    error::{Error, Result},
};

/// Stands by while an answer goes by, and finds another where it breaks off.
pub trait Rescue: Send + Unpin + Sized + 'static {
    /// An event goes by. `Err`: the answer breaks off here.
    fn event(&mut self, event: Event, out: &mut VecDeque<Event>) -> Result<()>;
    /// The answer has ended well. `Err`: it has not.
    fn end(&mut self, out: &mut VecDeque<Event>) -> Result<()>;
    /// The answer has broken off and is gone. Gives who stands by from now on
    /// and the events that follow, or the error that the reply ends with.
    fn rescue(self, error: Error) -> BoxFuture<'static, Result<(Self, Events)>>;
}

impl Reply {
    /// Lets `rescue` stand by for the case that the reply breaks off.
    pub fn rescued(self, rescue: impl Rescue) -> Self {
        self.with(|inner| Rescued { state: State::Reading(inner, rescue), ready: VecDeque::new() })
    }
}

struct Rescued<R> {
    state: State<R>,
    ready: VecDeque<Event>,
}

enum State<R> {
    Reading(Events, R),
    Rescuing(BoxFuture<'static, Result<(R, Events)>>),
    Over,
}

impl<R: Rescue> Rescued<R> {
    /// The answer breaks off: it is let go, so that whoever watched it has heard its end.
    fn broken(&mut self, error: Error) {
        if let State::Reading(inner, rescue) = std::mem::replace(&mut self.state, State::Over) {
            drop(inner);
            self.state = State::Rescuing(rescue.rescue(error));
        }
    }
}

impl<R: Rescue> Stream for Rescued<R> {
    type Item = Result<Event>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut this.state {
                State::Over => return Poll::Ready(None),
                State::Reading(inner, rescue) => match ready!(inner.as_mut().poll_next(cx)) {
                    Some(Ok(event)) => {
                        if let Err(error) = rescue.event(event, &mut this.ready) {
                            this.broken(error);
                        }
                    }
                    Some(Err(error)) => this.broken(error),
                    None => match rescue.end(&mut this.ready) {
                        Ok(()) => this.state = State::Over,
                        Err(error) => this.broken(error),
                    },
                },
                State::Rescuing(rescuing) => match ready!(rescuing.as_mut().poll(cx)) {
                    Ok((rescue, events)) => this.state = State::Reading(events, rescue),
                    Err(error) => {
                        this.state = State::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
            }
        }
    }
}
