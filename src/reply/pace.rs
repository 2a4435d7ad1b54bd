//! A reply that is too slow to wait for.
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::time::Instant;

use super::{Events, Reply};
use crate::{
    chat::Event,
    error::{Error, Result},
};

/// The slowest that a stream may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Characters a second.
    pub floor: u32,
    /// Over which time.
    pub window: Duration,
}

impl Reply {
    /// Fails the reply when fewer characters come than `pace` asks for. Only
    /// the time counts in which the upstream is waited for: a reader who takes
    /// his time says nothing about it.
    pub fn paced(self, pace: Pace) -> Self {
        let (waited, come) = (Duration::ZERO, 0);
        self.with(|inner| Paced { inner, pace, since: None, waited, come })
    }
}

struct Paced {
    inner: Events,
    pace: Pace,
    /// Since when the upstream is waited for.
    since: Option<Instant>,
    /// How long it was waited for in this window.
    waited: Duration,
    /// How many characters have come in it.
    come: u64,
}

impl Stream for Paced {
    type Item = Result<Event>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Poll::Ready(item) = this.inner.as_mut().poll_next(cx) else {
            this.since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        if let Some(Ok(event)) = &item {
            this.come += length(event);
        }
        if let Some(since) = this.since.take() {
            this.waited += since.elapsed();
            if this.waited >= this.pace.window && matches!(item, Some(Ok(_))) {
                let due = this.waited.as_secs_f64() * f64::from(this.pace.floor);
                if (this.come as f64) < due {
                    this.inner = Box::pin(stream::empty());
                    return Poll::Ready(Some(Err(Error::Timeout { phase: "rate" })));
                }
                (this.waited, this.come) = (Duration::ZERO, 0);
            }
        }
        Poll::Ready(item)
    }
}

/// How many characters an event brings.
fn length(event: &Event) -> u64 {
    let text = match event {
        Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Reasoning { text, .. } => text,
        Event::ToolCall { arguments, .. } => arguments,
        _ => return 0,
    };
    text.chars().count() as u64
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::reply::Head;

    const PACE: Pace = Pace { floor: 10, window: Duration::from_secs(4) };

    /// How many of twenty events come, a second each, of so many characters; the reader takes his time, too.
    async fn come(characters: usize, reader: Duration) -> (usize, bool) {
        let event = move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Event::text("é".repeat(characters)))
        };
        let reply = Reply::new(Head::default(), stream::iter(0..20).then(event)).paced(PACE);
        let (_, mut events) = reply.into_parts();
        let mut count = 0;
        while let Some(event) = events.next().await {
            if event.is_err() {
                return (count, false);
            }
            count += 1;
            tokio::time::sleep(reader).await;
        }
        (count, true)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_below_the_pace_fails_after_a_window() {
        assert_eq!(come(9, Duration::ZERO).await, (3, false));
        assert_eq!(come(10, Duration::ZERO).await, (20, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_a_slow_stream() {
        assert_eq!(come(10, Duration::from_secs(30)).await, (20, true));
    }
}
