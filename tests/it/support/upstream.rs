//! A provider that does what its script says, over a raw socket, so that it
//! can also do what no HTTP server would.
//!
//! Each request takes the next [`Act`] of the queue, or the default one. The
//! act is rendered to a plan of bytes and waits ([`super::reply`]), which is
//! played while the socket is watched for a client that leaves.
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

use super::{
    reply::{After, Plan},
    soon,
};

pub use super::reply::Act;

/// A scripted provider. Lives as long as this value.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// A request that has arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// The JSON body; null where there is none.
    pub body: Value,
    /// When the client left although the reply had not ended.
    pub gone: Option<Instant>,
    /// The tokens that it bills: those that a whole answer reports, none of an error. Absent where
    /// the answer did not come to its end.
    pub billed: Option<(u32, u32)>,
}

impl Seen {
    /// The value of a header, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// How often a provider misbehaves, in percent.
#[derive(Clone, Copy)]
pub struct Chances {
    pub cut: u32,
    pub failed: u32,
    pub busy: u32,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
    busy: AtomicUsize,
    /// How many it answers at the same time; the others wait.
    places: OnceLock<Semaphore>,
}

#[derive(Default)]
struct Script {
    queue: VecDeque<Act>,
    default: Act,
    chances: Option<(Chances, StdRng)>,
    choose: Option<Choose>,
}

/// Decides by what is asked.
type Choose = Box<dyn Fn(&Seen) -> Act + Send>;

impl Script {
    fn next(&mut self, request: &Seen) -> Act {
        if let Some(choose) = &self.choose {
            return choose(request);
        }
        if let Some(act) = self.queue.pop_front() {
            return act;
        }
        if let Some((chances, random)) = &mut self.chances {
            let roll = random.random_range(0..100);
            let (cut, failed) = (chances.cut, chances.cut + chances.failed);
            if roll < cut {
                return Act::close();
            } else if roll < failed {
                return Act::failed();
            } else if roll < failed + chances.busy {
                return Act::busy(None);
            }
        }
        self.default.clone()
    }
}

impl Upstream {
    /// Starts a provider that answers everything with `default`.
    pub async fn start(default: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Script { default, ..Script::default() }),
            ..Shared::default()
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, task }
    }

    /// Starts a provider that answers `Hello from upstream.`
    pub async fn answering() -> Self {
        Self::start(Act::default()).await
    }

    /// What the next requests get, in order, before the default.
    pub fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().unwrap().queue.extend(acts);
    }

    /// From now on each request gets the act that is chosen for it.
    pub fn choose(&self, choose: impl Fn(&Seen) -> Act + Send + 'static) {
        self.shared.script.lock().unwrap().choose = Some(Box::new(choose));
    }

    /// From now on misbehaves at random, the same way for the same seed.
    pub fn misbehave(&self, chances: Chances, seed: u64) {
        self.shared.script.lock().unwrap().chances = Some((chances, StdRng::seed_from_u64(seed)));
    }

    /// Answers so many at the same time; the others wait, as with a model server of so many slots.
    pub fn with_places(self, places: usize) -> Self {
        assert!(self.shared.places.set(Semaphore::new(places)).is_ok(), "places are set once");
        self
    }

    /// Answers everything with `default` from now on.
    pub fn set_default(&self, default: Act) {
        self.shared.script.lock().unwrap().default = default;
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.shared.seen.lock().unwrap().last().expect("the upstream was never asked").clone()
    }

    /// How many requests have arrived.
    pub fn asked(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many requests are being answered.
    pub fn busy(&self) -> usize {
        self.shared.busy.load(SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// When the client of the last request left; fails if it has not after `limit`.
    pub async fn gone(&self, limit: Duration) -> Instant {
        soon(limit, || self.last().gone.is_some()).await;
        self.last().gone.expect("the upstream's connection is still open")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.accepted.fetch_add(1, SeqCst);
            let _open = Count::up(&shared.open);
            converse(&shared, socket).await;
        });
    }
}

/// Answers the requests of one connection, in order.
async fn converse(shared: &Shared, socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let (mut read, mut write) = socket.into_split();
    let mut early = Vec::new();
    while let Some(request) = read_request(&mut read, &mut early).await {
        let act = shared.script.lock().unwrap().next(&request);
        let (plan, bills) = (act.plan(&request), act.bills());
        let index = {
            let mut seen = shared.seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        let _busy = Count::up(&shared.busy);
        let goes_on = tokio::select! {
            goes_on = in_place(shared, play(&mut write, plan)) => goes_on,
            () = left(&mut read, &mut early) => None,
        };
        match goes_on {
            Some(true) => shared.seen.lock().unwrap()[index].billed = bills,
            Some(false) => return,
            None => {
                shared.seen.lock().unwrap()[index].gone = Some(Instant::now());
                return;
            }
        }
    }
}

/// Does it in one of the places, where they are limited.
async fn in_place<T>(shared: &Shared, doing: impl Future<Output = T>) -> T {
    let _place = match shared.places.get() {
        Some(places) => Some(places.acquire().await.unwrap()),
        None => None,
    };
    doing.await
}

/// Writes the plan. Says whether the connection goes on; `None` if the client left.
async fn play(write: &mut (impl AsyncWriteExt + Unpin), plan: Plan) -> Option<bool> {
    for (wait, bytes) in plan.steps {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        write.write_all(&bytes).await.ok()?;
        write.flush().await.ok()?;
    }
    match plan.after {
        After::Reuse => Some(true),
        After::Close => Some(false),
        After::Hang => std::future::pending().await,
    }
}

/// Waits until the client has left. What it sends meanwhile is kept for the next request.
async fn left(read: &mut (impl AsyncRead + Unpin), early: &mut Vec<u8>) {
    while matches!(read.read_buf(early).await, Ok(1..)) {}
}

/// Reads one request; `None` when there is none any more.
async fn read_request(read: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        read.read_buf(buffer).await.ok().filter(|count| *count > 0)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { method, path, headers, body: Value::Null, gone: None, billed: None };
    let length: usize = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    assert!(seen.header("transfer-encoding").is_none(), "the gateway knows the length of what it sends");
    while buffer.len() < length {
        read.read_buf(buffer).await.ok().filter(|count| *count > 0)?;
    }
    let body: Vec<u8> = buffer.drain(..length).collect();
    seen.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(seen)
}

/// Where `needle` begins in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(hay, needle)
}

/// One more, for as long as it lives.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn up(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
