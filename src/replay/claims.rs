//! Claims and replies in Redis, which several gateways share.
//!
//! A claim is a lease: it is renewed while the request is being answered, and
//! ends soon after a gateway that died.
use std::{sync::LazyLock, time::Duration};

use redis::Script;
use tokio::task::JoinHandle;

use super::kept::{Name, Print};
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

/// What a value begins with: a claim, or a reply.
const RUNNING: u8 = b'r';
const KEPT: u8 = b'k';

/// What a key stands for, as all gateways see it.
#[derive(Debug)]
pub(super) enum Shared {
    /// It is ours.
    Claimed(Lease),
    /// A request that is being answered.
    Running(Print),
    /// A request that was answered: until when its reply is kept, in microseconds since 1970, and the reply.
    Kept(Print, i64, Vec<u8>),
}

/// A claim of ours. Dropped, it is let go.
#[derive(Debug)]
pub(super) struct Lease {
    redis: Redis,
    key: String,
    claim: Vec<u8>,
    renewal: JoinHandle<()>,
    kept: bool,
}

/// Looks what a key stands for, and claims it where it is free.
pub(super) async fn claim(redis: &Redis, name: Name, print: Print) -> Result<Shared, Away> {
    let key = format!("sluice:idempotency:{}", name.hex());
    let mut claim = vec![RUNNING];
    claim.extend_from_slice(&print.0);
    claim.extend_from_slice(&rand::random::<[u8; 16]>());
    let lease = LEASE.as_millis() as u64;
    let was: Option<Vec<u8>> = redis.run(CLAIM.key(&key).arg(&claim[..]).arg(lease)).await?;
    let Some(was) = was else { return Ok(Shared::Claimed(Lease::new(redis.clone(), key, claim))) };
    let print = |bytes: &[u8]| Some(Print(bytes.get(1..33)?.try_into().ok()?));
    let read = match was.first() {
        Some(&RUNNING) => print(&was).map(Shared::Running),
        Some(&KEPT) => print(&was).and_then(|print| {
            let ends = i64::from_le_bytes(was.get(33..41)?.try_into().ok()?);
            Some(Shared::Kept(print, ends, was.get(41..)?.to_vec()))
        }),
        _ => None,
    };
    read.ok_or_else(|| Away::Refused("the value is none of ours".into()))
}

impl Lease {
    fn new(redis: Redis, key: String, claim: Vec<u8>) -> Self {
        let (store, of, what) = (redis.clone(), key.clone(), claim.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                let lease = LEASE.as_millis() as u64;
                // Renewed in vain, it ends, and another gateway may answer, too: that is the price of an outage.
                let _ = store.run::<i64>(RENEW.key(&of).arg(&what[..]).arg(lease)).await;
            }
        });
        Self { redis, key, claim, renewal, kept: false }
    }

    /// Puts the reply in the place of the claim. Tells whether it is there.
    pub(super) async fn keep(&mut self, print: Print, ends: i64, sealed: &[u8], keep: Duration) -> bool {
        let mut value = vec![KEPT];
        value.extend_from_slice(&print.0);
        value.extend_from_slice(&ends.to_le_bytes());
        value.extend_from_slice(sealed);
        let keep = (keep.as_millis() as u64).max(1);
        self.kept = true;
        let mut put = KEEP.key(&self.key);
        put.arg(&self.claim[..]).arg(value).arg(keep);
        self.redis.run::<i64>(&put).await == Ok(1)
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
