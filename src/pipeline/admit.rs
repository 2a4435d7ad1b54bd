//! Bounds how many calls are under way. A place is held until the answer has ended.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::Admit as Settings;
use crate::{
    call::Call,
    error::{Error, Result},
    observe::Metrics,
    reply::Reply,
    stage::{Answer, Next, Stage},
};

/// The stage.
#[derive(Debug)]
pub struct Admit(pub Arc<Places>);

/// The places, and the queue for them. They outlive reloads.
#[derive(Debug)]
pub struct Places {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    settings: Settings,
    metrics: Arc<Metrics>,
}

/// A place, and its mark in the metrics.
struct Held {
    _permit: OwnedSemaphorePermit,
    in_flight: IntGauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

/// Someone in the queue; leaving it, however that happens, is counted.
struct Waiting<'a>(&'a Places);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.waiting.dec();
    }
}

impl Places {
    /// As many places as the settings say.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let places = Arc::new(Semaphore::new(settings.max_in_flight as usize));
        Self { places, waiting: AtomicUsize::new(0), settings: settings.clone(), metrics }
    }

    async fn place(&self, time_left: Duration) -> Result<Held> {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(time_left).await?,
        };
        let in_flight = self.metrics.in_flight.clone();
        in_flight.inc();
        Ok(Held { _permit: permit, in_flight })
    }

    async fn wait(&self, time_left: Duration) -> Result<OwnedSemaphorePermit> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        self.metrics.waiting.inc();
        let _waiting = Waiting(self);
        if ahead < self.settings.queue as usize {
            let patience = self.settings.queue_wait.0.min(time_left);
            if let Ok(Ok(permit)) = tokio::time::timeout(patience, self.places.clone().acquire_owned()).await
            {
                return Ok(permit);
            }
        }
        self.metrics.shed.inc();
        Err(Error::Overloaded { retry_after: self.settings.queue_wait.0.max(Duration::from_secs(1)) })
    }
}

impl Stage for Admit {
    async fn run<S: Answer>(&self, call: Call, next: Next<'_, S>) -> Result<Reply> {
        let held = self.0.place(call.context.time_left()).await?;
        Ok(next.call(call).await?.hold(held))
    }
}
