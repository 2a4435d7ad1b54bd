//! The connections to one provider: the only file that knows the HTTP client.
//!
//! An HTTP/1.1 connection has no task of its own: whoever waits for the answer
//! drives it. That saves two hand-overs between tasks for every piece that
//! comes, and closes the connection in the moment in which its answer is
//! dropped. HTTP/2 connections, which many answers share, have a task.
mod multiplex;

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpConnector},
    rt::TokioIo,
};
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::OnceCell, task, time};
use tower::Service;

use self::multiplex::{Place, Shared};
use crate::{
    error::{Error, Result},
    turn::Turn,
};

type Sent = Full<Bytes>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Driver = Pin<Box<http1::Connection<Stream, Sent>>>;

/// Idle connections that are kept to one provider.
const MOST_IDLE: usize = 1024;
/// A connection that a larger question went through, in bytes, is not used again: it keeps room for another such one.
const LARGE: u64 = 1 << 20;
/// How often those that were kept too long, or were closed over there, are let go.
const SWEEP: Duration = Duration::from_secs(5);
/// How many sweeps they outlast, so that they are kept for less than the
/// minute after which many servers hang up.
const MOST_SWEEPS: u32 = 10;
/// A connection that was kept and breaks within this time had been given up over there. After it, the server may have
/// been at work on the answer: whether to ask again is for others to decide.
const STALE: Duration = Duration::from_secs(2);

/// How long it waits before it asks a server again that refused a request, each time.
const REFUSALS: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(25), Duration::from_millis(100)];

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Connections {
    /// Scheme and authority.
    origin: Uri,
    host: HeaderValue,
    connect: Duration,
    /// Made when it is first needed: reading the system's root certificates takes a while.
    connector: OnceCell<HttpsConnector<HttpConnector>>,
    idle: Arc<Idle>,
    shared: Arc<Shared>,
}

impl Connections {
    /// Connections to the server of `base`, each made within `connect`.
    pub(super) fn new(base: &Uri, connect: Duration) -> Self {
        let (connector, idle, shared) = (OnceCell::new(), Arc::default(), Arc::default());
        Self { origin: base.clone(), host: host(base), connect, connector, idle, shared }
    }

    /// Sends a request whose address is whole, and reads the head of the answer.
    ///
    /// A connection that waited may be closed over there in the very moment in
    /// which it is used: the request is made anew and sent on another. So is, a few times, what a server refused
    /// before it did anything about it.
    pub(super) async fn send(&self, request: impl Fn() -> Request<Sent>) -> Result<Response<Body>> {
        if let Some(place) = self.shared.place()
            && let Some(answered) = Box::pin(self.onto(place, &request)).await
        {
            return answered;
        }
        Turn::wait().await;
        while let Some(line) = self.idle.take() {
            let began = Instant::now();
            match line.ask(self.single(request())).await {
                Err(error) if began.elapsed() < STALE && hung_up(&error) => {}
                answered => return answered.map_err(Error::broken),
            }
        }
        // Boxed, so that a request that finds a connection is not as large as one that makes it.
        Box::pin(self.open(&request)).await
    }

    /// Sends a request on HTTP/2 connections that are there; `None` where each of them turned out to be closed.
    async fn onto(
        &self,
        mut place: Place,
        request: &impl Fn() -> Request<Sent>,
    ) -> Option<Result<Response<Body>>> {
        loop {
            let began = Instant::now();
            match place.ask(request()).await {
                Err(error) if began.elapsed() < STALE && hung_up(&error) => place.give_up(),
                answered => return Some(shared(answered, place)),
            }
            place = self.shared.place()?;
        }
    }

    /// Makes a connection and sends a request on it.
    async fn open(&self, request: &impl Fn() -> Request<Sent>) -> Result<Response<Body>> {
        let stream = self.reach_in_time().await?;
        if stream.connected().is_negotiated_h2() {
            let mut place = self.shared.greet(stream).await.map_err(Error::broken)?;
            let mut answered = place.ask(request()).await;
            for wait in REFUSALS {
                if !answered.as_ref().is_err_and(|error| causes(error).any(multiplex::refused)) {
                    break;
                }
                time::sleep(wait).await;
                let free = self.shared.place();
                place = if let Some(place) = free {
                    place
                } else {
                    let stream = self.reach_in_time().await?;
                    self.shared.greet(stream).await.map_err(Error::broken)?
                };
                answered = place.ask(request()).await;
            }
            return shared(answered, place);
        }
        let request = request();
        // Questions are small: one piece is cheaper to copy together than two are to hand over.
        let made = http1::Builder::new().writev(false).handshake(stream);
        let (sender, driver) = made.await.map_err(Error::broken)?;
        let idle = Arc::downgrade(&self.idle);
        let driver = Box::pin(driver);
        let line = Line { sender, driver, over: false, quiet: false, sweeps: 0, idle };
        line.ask(self.single(request)).await.map_err(Error::broken)
    }

    /// Whether a connection waits for a request, after those are let go that are of no use.
    #[cfg(test)]
    pub(super) fn has_idle(&self) -> bool {
        self.idle.clear()
    }

    /// The request as HTTP/1.1 has it: the host in a header, the path alone in the first line.
    fn single(&self, mut request: Request<Sent>) -> Request<Sent> {
        if request.uri().authority().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
            request.headers_mut().insert(HOST, self.host.clone());
        }
        request
    }

    async fn reach_in_time(&self) -> Result<Stream> {
        let stream = time::timeout(self.connect, self.reach()).await;
        stream.map_err(|_| Error::Timeout { phase: "connect" })?
    }

    async fn reach(&self) -> Result<Stream> {
        let secure = self.origin.scheme_str() == Some("https");
        let connect = self.connect;
        let make = || async move {
            // Reading certificates blocks; a connector without them is made on the spot.
            if secure {
                task::spawn_blocking(move || connector(true, connect)).await.map_err(Error::internal)?
            } else {
                connector(false, connect)
            }
        };
        let mut connector = self.connector.get_or_try_init(make).await?.clone();
        connector.call(self.origin.clone()).await.map_err(|error| {
            let timed_out = causes(&*error)
                .filter_map(|cause| cause.downcast_ref::<io::Error>())
                .any(|error| error.kind() == io::ErrorKind::TimedOut);
            if timed_out { Error::Timeout { phase: "connect" } } else { Error::Unreachable(error) }
        })
    }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The authority without the port that goes without saying.
fn host(base: &Uri) -> HeaderValue {
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let usual = if base.scheme_str() == Some("https") { ":443" } else { ":80" };
    let host = authority.strip_suffix(usual).unwrap_or(authority);
    HeaderValue::from_str(host).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What reaches servers. It follows no redirect and no proxy of the environment's.
fn connector(secure: bool, connect: Duration) -> Result<HttpsConnector<HttpConnector>> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_connect_timeout(Some(connect));
    let tls = rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let mut roots = rustls::RootCertStore::empty();
    if secure {
        // A certificate that cannot be read is none that anybody needs.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let tls = tls.map_err(Error::internal)?.with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    Ok(connector.enable_all_versions().wrap_connector(tcp))
}

/// An answer on a connection that is shared.
fn shared(answered: hyper::Result<Response<Incoming>>, place: Place) -> Result<Response<Body>> {
    match answered {
        Ok(answered) => Ok(answered.map(|incoming| Body { incoming, line: None, place: Some(place) })),
        Err(error) => Err(place.broke(error)),
    }
}

/// Whether a connection was closed before any answer: its server had given it up.
fn hung_up(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let reset = |cause: &(dyn std::error::Error + 'static)| {
        // The last is the end of a connection over TLS that was not announced.
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
        })
    };
    error.is_canceled()
        || error.is_incomplete_message()
        || causes(error).any(|cause| reset(cause) || multiplex::refused(cause))
}

/// One HTTP/1.1 connection.
struct Line {
    sender: http1::SendRequest<Sent>,
    driver: Driver,
    /// The driver has ended and must not be polled again.
    over: bool,
    /// The last piece was read without this task's waker.
    quiet: bool,
    /// The sweeps that it has outlasted since it was last used.
    sweeps: u32,
    idle: Weak<Idle>,
}

impl Line {
    /// Lets the connection read and write what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // Why it ended is told to whoever waits for the answer.
        self.over = self.over || self.driver.as_mut().poll(cx).is_ready();
    }

    async fn ask(mut self, request: Request<Sent>) -> hyper::Result<Response<Body>> {
        if request.body().size_hint().lower() > LARGE {
            self.idle = Weak::new();
        }
        // The answer can only come while the driver is polled, which wakes this
        // task. With a waker of its own, every answer would wake it once more.
        let mut answer = pin!(task::unconstrained(self.sender.send_request(request)));
        let answered = std::future::poll_fn(|cx| {
            let mut never = Context::from_waker(Waker::noop());
            self.drive(cx);
            let answer = answer.as_mut().poll(&mut never);
            if answer.is_ready() {
                // Nor is it to be woken when its body is asked for: [`Line::piece`].
                self.drive(&mut never);
            }
            answer
        });
        Ok(answered.await?.map(|incoming| Body { incoming, line: Some(self), place: None }))
    }

    /// The next piece of an answer.
    ///
    /// Pieces come only from the driver. Once it has handed one over it waits for that to be taken, and taking it wakes
    /// whoever polled the driver: this very task, which would be run once more for nothing. So the driver first reads
    /// with nobody to wake. Where there is more to wait for it is polled again as this task.
    fn piece(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut never = Context::from_waker(Waker::noop());
        let mut taken = |never: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(never);
        if let Poll::Ready(frame) = taken(&mut never) {
            return Poll::Ready(frame);
        }
        self.quiet = !self.quiet;
        if self.quiet {
            self.drive(&mut never);
            if let Poll::Ready(frame) = taken(&mut never) {
                return Poll::Ready(frame);
            }
            self.quiet = false;
        }
        self.drive(cx);
        taken(&mut never)
    }

    /// Whether a request may be sent: nothing is under way, and nobody has hung up.
    fn is_free(&mut self) -> bool {
        // Nobody is woken by it while it is idle.
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.over && self.sender.is_ready()
    }
}

/// The body of an answer. Dropped before its end, it closes its connection.
pub(super) struct Body {
    incoming: Incoming,
    line: Option<Line>,
    /// On a connection that is shared.
    place: Option<Place>,
}

impl Body {
    /// The next piece; `None` is the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The same, for whoever is polled.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let frame = match &mut self.line {
                None => ready!(Pin::new(&mut self.incoming).poll_frame(cx)),
                Some(line) => match line.piece(&mut self.incoming, cx) {
                    Poll::Ready(frame) => frame,
                    // The driver takes its end of the body with it.
                    Poll::Pending if line.over => None,
                    Poll::Pending => return Poll::Pending,
                },
            };
            match frame.transpose().map_err(|error| self.broke(error))?.map(Frame::into_data) {
                Some(Ok(data)) => return Poll::Ready(Ok(Some(data))),
                // What is no data is trailers, which say nothing here.
                Some(Err(_)) => {}
                None => {
                    self.release();
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    fn broke(&self, error: hyper::Error) -> Error {
        match &self.place {
            None => Error::broken(error),
            Some(place) => place.broke(error),
        }
    }

    /// After the end of the body, its connection can be used again.
    fn release(&mut self) {
        self.place = None;
        if let Some(line) = self.line.take()
            && let Some(idle) = line.idle.upgrade()
        {
            idle.put(line);
        }
    }
}

/// The connections that wait for a request, the one used last at the end.
#[derive(Default)]
struct Idle(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    lines: Vec<Line>,
    swept: bool,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Idle").field(&self.0.lock().lines.len()).finish()
    }
}

impl Idle {
    fn take(&self) -> Option<Line> {
        loop {
            let mut line = self.0.lock().lines.pop()?;
            if line.is_free() {
                return Some(line);
            }
        }
    }

    fn put(self: Arc<Self>, mut line: Line) {
        if !line.is_free() {
            return;
        }
        line.sweeps = 0;
        let mut kept = self.0.lock();
        if kept.lines.len() < MOST_IDLE {
            kept.lines.push(line);
            if !std::mem::replace(&mut kept.swept, true) {
                task::spawn(sweep(Arc::downgrade(&self)));
            }
        }
    }

    /// Lets go of what is of no use any more. Tells whether anything is left.
    fn clear(&self) -> bool {
        let mut kept = self.0.lock();
        kept.lines.retain_mut(|line| {
            line.sweeps += 1;
            line.sweeps <= MOST_SWEEPS && line.is_free()
        });
        kept.swept = !kept.lines.is_empty();
        kept.swept
    }
}

/// Runs while there are idle connections.
async fn sweep(idle: Weak<Idle>) {
    loop {
        time::sleep(SWEEP).await;
        if !idle.upgrade().is_some_and(|idle| idle.clear()) {
            return;
        }
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
