//! What answers are given once more with: its parts, and the secret that it is sealed with.
use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit,
    auth::Pepper,
    config::Config,
    observe::Metrics,
    replay::{
        Replay,
        replies::{Person, Replies, Who},
        sealed::Root,
        streams::Streams,
    },
    store::{Stores, sql::Kind},
};

/// Makes what gives answers once more. Lasts as long as the process.
pub(super) async fn replay(
    config: &Config,
    root: Root,
    key: audit::Key,
    metrics: &Metrics,
    stores: &Stores,
) -> Replay {
    let Config { idempotency, resume, .. } = config;
    let who: Who = Arc::new(move |tenant, user| Person(key.user(tenant, user)));
    let replies = match idempotency.enabled {
        true => Some(Arc::new(Replies::open(idempotency, root.clone(), who, metrics, stores).await)),
        false => None,
    };
    let tasks = TaskTracker::new();
    let streams = Streams::new(resume, root, metrics, stores.redis.clone(), tasks.clone());
    let streams = resume.enabled.then(|| Arc::new(streams));
    Replay { replies, streams, grace: resume.grace.0, tasks, cut: CancellationToken::new() }
}

/// What kept replies and streams are sealed with, besides what their callers know. A pepper that this
/// gateway made for itself is no other's: where stores are shared, only one that is configured counts.
pub(super) fn root(config: &Config, stores: &Stores, pepper: Option<&Pepper>) -> Root {
    let shared = stores.redis.is_some() || stores.sql.kind() == Kind::Postgres;
    let pepper = pepper.filter(|_| !shared || config.auth.pepper.is_some());
    Root::new(pepper.map(|pepper| pepper.hash(b"sluice replay 2")).as_ref())
}
