//! From a configuration to a running gateway, through reloads, to its end.
//! The only file that names concrete parts.
mod alerts;
mod anchors;
mod approved;
mod erasures;
mod forget;
mod gates;
mod masks;
mod parts;
mod read;
mod reload;
mod replaying;

pub(crate) use parts::{TABLES, archive};

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    panic,
    process::ExitCode,
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{parts::Lasting, read::Parts, reload::Changes};
use crate::{
    auth,
    config::{Config, Loaded, Problem},
    http::{self, App, server::Server},
    knowledge::Knowledge,
    observe::{
        logs::{Logs, START},
        panics,
    },
    stage::Pipeline,
};

/// How long calls that are cut off may take to notice.
const SETTLE: Duration = Duration::from_secs(2);

/// How long a thread that may block waits for more to do, with the memory that it has.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The stack of the thread that starts, in bytes: what the first thread of a process has.
const STACK: usize = 8 << 20;

/// Connections that may wait to be accepted: as many as the system allows.
const BACKLOG: u32 = i32::MAX as u32;

/// Serves until told to stop.
pub fn serve(loaded: Loaded) -> ExitCode {
    let logs = Logs::start(&loaded.config.log);
    panics::watch();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Threads that may block are needed at the start, and seldom after it.
    runtime.thread_keep_alive(KEEP_ALIVE);
    if let Some(workers) = loaded.config.server.workers {
        runtime.worker_threads(workers);
    }
    let served = match runtime.enable_all().build() {
        Ok(runtime) => aside(|| runtime.block_on(start(loaded, &logs)))
            .map(|running| runtime.block_on(running.until_stopped())),
        Err(error) => Err(format!("the runtime does not start: {error}")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Does it on a thread of its own. The memory that an allocator keeps for a thread goes back with the thread, and a start
/// needs much that nothing needs after it.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let mut left = Some(work);
    let done = thread::scope(|scope| {
        let work = || left.take().map(|work| work());
        let thread = thread::Builder::new().name("start".into()).stack_size(STACK);
        let done = thread.spawn_scoped(scope, work).ok()?.join();
        done.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    });
    match (done, left) {
        (Some(done), _) => done,
        // There is no thread to be had: it is done here.
        (None, Some(work)) => work(),
        (None, None) => unreachable!("a thread that took it has done it or panicked"),
    }
}

/// A gateway that answers.
struct Running {
    app: App,
    stop_signal: StopSignal,
    /// How long it waits for those under way.
    drain: Duration,
    stop: CancellationToken,
    cut: CancellationToken,
    tracker: TaskTracker,
    accepting: JoinHandle<()>,
    following: JoinHandle<()>,
    reloading: JoinHandle<()>,
}

async fn start(loaded: Loaded, logs: &Logs) -> Result<Running, String> {
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let Loaded { config, source, .. } = loaded;
    // Before anything is read and anyone is told that we listen: no signal and no change is missed.
    let changes = Changes::new(&config, source)?;
    let stop_signal = StopSignal::new()?;
    let parts = Parts::read(config)?;
    // Before anything on the disk or in a store is touched: where another gateway has the address, it is at work there.
    let server_settings = parts.config.server.clone();
    let socket = Bound::to(server_settings.listen)?;
    let metrics_socket = server_settings.metrics_listen.map(Bound::to).transpose()?;
    let lasting = Lasting::new(&parts, read_knowledge(&parts.config).await?, logs).await?;
    let running = parts::running(&parts, &lasting)?;
    let app = App::new(
        running,
        http::Lasting {
            metrics: lasting.metrics.clone(),
            writer: lasting.writer.clone(),
            breakers: lasting.breakers.clone(),
            stores: lasting.stores.clone(),
            replay: lasting.replay.clone(),
            keys: lasting.keys.clone(),
            ledger: lasting.ledger.clone(),
            summaries: lasting.summaries.clone(),
            audit: lasting.audit.clone(),
            sessions: lasting.sessions.clone(),
            reviews: lasting.reviews.clone(),
            forget: lasting.forget.clone(),
        },
    );

    let listener = socket.listen()?;
    let at = listener.local_addr().map_err(|error| error.to_string())?;
    let (stop, cut, tracker) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    if let Some(socket) = metrics_socket {
        let address = socket.address;
        let listener = socket.listen()?;
        let server = Server {
            settings: server_settings.clone(),
            open: lasting.metrics.connections.clone(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let router = http::metrics_router(&app);
        tokio::spawn(async move { server.run(listener, router).await });
        tracing::info!(target: START, "metrics on http://{address}/metrics");
    }
    let server = Server {
        settings: server_settings.clone(),
        open: lasting.metrics.connections.clone(),
        stop: stop.clone(),
        cut: cut.clone(),
        tracker: tracker.clone(),
    };
    let router = http::router(&app);
    let accepting = tokio::spawn(async move { server.run(listener, router).await });
    tracing::info!(target: START, version = env!("CARGO_PKG_VERSION"), "listening on http://{at}");
    let following = tokio::spawn(follow_keys(app.clone()));
    let reloading = tokio::spawn(reload::on_change(app.clone(), lasting, parts, changes, logs.clone()));

    let drain = server_settings.drain.0;
    Ok(Running { app, stop_signal, drain, stop, cut, tracker, accepting, following, reloading })
}

impl Running {
    /// Answers until told to stop.
    async fn until_stopped(self) {
        let Self { app, mut stop_signal, drain, stop, cut, tracker, accepting, following, reloading } = self;
        stop_signal.heard().await;
        app.drain();
        stop.cancel();
        // Whoever reads this can count on it.
        tracing::info!("stopping: no new requests, waiting for those under way");
        let _ = accepting.await;
        tracker.close();
        let answering = &app.replay().tasks;
        answering.close();
        let over = async { tokio::join!(tracker.wait(), answering.wait()) };
        tokio::select! {
            _ = over => tracing::info!("all requests are answered"),
            () = tokio::time::sleep(drain) => tracing::warn!("requests under way are cut off: their time is over"),
            // Who asks twice does not want to wait.
            () = stop_signal.heard() => tracing::warn!("requests under way are cut off: asked to stop again"),
        }
        // Dropped before the end of the process, a call that is cut off still settles and leaves its record.
        cut.cancel();
        app.replay().cut.cancel();
        let settled = async { tokio::join!(tracker.wait(), answering.wait()) };
        let _ = tokio::time::timeout(SETTLE, settled).await;
        app.sessions().close(SETTLE).await;
        reloading.abort();
        following.abort();
        let writer = app.writer().clone();
        let _ = tokio::task::spawn_blocking(move || writer.close()).await;
        if !app.reviews().flush().await {
            tracing::error!(
                "answers for reviewers are lost: the database did not take them; their audit records stay"
            );
        }
        if let Some(audit) = app.audit() {
            // What is not moved now is moved at the next start.
            let _ = tokio::time::timeout(Duration::from_secs(2), audit.flush()).await;
        }
        app.ledger().flush(Duration::from_secs(2)).await;
        let (summaries, kept) = app.summaries();
        kept.flush(summaries).await;
        app.stores().sql.close().await;
    }
}

/// An address that is this process's, and at which nobody is answered yet.
struct Bound {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Bound {
    fn to(address: SocketAddr) -> Result<Self, String> {
        let bound = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // Connections of an earlier process that are not quite over do not keep it.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        bound().map(|socket| Self { socket, address }).map_err(|error| cannot_listen(address, &error))
    }

    fn listen(self) -> Result<TcpListener, String> {
        let address = self.address;
        self.socket.listen(BACKLOG).map_err(|error| cannot_listen(address, &error))
    }
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> String {
    format!("cannot listen on {address}: {error}")
}

/// Takes up what other gateways change about keys. The database says itself when it is away.
async fn follow_keys(app: App) {
    let mut clock = tokio::time::interval(auth::book::LOOK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let _ = app.follow_keys().await;
    }
}

/// The stages of a configuration alone, without a server: for benchmarks.
///
/// # Errors
/// What the configuration names and cannot be read, in words.
pub async fn pipeline(config: Config) -> Result<Pipeline, String> {
    let logs = Logs::start(&config.log);
    let parts = Parts::read(config)?;
    let lasting = Lasting::new(&parts, read_knowledge(&parts.config).await?, &logs).await?;
    Ok(parts::running(&parts, &lasting)?.pipeline)
}

/// What asks the process to end.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn new() -> Result<Self, String> {
        Ok(Self { terminate: heard(SignalKind::terminate())?, interrupt: heard(SignalKind::interrupt())? })
    }

    async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn heard(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("signals cannot be heard: {error}"))
}

async fn read_knowledge(config: &Config) -> Result<Knowledge, String> {
    let settings = config.knowledge.clone();
    let read = tokio::task::spawn_blocking(move || Knowledge::load(&settings.path, settings.chunk_chars));
    read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Asks a gateway whether it is ready; for health checks of containers.
pub fn probe(address: SocketAddr) -> bool {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let patience = Duration::from_secs(3);
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(String::from_utf8_lossy(&status).into_owned())
    };
    ask().is_ok_and(|status| status.ends_with("200"))
}
