//! HTTP/2 connections to one server, each shared by many answers.
//!
//! A server takes only so many answers at a time on a connection (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113, section
//! 5.1.2), often a hundred; one more would wait in silence for another to end. So there are as many connections as it
//! takes: a call goes on the first with a place, and one that nothing is under way on is let go where another has a place.
use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::task;

use super::{Sent, Stream, causes};
use crate::error::{Error, LostWithOthers};

/// Answers under way on one connection, even where its server takes more: they share one TCP window, and one core reads them.
const MOST_STREAMS: usize = 100;
/// The same before its server has said how many it takes. More might be refused, or cost all of them their connection.
const UNTOLD: usize = 1;
/// What is taken of an answer that nobody reads, in bytes. Over a tenth of a second's way it lets 5 MB through a second.
const WINDOW: u32 = 512 << 10;
/// The room of a connection, in bytes: that of all its answers, or those that nobody reads would hold up the others.
const ROOM: u32 = WINDOW * MOST_STREAMS as u32;
/// A connection that nothing was under way on for so long is not used again: its server may be about to hang up.
const MOST_IDLE: Duration = Duration::from_secs(50);

/// The connections.
#[derive(Default)]
pub(super) struct Shared(Mutex<Vec<Arc<Trunk>>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.0.lock().len()).finish()
    }
}

/// What moves a connection; nothing once it has ended, so that its senders hear of it.
type Driver = Mutex<Option<Pin<Box<http2::Connection<Stream, Sent, TokioExecutor>>>>>;

/// One connection.
struct Trunk {
    sender: http2::SendRequest<Sent>,
    under_way: AtomicUsize,
    /// Knows how many its server takes. Asked when a call looks for a place, as nobody is woken when the server says so.
    driver: Arc<Driver>,
    used: Mutex<Instant>,
    /// It took a call no more, such as after a GOAWAY; answers may still be under way.
    given_up: AtomicBool,
    /// That it broke has been told.
    told: AtomicBool,
}

impl Trunk {
    fn is_over(&self) -> bool {
        let idle = || self.under_way.load(Relaxed) == 0 && self.used.lock().elapsed() > MOST_IDLE;
        self.sender.is_closed() || self.given_up.load(Relaxed) || idle()
    }

    fn has_place(&self) -> bool {
        let most = self.driver.lock().as_ref().map_or(0, |driver| driver.current_max_send_streams());
        self.under_way.load(Relaxed) < most.min(MOST_STREAMS)
    }
}

impl Shared {
    /// A place on a connection that is there.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let mut trunks = self.0.lock();
        if trunks.is_empty() {
            return None;
        }
        trunks.retain(|trunk| !trunk.is_over());
        let trunk = trunks.iter().find(|trunk| trunk.has_place())?;
        Some(Place::on(trunk, self))
    }

    /// Greets a server on a new connection.
    pub(super) async fn greet(self: &Arc<Self>, stream: Stream) -> hyper::Result<Place> {
        let made = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(ROOM)
            .initial_max_send_streams(UNTOLD)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(stream);
        let (sender, driver) = made.await?;
        let driver: Arc<Driver> = Arc::new(Mutex::new(Some(Box::pin(driver))));
        let shared = driver.clone();
        // It ends with its connection, which ends when nobody holds a sender.
        task::spawn(std::future::poll_fn(move |cx| {
            let mut driver = shared.lock();
            let end = driver.as_mut().map_or(Poll::Ready(Ok(())), |driver| driver.as_mut().poll(cx));
            if end.is_ready() {
                *driver = None;
            }
            // Why it ended is told to those who wait for an answer.
            end.map(drop)
        }));
        let (under_way, used) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
        let trunk = Arc::new(Trunk {
            sender,
            under_way,
            driver,
            used,
            given_up: AtomicBool::new(false),
            told: AtomicBool::new(false),
        });
        let mut trunks = self.0.lock();
        let place = Place::on(&trunk, self);
        trunks.push(trunk);
        Ok(place)
    }
}

/// A place on a connection, for one answer. Free again when dropped.
pub(super) struct Place {
    trunk: Arc<Trunk>,
    all: Weak<Shared>,
}

impl Place {
    /// Called with the list locked: so nobody lets go of a connection that somebody takes a place on.
    fn on(trunk: &Arc<Trunk>, all: &Arc<Shared>) -> Self {
        trunk.under_way.fetch_add(1, Relaxed);
        Self { trunk: trunk.clone(), all: Arc::downgrade(all) }
    }

    /// Sends a request, and waits for the head of the answer.
    pub(super) async fn ask(&self, request: Request<Sent>) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.trunk.sender.clone();
        sender.ready().await?;
        sender.send_request(request).await
    }

    /// Why an answer broke off. That its connection was lost is the target's fault once, however many shared it.
    pub(super) fn broke(&self, error: hyper::Error) -> Error {
        let alone = causes(&error).filter_map(|cause| cause.downcast_ref()).any(h2::Error::is_reset);
        if !alone && self.trunk.told.swap(true, Relaxed) {
            return Error::broken(LostWithOthers(error.into()));
        }
        Error::broken(error)
    }

    /// No other call goes on this connection.
    pub(super) fn give_up(&self) {
        self.trunk.given_up.store(true, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.trunk.under_way.fetch_sub(1, Relaxed) > 1 {
            return;
        }
        *self.trunk.used.lock() = Instant::now();
        let Some(all) = self.all.upgrade() else { return };
        let mut trunks = all.0.lock();
        let other = |trunk: &Arc<Trunk>| !Arc::ptr_eq(trunk, &self.trunk);
        let spare = || trunks.iter().any(|trunk| other(trunk) && !trunk.is_over() && trunk.has_place());
        if self.trunk.under_way.load(Relaxed) == 0 && spare() {
            trunks.retain(other);
        }
    }
}

/// Whether a server refused a request before it did anything about it (RFC 9113, section 8.7): it may be sent again.
pub(super) fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<h2::Error>().is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}
