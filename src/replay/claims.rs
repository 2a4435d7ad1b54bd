//! Claims and replies in Redis, which several gateways share.
//!
//! A claim is a lease: it is renewed while the request is being answered, and
//! ends soon after a gateway that died.
use std::{sync::LazyLock, time::Duration};

use redis::Script;
use tokio::task::JoinHandle;

use super::{
    kept::{Name, Person, Print, now},
    shelf::Row,
};
use crate::store::redis::{Away, Redis};

/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(15);

/// Claims a key where it is free. `KEYS[1]`; `ARGV`: the claim, its time in milliseconds. The value that was there, or nothing.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local was = redis.call('GET', KEYS[1])
         if was then return was end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return false",
    )
});
/// Puts a value in the place of a claim, or where nothing is. `ARGV`: the claim, the value, its time in milliseconds.
static KEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local was = redis.call('GET', KEYS[1])
         if was and was ~= ARGV[1] then return 0 end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         return 1",
    )
});
/// Claims a key whose value is of no use. `ARGV`: that value, the claim, its time in milliseconds.
static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local was = redis.call('GET', KEYS[1])
         if was and was ~= ARGV[1] then return 0 end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         return 1",
    )
});
/// Lets a claim go. `ARGV`: the claim.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
    )
});
/// Renews a claim. `ARGV`: the claim, its time in milliseconds.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
         return 0",
    )
});

/// Notes what is kept for a person, and forgets what is over. `KEYS[1]`; `ARGV`: the name, until when it is kept,
/// the time now, both in milliseconds since 1970.
static NOTE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
         redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
         local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
         redis.call('PEXPIREAT', KEYS[1], last[2])
         return 1",
    )
});

/// What a value begins with: a claim, or a reply.
const RUNNING: u8 = b'r';
const KEPT: u8 = b'K';

/// What a key stands for, as all gateways see it.
#[derive(Debug)]
pub(super) enum Shared {
    /// It is ours.
    Claimed(Lease),
    /// A request that is being answered.
    Running(Print),
    /// A request that was answered.
    Kept(Answered),
    /// A value that makes no sense.
    Torn(Vec<u8>),
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) print: Print,
    /// Until when its reply is kept, in microseconds since 1970.
    pub(super) ends: i64,
    /// Whose question it answers.
    pub(super) person: Option<Person>,
    /// The value, whole; the reply is its end.
    value: Vec<u8>,
}

impl Answered {
    /// The reply, sealed.
    pub(super) fn sealed(&self) -> &[u8] {
        self.value.get(HEAD..).unwrap_or_default()
    }

    /// All that stands there.
    pub(super) fn into_value(self) -> Vec<u8> {
        self.value
    }
}

/// What stands before a reply: what it is, its request, its end, whose it is (zeros: nobody's).
const HEAD: usize = ENDS + 16;
const ENDS: usize = 1 + 32 + 8;

/// A claim of ours. Dropped, it is let go.
#[derive(Debug)]
pub(super) struct Lease {
    redis: Redis,
    key: String,
    claim: Vec<u8>,
    renewal: JoinHandle<()>,
    kept: bool,
}

/// Looks what a key stands for, and claims it where it is free, or where this same claim
/// came to Redis before, and the answer did not come back.
pub(super) async fn claim(redis: &Redis, name: Name, claim: Vec<u8>) -> Result<Shared, Away> {
    let key = key(name);
    let was: Option<Vec<u8>> = redis.run(CLAIM.key(&key).arg(&claim[..]).arg(millis(LEASE))).await?;
    let Some(was) = was.filter(|was| *was != claim) else {
        return Ok(Shared::Claimed(Lease::new(redis.clone(), key, claim)));
    };
    let print = was.get(1..33).and_then(|bytes| Some(Print(bytes.try_into().ok()?)));
    let ends = was.get(33..ENDS).and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
    let person = was.get(ENDS..HEAD).and_then(|bytes| Some(Person(bytes.try_into().ok()?)));
    let named = person.filter(|person| person.0 != [0; 16]);
    Ok(match (was.first(), print, ends) {
        (Some(&RUNNING), Some(print), _) => Shared::Running(print),
        (Some(&KEPT), Some(print), Some(ends)) if person.is_some() => {
            Shared::Kept(Answered { print, ends, person: named, value: was })
        }
        _ => Shared::Torn(was),
    })
}

/// Claims a key whose value is of no use, unless it has another since.
pub(super) async fn replace(
    redis: &Redis,
    name: Name,
    print: Print,
    was: &[u8],
) -> Result<Option<Lease>, Away> {
    let (key, claim) = (key(name), fresh(print));
    let done: i64 = redis.run(REPLACE.key(&key).arg(was).arg(&claim[..]).arg(millis(LEASE))).await?;
    Ok((done == 1).then(|| Lease::new(redis.clone(), key, claim)))
}

/// Puts a reply where nothing is, or where `claim` is. Tells whether it is there.
pub(super) async fn publish(redis: &Redis, row: &Row, claim: &[u8]) -> Result<bool, Away> {
    let left = u64::try_from((row.ends - now()) / 1000).unwrap_or(0).max(1);
    put(redis, &key(row.name), claim, row, left).await
}

/// Deletes all that is kept for a person.
pub(super) async fn erase(redis: &Redis, person: Person) -> Result<(), Away> {
    let of = of(person);
    let names: Vec<String> = redis.command(redis::cmd("ZRANGE").arg(&of).arg(0).arg(-1)).await?;
    for name in names {
        redis.command::<i64>(redis::cmd("DEL").arg(format!("sluice:idempotency:{name}"))).await?;
    }
    redis.command::<i64>(redis::cmd("DEL").arg(of)).await.map(|_| ())
}

fn of(person: Person) -> String {
    format!("sluice:idempotency:of:{}", person.hex())
}

async fn put(redis: &Redis, key: &str, claim: &[u8], row: &Row, left: u64) -> Result<bool, Away> {
    if let Some(person) = row.person {
        // First: what nobody notes could not be erased.
        let mut note = NOTE.key(of(person));
        redis.run::<i64>(note.arg(row.name.hex()).arg(row.ends / 1000 + 1).arg(now() / 1000)).await?;
    }
    let mut value = Vec::with_capacity(HEAD + row.sealed.len());
    value.push(KEPT);
    value.extend_from_slice(&row.print.0);
    value.extend_from_slice(&row.ends.to_le_bytes());
    value.extend_from_slice(&row.person.map_or([0; 16], |person| person.0));
    value.extend_from_slice(&row.sealed);
    let done: i64 = redis.run(KEEP.key(key).arg(claim).arg(value).arg(left)).await?;
    Ok(done == 1)
}

fn key(name: Name) -> String {
    format!("sluice:idempotency:{}", name.hex())
}

/// A claim that nobody else has.
pub(super) fn fresh(print: Print) -> Vec<u8> {
    [&[RUNNING][..], &print.0, &rand::random::<[u8; 16]>()].concat()
}

fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}

impl Lease {
    fn new(redis: Redis, key: String, claim: Vec<u8>) -> Self {
        let (store, of, what) = (redis.clone(), key.clone(), claim.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                // Renewed in vain, it ends, and another gateway may answer, too: that is the price of an outage.
                let _ = store.run::<i64>(RENEW.key(&of).arg(&what[..]).arg(millis(LEASE))).await;
            }
        });
        Self { redis, key, claim, renewal, kept: false }
    }

    /// Puts the reply in the place of the claim. Tells whether it is there. Where it is not,
    /// [`publish`] can do it later, with [`Lease::claim`].
    pub(super) async fn keep(&mut self, row: &Row, keep: Duration) -> bool {
        self.kept = true;
        put(&self.redis, &self.key, &self.claim, row, millis(keep).max(1)).await == Ok(true)
    }

    /// What stands in Redis while it runs.
    pub(super) fn claim(&self) -> Vec<u8> {
        self.claim.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        let (false, Ok(runtime)) = (self.kept, tokio::runtime::Handle::try_current()) else { return };
        let (redis, key, claim) =
            (self.redis.clone(), std::mem::take(&mut self.key), std::mem::take(&mut self.claim));
        runtime.spawn(async move {
            // In vain, it ends by itself.
            let _ = redis.run::<i64>(RELEASE.key(key).arg(claim)).await;
        });
    }
}
