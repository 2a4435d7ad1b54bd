//! Forgets a user: what this process keeps of what they asked and were answered, and what it shares with
//! others besides the database's records: answers for equal questions, replies for repeats, streams for readers who come back.
use std::sync::Arc;

use futures_util::FutureExt;

use crate::{
    audit::{Key, erase::Forget},
    cache::Cache,
    error::Error,
    replay::{Replay, replies::Person},
};

/// What does it, told who: by the tenant, and by what stands for the user in records.
pub(super) fn forgets(cache: Arc<Cache>, replay: Replay, key: Key) -> Forget {
    let key = Arc::new(key);
    Arc::new(move |tenant, whose| {
        let (cache, replay, key) = (cache.clone(), replay.clone(), key.clone());
        async move {
            let theirs = move |of: &str, user: &str| *of == *tenant && key.user(of, user) == whose;
            let also = theirs.clone();
            // Every answer is looked at.
            tokio::task::spawn_blocking(move || cache.erase(also)).await.map_err(Error::internal)?;
            if let Some(replies) = &replay.replies {
                replies.erase(Person(whose)).await.map_err(|away| Error::StoreAway(away.into()))?;
            }
            if let Some(streams) = &replay.streams {
                streams.erase(theirs).await.map_err(|away| Error::StoreAway(away.into()))?;
            }
            Ok(())
        }
        .boxed()
    })
}
