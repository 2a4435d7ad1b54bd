//! Answers that are given once more without asking a model again.
//!
//! [`replies`] keeps whole replies for requests that are repeated with the same
//! `Idempotency-Key`; [`streams`] keeps what streams have said for readers who
//! lost their connection. Both rest on a [`recording`]: what an answer has
//! said, written by one, read by any number. Both are in memory, and besides
//! where they outlive the process or are shared: [`shelf`] is the database,
//! `claims` and `mirror` are Redis, and `later` is what waits for it. What is there is [`sealed`].
mod claims;
mod kept;
mod known;
mod later;
mod mirror;
pub mod recording;
pub mod replies;
pub mod room;
pub mod sealed;
pub mod settings;
mod shares;
pub mod shelf;
pub mod streams;

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{replies::Replies, streams::Streams};

/// All of it, as the edge uses it. Cheap to clone; lasts as long as the process.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Replies to requests with an `Idempotency-Key`; absent: such keys are not heeded.
    pub replies: Option<Arc<Replies>>,
    /// What streams have said; absent: nothing is kept.
    pub streams: Option<Arc<Streams>>,
    /// How long a stream goes on while nobody reads it.
    pub grace: Duration,
    /// Answers that go on although their reader left: a process that ends waits for them.
    pub tasks: TaskTracker,
    /// When this is cancelled they are cut off.
    pub cut: CancellationToken,
}

impl Replay {
    /// Lets an answer go on by itself. Cut off, it is dropped at once, so that its call still settles.
    pub fn spawn(&self, answer: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move { cut.run_until_cancelled_owned(answer).await });
    }
}
