//! Notices that files change. Folders are watched, not files: editors and
//! ConfigMaps put a new file in the old one's place.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A change often comes in several steps; they are taken for one.
const SETTLE: Duration = Duration::from_millis(200);

/// A watch on some folders.
#[derive(Debug)]
pub struct Watch {
    _watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
    _open: mpsc::Sender<()>,
}

impl Watch {
    /// Watches files by their folders, and folders with all that is in them.
    /// What is not there, or cannot be watched, is left out and logged.
    pub fn new(paths: &[PathBuf]) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let told = sender.clone();
        let notice = move |event: notify::Result<notify::Event>| {
            // A full channel already says that something has changed.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = told.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(notice)
            .inspect_err(|error| tracing::warn!(%error, "files are not watched; SIGHUP reloads"))
            .ok();
        for path in paths {
            let (folder, mode) = match path.is_dir() {
                true => (path.as_path(), RecursiveMode::Recursive),
                false => (folder_of(path), RecursiveMode::NonRecursive),
            };
            if let Some(watcher) = watcher.as_mut().filter(|_| folder.is_dir())
                && let Err(error) = watcher.watch(folder, mode)
            {
                tracing::warn!(folder = %folder.display(), %error, "a folder is not watched; SIGHUP reloads");
            }
        }
        Self { _watcher: watcher, changes, _open: sender }
    }

    /// Waits until something has changed and the change has settled.
    pub async fn changed(&mut self) {
        self.changes.recv().await;
        while tokio::time::timeout(SETTLE, self.changes.recv()).await.is_ok() {}
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
