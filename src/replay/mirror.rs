//! What streams say, in Redis, so that another gateway can go on with them.
//!
//! A stream is a Redis Stream whose entries are named by how many bytes were
//! said with them: an entry that is written twice is there once, and what is
//! older than the bound is cut by name. Beside it, one key lives as long as
//! the gateway that writes, and one as long as somebody reads elsewhere.
use std::{
    future::poll_fn,
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::Script;
use subtle::ConstantTimeEq;
use tokio::time::{sleep, timeout};

use super::{
    recording::{Read, Start},
    sealed::{Root, Seal},
    settings::Resume as Settings,
    streams::{Id, Stream},
};
use crate::{
    caller::Rights,
    store::redis::{Away, Redis},
};

/// How often a gateway that writes says that it is there, and how long that holds.
const BEAT: Duration = Duration::from_secs(2);
const ALIVE: Duration = Duration::from_secs(8);
/// How soon, and how often, what Redis did not take is tried again.
const AGAIN: Duration = Duration::from_millis(250);
const MOST_TRIES: usize = 40;
/// Entries that are read at a time.
const BATCH: usize = 64;

/// Writes an entry, unless it is there. `KEYS`: what is said, who writes.
/// `ARGV`: the entry's name (none: no entry), its kind, its text, the oldest
/// name that stays, how long it stays, how long the writer is there (0: it is
/// done), both in milliseconds.
static SAY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if ARGV[1] ~= '' then
           local done = redis.pcall('XADD', KEYS[1], 'MINID', '~', ARGV[4], ARGV[1], ARGV[2], ARGV[3])
           if type(done) == 'table' and done.err and not string.find(done.err, 'equal or smaller', 1, true) then
             return done
           end
         end
         redis.call('PEXPIRE', KEYS[1], ARGV[5])
         if ARGV[6] == '0' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], '1', 'PX', ARGV[6]) end
         return 1",
    )
});
/// Reads entries. `KEYS`: what is said, who writes, who reads. `ARGV`: the
/// name to go on after, how many, how long the reader is there in milliseconds
/// (0: nobody reads). Whether somebody writes, then name, kind and text of each.
static HEAR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local out = {tostring(redis.call('EXISTS', KEYS[2]))}
         if ARGV[3] ~= '0' and out[1] == '1' then redis.call('SET', KEYS[3], '1', 'PX', ARGV[3]) end
         for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
           out[#out + 1] = entry[1]
           out[#out + 1] = entry[2][1]
           out[#out + 1] = entry[2][2]
         end
         return out",
    )
});

/// A way to the streams in Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    redis: Redis,
    root: Root,
    grace: Duration,
    keep: Duration,
    most: u64,
}

/// What another gateway said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Where the first piece stands, and for which request; absent where there is none.
    pub(super) start: Option<(Start, Arc<str>)>,
    /// The pieces, one after the other.
    pub(super) text: Vec<u8>,
    /// Whether the stream is over.
    pub(super) over: bool,
    /// Whether somebody writes it.
    pub(super) alive: bool,
    /// Whether there is more to read right now.
    pub(super) more: bool,
}

fn millis(span: Duration) -> u64 {
    (span.as_millis() as u64).max(1)
}

impl Mirror {
    pub(super) fn new(redis: Redis, root: Root, settings: &Settings) -> Self {
        let (grace, keep) = (settings.grace.0, settings.keep.0);
        Self { redis, root, grace, keep, most: settings.max_stream.0 as u64 }
    }

    /// What a stream is kept under: the stream's name is part of what opens it, and is not told.
    fn keys(&self, id: Id) -> [String; 3] {
        let digest = self.root.digest(&[b"stream", id.as_str().as_bytes()]);
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        // In braces: all three are in one place of a Redis Cluster.
        ["said", "alive", "wanted"].map(|what| format!("sluice:stream:{{{name}}}:{what}"))
    }

    /// The name of a new stream of who shows this API key.
    pub(super) fn name(&self, shown: &str, owner: &Rights) -> Id {
        Id::random().marked(|words| self.mark(shown, owner, words))
    }

    /// Whether a gateway gave this name to a stream of who shows this API key.
    pub(super) fn named(&self, id: Id, shown: &str, owner: &Rights) -> bool {
        let named = id.marked(|words| self.mark(shown, owner, words));
        named.as_str().as_bytes().ct_eq(id.as_str().as_bytes()).into()
    }

    fn mark(&self, shown: &str, owner: &Rights, words: &[u8]) -> [u8; 32] {
        let (tenant, id) = (owner.tenant.name.as_bytes(), owner.id.as_bytes());
        self.root.digest(&[b"mark", shown.as_bytes(), tenant, id, words])
    }

    /// The seal of a stream.
    pub(super) fn seal(&self, shown: &str, owner: &Rights, id: Id) -> Seal {
        self.root.seal(shown, owner, id.as_str())
    }

    /// Whether Redis is there.
    pub(super) fn is_up(&self) -> bool {
        self.redis.is_up()
    }

    /// Writes what a stream says, to its end.
    pub(super) async fn copy(&self, stream: &Stream, seal: &Seal) -> Result<(), Away> {
        let (mut reader, mut start) = stream.recording.copied();
        let place = stream.place();
        loop {
            if stream.is_erased() {
                return self.forget(stream.id).await;
            }
            match timeout(BEAT, poll_fn(|cx| reader.poll(cx))).await {
                Ok(Read::Piece(piece)) => {
                    let mut text = start.packed(&stream.request);
                    text.extend_from_slice(&piece);
                    start.go_on(&piece);
                    let name = format!("{}-0", start.at);
                    let sealed = seal.close(place.as_bytes(), text).unwrap_or_default();
                    self.say(stream.id, &name, "d", &sealed, start.at, ALIVE).await?;
                }
                Ok(Read::End) => {
                    let name = format!("{}-1", start.at);
                    return self.say(stream.id, &name, "e", b"-", start.at, Duration::ZERO).await;
                }
                // Redis was too slow for it: another gateway hears nothing rather than half of it.
                Ok(Read::Lost) => {
                    let [said, alive, _] = self.keys(stream.id);
                    return self.redis.command(redis::cmd("DEL").arg(said).arg(alive)).await;
                }
                Err(_) => self.say(stream.id, "", "", b"", start.at, ALIVE).await?,
            }
        }
    }

    async fn say(
        &self,
        id: Id,
        name: &str,
        kind: &str,
        text: &[u8],
        at: u64,
        alive: Duration,
    ) -> Result<(), Away> {
        let [said, writer, _] = self.keys(id);
        let oldest = at.saturating_sub(self.most);
        let alive = alive.as_millis() as u64;
        // A stream that is spoken is kept while it is: its time begins at its end.
        let keep = millis(self.keep.max(ALIVE));
        for tries in 1.. {
            let mut call = SAY.key(&said);
            call.key(&writer).arg(name).arg(kind).arg(text).arg(oldest).arg(keep).arg(alive);
            match self.redis.run::<i64>(&call).await {
                Ok(_) => break,
                Err(away) if tries >= MOST_TRIES => return Err(away),
                Err(_) => sleep(AGAIN).await,
            }
        }
        Ok(())
    }

    /// Reads what was said after `last`, an entry's name, which it sets. `None`: it cannot be opened.
    pub(super) async fn hear(
        &self,
        id: Id,
        place: &str,
        seal: &Seal,
        last: &mut String,
        reads: bool,
    ) -> Result<Option<Heard>, Away> {
        let [said, writer, wanted] = self.keys(id);
        let wanted_for = if reads { millis(self.grace) } else { 0 };
        let from = if last.is_empty() { "-".to_owned() } else { format!("({last}") };
        let mut call = HEAR.key(&said);
        call.key(&writer).key(&wanted).arg(from).arg(BATCH).arg(wanted_for);
        let found: Vec<Vec<u8>> = self.redis.run(&call).await?;
        let Some((alive, entries)) = found.split_first() else { return Ok(None) };
        let mut heard = Heard { alive: alive == b"1", ..Heard::default() };
        heard.more = entries.len() >= 3 * BATCH;
        for entry in entries.chunks_exact(3) {
            *last = String::from_utf8_lossy(&entry[0]).into_owned();
            if entry[1] == b"e" {
                heard.over = true;
                continue;
            }
            // Sealed for somebody else, or torn: as good as nothing.
            let text = seal.open(place.as_bytes(), entry[2].clone());
            let Some((start, request, piece)) = text.as_deref().and_then(Start::unpacked) else {
                tracing::warn!("a kept stream cannot be opened: its reader has to ask anew");
                return Ok(None);
            };
            heard.start.get_or_insert_with(|| (start, request.into()));
            heard.text.extend_from_slice(piece);
        }
        Ok(Some(heard))
    }

    /// Deletes what a stream said. Whoever still writes it begins no other.
    pub(super) async fn forget(&self, id: Id) -> Result<(), Away> {
        let [said, alive, _] = self.keys(id);
        self.redis.command::<i64>(redis::cmd("DEL").arg(said).arg(alive)).await.map(|_| ())
    }

    /// Whether somebody reads it elsewhere, or did so a moment ago.
    pub(super) async fn is_wanted(&self, id: Id) -> bool {
        let [_, _, wanted] = self.keys(id);
        self.redis.command::<i64>(redis::cmd("EXISTS").arg(wanted)).await == Ok(1)
    }
}
