//! Tells gateways that share a Redis, and no database, of erasures, and hears of theirs.
//!
//! An erasure is an entry of a stream in Redis, and each gateway reads on from
//! the last one that it has seen, every two seconds: what it missed while Redis
//! or the way to it was away it reads afterwards. Entries hold no names, but
//! what stands for a user in the audit's records, which gateways with the same
//! key (`auth.pepper`, or `audit.key`) understand alike. One of another key's
//! cannot be told from others: then what is kept of all its tenant's users goes.
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt;

use crate::{
    audit::{
        Key,
        chain::{hex, unhex},
        erase::Forget,
    },
    cache::Cache,
    error::{Error, Result},
    replay::Replay,
    store::redis::{Away, Redis},
};

/// The stream.
const STREAM: &str = "sluice:erasures";
/// How many entries it has, about, and for how many seconds after the last one: longer than anything is kept in memory.
const MOST: u32 = 50_000;
const KEPT: u32 = 7 * 86_400;
/// How often it is looked at, and how many entries are read at a time.
const LOOK: Duration = Duration::from_secs(2);
const AT_ONCE: usize = 500;
/// Clocks may differ by so much: what was erased before this process began is not in its memory.
const SKEW: Duration = Duration::from_secs(300);

/// An entry, as Redis gives it: its id, and names and values in turn.
type Entry = (String, Vec<String>);

/// What forgets here and tells the others; and hears of theirs from now on, as long as the process lasts.
pub(super) fn shared(redis: &Redis, key: &Key, cache: &Arc<Cache>, replay: &Replay, here: Forget) -> Forget {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SKEW);
    let own: Arc<str> = hex(&rand::random::<[u8; 16]>()).into();
    let follower = Follower {
        redis: redis.clone(),
        key: key.clone(),
        cache: cache.clone(),
        replay: replay.clone(),
        here: here.clone(),
        own: own.clone(),
        seen: format!("{}-0", began.as_millis()),
    };
    tokio::spawn(follower.run());
    let (redis, key) = (redis.clone(), key.clone());
    Arc::new(move |tenant, whose| {
        let (redis, key, here, own) = (redis.clone(), key.clone(), here.clone(), own.clone());
        async move {
            here(tenant.clone(), whose).await?;
            let mut add = redis::pipe();
            add.cmd("XADD").arg(STREAM).arg("MAXLEN").arg("~").arg(MOST).arg("*");
            add.arg("key").arg(key.name()).arg("tenant").arg(&*tenant).arg("user").arg(hex(&whose));
            add.arg("by").arg(&*own).ignore();
            add.cmd("EXPIRE").arg(STREAM).arg(KEPT).ignore();
            redis.pipeline::<()>(&add).await.map_err(|away| Error::StoreAway(away.into()))
        }
        .boxed()
    })
}

struct Follower {
    redis: Redis,
    key: Key,
    cache: Arc<Cache>,
    replay: Replay,
    here: Forget,
    /// What stands for this gateway: what was erased here is not erased again, with what was said since.
    own: Arc<str>,
    /// The last entry that was done.
    seen: String,
}

impl Follower {
    async fn run(mut self) {
        let mut clock = tokio::time::interval(LOOK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            // Redis says itself when it is away; what is not done is done the next time.
            if let Err(error) = self.look().await {
                tracing::debug!(error = error.chain(), "erasures of other gateways cannot be followed yet");
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        loop {
            let mut read = redis::cmd("XRANGE");
            read.arg(STREAM).arg(format!("({}", self.seen)).arg("+").arg("COUNT").arg(AT_ONCE);
            let entries = self.redis.command::<Vec<Entry>>(&read).await;
            let entries = entries.map_err(|away: Away| Error::StoreAway(away.into()))?;
            let whole = entries.len() == AT_ONCE;
            for (id, fields) in entries {
                self.done(&fields).await?;
                self.seen = id;
            }
            if !whole {
                return Ok(());
            }
        }
    }

    async fn done(&self, fields: &[String]) -> Result<()> {
        let field = |name: &str| {
            fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| &*pair[1]).unwrap_or_default()
        };
        let (tenant, cache) = (field("tenant"), self.cache.clone());
        if field("by") == &*self.own {
            return Ok(());
        }
        if field("key") == self.key.name()
            && let Some(whose) = unhex(field("user"))
        {
            return (self.here)(tenant.into(), whose).await;
        }
        tracing::warn!(
            tenant,
            "another gateway erased a user, and has another key: all that is cached of the tenant is forgotten; \
             `auth.pepper` or `audit.key` has to be the same where gateways share a Redis"
        );
        let (of, owner): (Arc<str>, Arc<str>) = (tenant.into(), tenant.into());
        let erased = tokio::task::spawn_blocking(move || cache.erase(move |tenant, _| *tenant == *of));
        erased.await.map_err(Error::internal)?;
        if let Some(streams) = &self.replay.streams {
            let theirs = move |tenant: &str, _: &str| *tenant == *owner;
            streams.erase(theirs).await.map_err(|away| Error::StoreAway(away.into()))?;
        }
        Ok(())
    }
}
