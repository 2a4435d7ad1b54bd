//! What native streams have said, for readers who come back with `Last-Event-ID`.
use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::{runtime::Handle, time::sleep};
use tokio_util::task::TaskTracker;

use super::{
    known::{ENTRY, Known},
    mirror::{Heard, Mirror},
    recording::Recording,
    room::{Budget, Share},
    sealed::{Root, Seal},
    settings::Resume as Settings,
};
use crate::{
    caller::{Caller, Rights},
    observe::Metrics,
    store::redis::{Away, Redis},
};

/// How often another gateway's stream is listened to, and while nobody here reads it.
const LISTEN: Duration = Duration::from_millis(50);
const LISTEN_IDLY: Duration = Duration::from_millis(500);
/// How long the first words of another gateway's stream are waited for.
const COMES: Duration = Duration::from_secs(1);
/// How long another gateway's stream is waited for while Redis is away.
const DEAF: Duration = Duration::from_secs(30);
/// What is said where another gateway's stream breaks off.
const BROKEN: &[u8] =
    b"data: [ERROR: the gateway that wrote this answer has gone; ask anew]\n\ndata: [DONE]\n\n";

/// The name of a stream: 96 random bits, so that nobody guesses another's, and a mark of 48. Where
/// gateways share their streams, the mark tells a name that one of them gave from one that nobody did.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id([u8; ID]);

/// A name's letters, and those of them that are random.
const ID: usize = 24;
const RANDOM: usize = 16;

impl Id {
    /// A new one, with a mark that says nothing.
    pub fn random() -> Self {
        let mut text = [0; ID];
        // Eighteen bytes are twenty-four letters, always.
        let _ = URL_SAFE_NO_PAD.encode_slice(rand::random::<[u8; 18]>(), &mut text);
        Self(text)
    }

    /// The same random letters, with the mark that `mark` makes of them.
    pub(super) fn marked(mut self, mark: impl FnOnce(&[u8]) -> [u8; 32]) -> Self {
        let (words, place) = self.0.split_at_mut(RANDOM);
        let _ = URL_SAFE_NO_PAD.encode_slice(&mark(words)[..6], place);
        self
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an event: its stream, and its number within it, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The stream.
    pub stream: Id,
    /// The number.
    pub event: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream.as_str(), self.event)
    }
}

impl FromStr for EventId {
    type Err = ();

    /// Reads what [`fmt::Display`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (stream, event) = text.split_at_checked(ID).ok_or(())?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let digits = event.strip_prefix('-').filter(|digits| {
            (1..=12).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (*digits == "0" || !digits.starts_with('0'))
        });
        let stream: [u8; ID] = stream.as_bytes().try_into().map_err(|_| ())?;
        if !stream.iter().all(|byte| letter(*byte)) {
            return Err(());
        }
        Ok(Self { stream: Id(stream), event: digits.ok_or(())?.parse().map_err(|_| ())? })
    }
}

/// A stream that is kept.
#[derive(Debug)]
pub struct Stream {
    /// Its name.
    pub id: Id,
    /// The id of the request that it answers.
    pub request: Arc<str>,
    /// What it has said.
    pub recording: Arc<Recording>,
    owner: Arc<Rights>,
    /// Who asked.
    user: Option<Arc<str>>,
    /// Whether it is to be forgotten.
    erased: AtomicBool,
    /// Whether another gateway writes it.
    pub foreign: bool,
    /// Its tenant's part of the memory.
    share: Arc<Share>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.share.give_back(ENTRY);
    }
}

impl Stream {
    /// Whose it is.
    pub(super) fn tenant(&self) -> &Arc<str> {
        &self.owner.tenant.name
    }

    /// Whose it is, and which: what is sealed for one is for no other.
    pub(super) fn place(&self) -> String {
        place(self.id, &self.owner)
    }

    /// Whether it is to be forgotten.
    pub(super) fn is_erased(&self) -> bool {
        self.erased.load(Acquire)
    }
}

fn place(id: Id, owner: &Rights) -> String {
    format!("{}\0{}\0{}", id.as_str(), owner.id, owner.tenant.name)
}

/// The streams that run, and those that ended lately.
#[derive(Debug)]
pub struct Streams {
    known: Mutex<Known>,
    budget: Arc<Budget>,
    /// The settings.
    pub settings: Settings,
    bytes: IntGauge,
    mirror: Option<Mirror>,
    tasks: TaskTracker,
}

impl Streams {
    /// None yet. What they say goes to Redis, too, where there is one.
    pub fn new(
        settings: &Settings,
        root: Root,
        metrics: &Metrics,
        redis: Option<Redis>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            known: Mutex::default(),
            budget: Budget::new(settings.max_bytes.0),
            settings: settings.clone(),
            bytes: metrics.resume_bytes.clone(),
            mirror: redis.map(|redis| Mirror::new(redis, root, settings)),
            tasks,
        }
    }

    /// A stream begins. One that is `lasting` outlives its readers, and its writer waits for them.
    /// `shown` is the API key that its caller shows.
    pub fn begin(
        self: &Arc<Self>,
        owner: &Caller,
        request: &Arc<str>,
        lasting: bool,
        shown: impl FnOnce() -> String,
    ) -> Recorder {
        let share = self.known.lock().share(owner.tenant(), &self.budget);
        let recording = Recording::new(self.settings.max_stream.0, share.clone(), lasting);
        let Some(mirror) = &self.mirror else {
            let stream = self.keep(Id::random(), owner, request.clone(), (recording, share), false);
            return Recorder { streams: self.clone(), stream, copied: None };
        };
        let shown = shown();
        let id = mirror.name(&shown, &owner.rights);
        let stream = self.keep(id, owner, request.clone(), (recording, share), false);
        let seal = mirror.seal(&shown, &owner.rights, id);
        let copied = Copied { seal, mirror: mirror.clone(), stream: stream.clone() };
        let mut recorder = Recorder { streams: self.clone(), stream, copied: None };
        // What ends with its reader is copied when it has ended, all at once.
        match lasting {
            true => drop(self.tasks.spawn(copied.run())),
            false => recorder.copied = Some(copied),
        }
        recorder
    }

    fn keep(
        &self,
        id: Id,
        owner: &Caller,
        request: Arc<str>,
        (recording, share): (Recording, Arc<Share>),
        foreign: bool,
    ) -> Arc<Stream> {
        let recording = Arc::new(recording);
        let (user, erased) = (owner.user.clone(), AtomicBool::new(false));
        let owner = owner.rights.clone();
        let stream = Arc::new(Stream { id, request, recording, owner, user, erased, foreign, share });
        self.known.lock().streams.insert(id, stream.clone());
        stream
    }

    /// Forgets the streams of those whom `theirs` names by tenant and user, here and where this gateway wrote them for
    /// others. Who reads one right now reads it to its end.
    ///
    /// # Errors
    /// Redis did not take part: what is there is sealed, and ends by itself.
    pub async fn erase(&self, theirs: impl Fn(&str, &str) -> bool) -> Result<(), Away> {
        let gone: Vec<Arc<Stream>> = {
            let mut known = self.known.lock();
            let theirs = |stream: &&Arc<Stream>| {
                stream.user.as_ref().is_some_and(|user| theirs(&stream.owner.tenant.name, user))
            };
            let gone: Vec<_> = known.streams.values().filter(theirs).cloned().collect();
            gone.iter().for_each(|stream| drop(known.streams.remove(&stream.id)));
            gone
        };
        for stream in &gone {
            stream.erased.store(true, Release);
            if let Some(mirror) = &self.mirror {
                mirror.forget(stream.id).await?;
            }
        }
        drop(gone);
        self.bytes.set(self.budget.used() as i64);
        Ok(())
    }

    /// Whether what other gateways' streams say cannot be heard right now.
    pub fn is_deaf(&self) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| !mirror.is_up())
    }

    /// Whether somebody reads a stream at another gateway.
    pub async fn is_read_elsewhere(&self, id: Id) -> bool {
        match &self.mirror {
            Some(mirror) => mirror.is_wanted(id).await,
            None => false,
        }
    }

    /// A stream of this caller's that another gateway writes, or wrote. A name that no gateway gave
    /// is not looked up.
    ///
    /// # Errors
    /// Redis cannot be asked: whether there is one is not known.
    pub async fn fetch(
        self: &Arc<Self>,
        caller: &Caller,
        id: Id,
        shown: &str,
    ) -> Result<Option<Arc<Stream>>, Away> {
        let named = |mirror: &&Mirror| mirror.named(id, shown, &caller.rights);
        let Some(mirror) = self.mirror.as_ref().filter(named).cloned() else { return Ok(None) };
        let seal = mirror.seal(shown, &caller.rights, id);
        let place = place(id, &caller.rights);
        let mut last = String::new();
        let until = Instant::now() + COMES;
        let (mut first, (start, request)) = loop {
            let Some(mut heard) = mirror.hear(id, &place, &seal, &mut last, true).await? else {
                return Ok(None);
            };
            match heard.start.take() {
                Some(start) => break (heard, start),
                // Its reader may be quicker here than its first words are.
                None if last.is_empty() && Instant::now() < until => sleep(LISTEN / 2).await,
                None => return Ok(None),
            }
        };
        while first.more && !first.over {
            let Some(next) = mirror.hear(id, &place, &seal, &mut last, true).await? else {
                return Ok(None);
            };
            first.text.extend_from_slice(&next.text);
            (first.more, first.over) = (next.more, next.over);
        }
        // Another reader may have fetched it in the meantime.
        if let Some(stream) = self.find(caller, id) {
            return Ok(Some(stream));
        }
        let share = self.known.lock().share(caller.tenant(), &self.budget);
        let recording = Recording::seeded(self.settings.max_stream.0, share.clone(), start);
        let stream = self.keep(id, caller, request, (recording, share), true);
        let recorder = Recorder { streams: self.clone(), stream: stream.clone(), copied: None };
        recorder.append(&first.text);
        if !first.over {
            // A process that ends waits for its readers, not for what they would read.
            tokio::spawn(listen(recorder, mirror, seal, place, last));
        }
        Ok(Some(stream))
    }

    /// A stream of this caller's. Somebody else's is as good as none.
    pub fn find(&self, caller: &Caller, id: Id) -> Option<Arc<Stream>> {
        self.tidy();
        let stream = self.known.lock().streams.get(&id)?.clone();
        let same = stream.owner.id == caller.rights.id && stream.owner.tenant.name == *caller.tenant();
        same.then_some(stream)
    }

    /// Forgets what ended long ago, and, where room is wanted, what ended first of those who take the most.
    fn tidy(&self) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut known = self.known.lock();
        while let Some(late) = known.forget_late(now) {
            gone.push(late);
        }
        // What is taken out is dropped below, and only then gives its memory back.
        if gone.is_empty() && self.budget.is_over() {
            gone.extend(known.make_room());
        }
        drop(known);
        drop(gone);
        self.bytes.set(self.budget.used() as i64);
    }
}

/// Writes on what another gateway says, until it has said all or has gone.
async fn listen(recorder: Recorder, mirror: Mirror, seal: Seal, place: String, mut last: String) {
    let (id, recording) = (recorder.stream.id, recorder.stream.recording.clone());
    let mut deaf = Duration::ZERO;
    loop {
        let reads = recording.has_readers();
        let pause = if reads { LISTEN } else { LISTEN_IDLY };
        let Ok(heard) = mirror.hear(id, &place, &seal, &mut last, reads).await else {
            deaf += pause;
            if deaf > DEAF {
                return recorder.append(BROKEN);
            }
            sleep(pause).await;
            continue;
        };
        deaf = Duration::ZERO;
        let Some(Heard { text, over, alive, more, .. }) = heard else { return recorder.append(BROKEN) };
        if !text.is_empty() {
            recorder.append(&text);
        }
        if over {
            return;
        }
        if !alive && text.is_empty() {
            return recorder.append(BROKEN);
        }
        if !more {
            sleep(pause).await;
        }
    }
}

/// A stream on its way to Redis.
#[derive(Debug)]
struct Copied {
    mirror: Mirror,
    seal: Seal,
    stream: Arc<Stream>,
}

impl Copied {
    async fn run(self) {
        if self.stream.is_erased() {
            return;
        }
        if let Err(error) = self.mirror.copy(&self.stream, &self.seal).await {
            tracing::debug!(%error, request_id = %self.stream.request, "another gateway cannot go on with a stream");
        }
    }
}

/// Writes what a stream says. Dropped, the stream is over.
#[derive(Debug)]
pub struct Recorder {
    streams: Arc<Streams>,
    /// The stream.
    pub stream: Arc<Stream>,
    /// What is still to be done for other gateways.
    copied: Option<Copied>,
}

impl Recorder {
    /// Writes whole events.
    pub fn append(&self, events: &[u8]) {
        self.stream.recording.append(events);
        if self.streams.budget.is_over() {
            self.streams.tidy();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stream.recording.finish();
        let until = Instant::now() + self.streams.settings.keep.0;
        self.streams.known.lock().end(until, &self.stream);
        self.streams.tidy();
        if let (Some(copied), Ok(_)) = (self.copied.take(), Handle::try_current()) {
            self.streams.tasks.spawn(copied.run());
        }
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
