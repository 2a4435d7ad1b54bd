//! Notices that files change. Folders are watched, not files: editors and
//! ConfigMaps put a new file in the old one's place. Events only wake: what
//! counts is whether the watched files are others than before, so that a log
//! that grows beside them wakes nobody for long.
use std::{
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// A change often comes in several steps; they are taken for one.
const SETTLE: Duration = Duration::from_millis(200);
/// Steps that never end are not waited for.
const MOST_STEPS: u32 = 10;
/// How often it is looked without being woken: network file systems wake nobody.
const LOOK: Duration = Duration::from_secs(30);
/// The same where nothing can wake us.
const LOOK_BLINDLY: Duration = Duration::from_secs(5);
/// No folder is deeper, unless a link leads in a circle.
const DEEPEST: u32 = 16;

/// A watch on files and folders.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    woken: Arc<Notify>,
    last: u64,
}

impl Watch {
    /// Watches files, and folders with all that is in them. What is not there
    /// yet, or cannot be watched, is looked at from time to time.
    pub fn new(paths: &[PathBuf]) -> Self {
        let woken = Arc::new(Notify::new());
        let wake = woken.clone();
        let notice = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                wake.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(notice)
            .inspect_err(
                |error| tracing::warn!(%error, "files are not watched, but looked at every few seconds"),
            )
            .ok();
        let mut this = Self { paths: Vec::new(), watcher, woken, last: 0 };
        this.follow(paths);
        this.last = fingerprint(&this.paths);
        this
    }

    /// Watches these paths from now on. What changed since the last look is still told.
    pub fn follow(&mut self, paths: &[PathBuf]) {
        let fresh: Vec<PathBuf> = paths.iter().filter(|path| !self.paths.contains(path)).cloned().collect();
        let lost: Vec<PathBuf> = self.paths.iter().filter(|path| !paths.contains(path)).cloned().collect();
        if let Some(watcher) = &mut self.watcher {
            for path in &fresh {
                let (folder, mode) = if path.is_dir() {
                    (path.as_path(), RecursiveMode::Recursive)
                } else {
                    (folder_of(path), RecursiveMode::NonRecursive)
                };
                if folder.is_dir()
                    && let Err(error) = watcher.watch(folder, mode)
                {
                    tracing::warn!(folder = %folder.display(), %error, "a folder is not watched, but looked at from time to time");
                }
            }
        }
        if !fresh.is_empty() || !lost.is_empty() {
            // What was read is as old as the last look: only the new paths begin anew.
            let before = self.last;
            let unchanged = before == fingerprint(&self.paths);
            self.paths = paths.to_vec();
            self.last = if unchanged { fingerprint(&self.paths) } else { before };
        }
    }

    /// Waits until something has changed and the change has settled. May be dropped at any time.
    pub async fn changed(&mut self) {
        let patience = if self.watcher.is_some() { LOOK } else { LOOK_BLINDLY };
        loop {
            // Woken or not: it is looked.
            let _ = timeout(patience, self.woken.notified()).await;
            for _ in 0..MOST_STEPS {
                sleep(SETTLE).await;
                if timeout(Duration::ZERO, self.woken.notified()).await.is_err() {
                    break;
                }
            }
            let paths = self.paths.clone();
            let seen = tokio::task::spawn_blocking(move || fingerprint(&paths)).await;
            if let Ok(seen) = seen
                && seen != self.last
            {
                self.last = seen;
                return;
            }
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What tells the files from what they were: names, sizes, times, and which files they are.
fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        look(path, 0, &mut hasher);
    }
    hasher.finish()
}

fn look(path: &Path, depth: u32, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    // Links are followed: a ConfigMap changes where they lead, and nothing else.
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if !metadata.is_dir() {
        (metadata.len(), metadata.modified().ok(), identity(&metadata)).hash(hasher);
        return;
    }
    if depth == DEEPEST {
        return;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        look(&entry, depth + 1, hasher);
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const NEVER: Duration = Duration::from_millis(900);

    #[tokio::test]
    async fn a_new_file_in_the_old_ones_place_is_noticed_and_a_neighbour_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sluice.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&file));
        fs::write(folder.path().join("audit.jsonl"), "line").unwrap();
        assert!(timeout(NEVER, watch.changed()).await.is_err(), "a neighbour is no change");
        let fresh = folder.path().join("fresh");
        fs::write(&fresh, "b").unwrap();
        fs::rename(&fresh, &file).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        assert!(timeout(NEVER, watch.changed()).await.is_err(), "one change is told once");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_config_map_that_is_swapped_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "a"), ("v2", "b")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("sluice.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/sluice.yaml", at("sluice.yaml")).unwrap();
        let mut watch = Watch::new(&[at("sluice.yaml")]);
        std::os::unix::fs::symlink("v2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn folders_are_watched_with_all_that_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let mut watch = Watch::new(&[folder.path().to_owned()]);
        fs::write(deep.join("new.md"), "# New").unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn what_changes_between_two_waits_is_told_also_when_the_paths_change() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&file));
        fs::write(&file, "22").unwrap();
        watch.follow(&[file, other]);
        timeout(SOON, watch.changed()).await.unwrap();
    }
}
