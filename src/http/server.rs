//! The accept loop: bounds on connections, on slow headers and slow readers, and a graceful end.
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Edge,
    head::{Http, Spoken},
    settings::Server as Settings,
};
use crate::turn::InTurn;

/// How long to wait when the system has no socket left.
const PAUSE: Duration = Duration::from_millis(100);
/// Streams that one HTTP/2 connection may have open.
const MOST_STREAMS: u32 = 256;

/// Serves connections until `stop`, then lets what runs come to its end.
#[derive(Debug)]
pub struct Server {
    /// The bounds.
    pub settings: Settings,
    /// How many connections are open.
    pub open: IntGauge,
    /// No new request from here on.
    pub stop: CancellationToken,
    /// What is under way is dropped, and hears so.
    pub cut: CancellationToken,
    /// The connections, for whoever waits for them.
    pub tracker: TaskTracker,
}

impl Server {
    /// Accepts until `stop`.
    pub async fn run(&self, listener: TcpListener, edge: Edge) {
        let places = Arc::new(Semaphore::new(self.settings.max_connections as usize));
        let builders = Arc::new(self.builders());
        loop {
            // A connection is accepted only when it has a place: the rest wait in the system's own queue.
            let next = async { (places.clone().acquire_owned().await, listener.accept().await) };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = self.stop.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tracing::error!(%error, "no connection can be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            };
            let (edge, builders, open) = (edge.clone(), builders.clone(), self.open.clone());
            let (stop, cut) = (self.stop.clone(), self.cut.clone());
            let bounds = Bounds {
                write: self.settings.write_timeout.0,
                idle: self.settings.header_timeout.0 + GRACE,
                longest: self.settings.request_timeout.0 + self.settings.write_timeout.0,
            };
            self.tracker.spawn(async move {
                open.inc();
                serve(stream, address, edge, &builders, &bounds, [stop, cut]).await;
                open.dec();
                drop(place);
            });
        }
    }

    fn builders(&self) -> Builders {
        let mut one = http1::Builder::new();
        // Replies are small: one piece is cheaper to copy together than several are to hand over.
        one.writev(false)
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout.0)
            .max_headers(100);
        let mut two = http2::Builder::new(TokioExecutor::new());
        two.timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(LARGEST_HEAD)
            .keep_alive_interval(self.settings.header_timeout.0)
            .keep_alive_timeout(Duration::from_secs(20));
        Builders { one, two }
    }
}

/// How each HTTP is spoken.
struct Builders {
    one: http1::Builder,
    two: http2::Builder<TokioExecutor>,
}

/// How large the head of an HTTP/2 request may be, in bytes, as RFC 9113 counts them (section 6.5.2).
const LARGEST_HEAD: u32 = 128 << 10;

/// A little later than hyper, which has words for a client whose headers are slow.
const GRACE: Duration = Duration::from_secs(2);

/// How long a first request has, when the gateway stops, for the rest of its head.
const LAST_HEAD: Duration = Duration::from_secs(1);

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    edge: Edge,
    builders: &Builders,
    settings: &Bounds,
    [stop, cut]: [CancellationToken; 2],
) {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    // A client that takes nothing off our hands for so long is cut.
    stream.set_write_timeout(Some(settings.write));
    let mut stream = Spoken::new(InTurn::new(Box::pin(stream)));
    // Each is polled only when it has something to say, not with every piece of every answer.
    let mut asides = FuturesUnordered::from_iter([
        stop.cancelled_owned().map(|()| Aside::Stop).boxed(),
        cut.cancelled_owned().map(|()| Aside::Cut).boxed(),
        // hyper's own bounds begin once it is known which HTTP a client speaks,
        // and an HTTP/2 client may be silent for as long as it answers pings.
        after(settings.idle),
    ]);
    let spoken = tokio::select! {
        biased;
        spoken = poll_fn(|cx| stream.poll_begin(cx)) => spoken,
        // Nothing is under way yet.
        Some(_) = asides.next() => return,
    };
    let requests = AtomicUsize::new(0);
    let service = service_fn(|request| {
        requests.fetch_add(1, Ordering::Relaxed);
        // Boxed, so that what is needed to the head of an answer is not held to its end.
        edge.clone().answer(request, address).boxed()
    });
    let io = TokioIo::new(stream);
    let served = match spoken {
        Ok(Http::One) => {
            let connection = pin!(builders.one.serve_connection(io, service));
            attend(connection, http1::Connection::graceful_shutdown, asides, &requests, settings).await
        }
        Ok(Http::Two) => {
            let mut connection = Box::pin(builders.two.serve_connection(io, service));
            // Boxed, so that the others need no room for it.
            let leave = http2::Connection::graceful_shutdown;
            attend(connection.as_mut(), leave, asides, &requests, settings).boxed().await
        }
        Err(error) => {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
    };
    if let Err(error) = served {
        // Clients come and go; what they do wrong on the way is no news.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Sees a connection to its end.
async fn attend<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    leave: impl Fn(Pin<&mut C>),
    mut asides: FuturesUnordered<BoxFuture<'static, Aside>>,
    requests: &AtomicUsize,
    settings: &Bounds,
) -> hyper::Result<()> {
    let (mut seen, mut leaving, mut stopping) = (0, false, false);
    loop {
        let aside = tokio::select! {
            biased;
            served = connection.as_mut() => return served,
            Some(aside) = asides.next() => aside,
        };
        match aside {
            Aside::Cut => return Ok(()),
            Aside::Stop => {
                leave(connection.as_mut());
                stopping = true;
                if requests.load(Ordering::Relaxed) == 0 {
                    asides.push(after(LAST_HEAD));
                }
            }
            // Half a head, or a peer that says nothing more, is nothing that is waited for.
            Aside::Look if stopping && requests.load(Ordering::Relaxed) == 0 => return Ok(()),
            // What is under way may come to its end until it is cut.
            Aside::Look if stopping => {}
            Aside::Look => {
                let now = requests.load(Ordering::Relaxed);
                if now == 0 || leaving {
                    // Silent from the start, or longer under way than any call may be.
                    return Ok(());
                }
                let mut next = settings.idle;
                if now == seen {
                    // What is under way comes to its end, nothing new begins.
                    leave(connection.as_mut());
                    (leaving, next) = (true, settings.longest);
                }
                seen = now;
                asides.push(after(next));
            }
        }
    }
}

/// What a connection hears from beside it.
enum Aside {
    /// No new request from here on.
    Stop,
    /// What is under way is dropped.
    Cut,
    /// It is time to see whether anything came.
    Look,
}

fn after(time: Duration) -> BoxFuture<'static, Aside> {
    tokio::time::sleep(time).map(|()| Aside::Look).boxed()
}

/// How long a connection may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// To take what is written.
    write: Duration,
    /// Without a new request.
    idle: Duration,
    /// For what is under way when it has become idle.
    longest: Duration,
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset)
}
