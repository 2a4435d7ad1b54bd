//! Where the audit's anchors go: the log, a file, an address of the operator's.
use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::{
    audit::{
        Settings,
        anchor::{Anchor, Anchored},
    },
    provider::post::Post,
};

/// Anchors that may wait to be written and sent. The next one says more than those that are left out.
const MOST_WAITING: usize = 64;
/// How often an address is tried for one anchor, and how long each further try waits.
const ATTEMPTS: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);

/// What hears of anchors, from the audit's thread: it does not wait for a disk or a network.
///
/// # Errors
/// An address that is none; in words.
pub(super) fn start(settings: &Settings) -> Result<Anchored, String> {
    let post = settings.anchor_url.as_deref().map(Post::new).transpose();
    let post = post.map_err(|why| format!("`audit.anchor_url`: {why}"))?;
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let elsewhere = settings.anchor_file.is_some() || post.is_some();
    if elsewhere {
        tokio::spawn(tell(receiver, settings.anchor_file.clone(), post));
    }
    Ok(Arc::new(move |anchor: Anchor| {
        tracing::info!(chain = %anchor.chain, seq = anchor.seq, hash = anchor.hash, "audit anchor");
        if elsewhere && sender.try_send(anchor).is_err() {
            tracing::warn!("an audit anchor was not told elsewhere: too many wait");
        }
    }))
}

async fn tell(mut anchors: mpsc::Receiver<Anchor>, file: Option<PathBuf>, post: Option<Post>) {
    while let Some(anchor) = anchors.recv().await {
        let line = serde_json::to_string(&anchor).unwrap_or_default() + "\n";
        if let Some(path) = file.clone() {
            let bytes = line.clone();
            let written = tokio::task::spawn_blocking(move || append(&path, bytes.as_bytes())).await;
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "`audit.anchor_file` could not be written"),
                Err(error) => tracing::error!(%error, "`audit.anchor_file` could not be written"),
            }
        }
        if let Some(post) = &post {
            send(post, &Bytes::from(line)).await;
        }
    }
}

fn append(path: &Path, line: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(line)?;
    file.sync_data()
}

async fn send(post: &Post, body: &Bytes) {
    for attempt in 1..=ATTEMPTS {
        let why = match post.send(body, &HeaderMap::new()).await {
            Ok(status) if status.is_success() => return,
            Ok(status) => format!("status {status}"),
            Err(error) => error.chain(),
        };
        tracing::warn!(why, attempt, "an audit anchor was not taken by `audit.anchor_url`");
        if attempt < ATTEMPTS {
            tokio::time::sleep(AGAIN).await;
        }
    }
}
