//! Notices that files change. Folders are watched, not files: editors and
//! ConfigMaps put a new file in the old one's place. Events only wake: what
//! counts is whether the watched files are others than before, so that a log
//! that grows beside them wakes nobody for long.
use std::{
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use self::events::Events;

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
    events: Option<Events>,
    last: u64,
}

impl Watch {
    /// Watches files, and folders with all that is in them. What is not there
    /// yet, or cannot be watched, is looked at from time to time. To be called
    /// within a runtime.
    pub fn new(paths: &[PathBuf]) -> Self {
        let events = Events::new()
            .inspect_err(
                |error| tracing::warn!(%error, "files are not watched, but looked at every few seconds"),
            )
            .ok();
        let mut this = Self { paths: Vec::new(), events, last: 0 };
        this.follow(paths);
        this.last = fingerprint(&this.paths);
        this
    }

    /// Watches these paths from now on. What changed since the last look is still told.
    pub fn follow(&mut self, paths: &[PathBuf]) {
        if let Some(events) = &mut self.events {
            events.follow(&folders(paths));
        }
        if paths != self.paths {
            // What was read is as old as the last look: only the new paths begin anew.
            let before = self.last;
            let unchanged = before == fingerprint(&self.paths);
            self.paths = paths.to_vec();
            self.last = if unchanged { fingerprint(&self.paths) } else { before };
        }
    }

    /// Waits until something has changed and the change has settled. May be dropped at any time.
    pub async fn changed(&mut self) {
        loop {
            // Woken or not: it is looked.
            match &mut self.events {
                Some(events) => {
                    let _ = timeout(LOOK, events.next()).await;
                    for _ in 0..MOST_STEPS {
                        if timeout(SETTLE, events.next()).await.is_err() {
                            break;
                        }
                    }
                }
                None => sleep(LOOK_BLINDLY).await,
            }
            let paths = self.paths.clone();
            let look = tokio::task::spawn_blocking(move || (fingerprint(&paths), folders(&paths)));
            let Ok((seen, folders)) = look.await else { continue };
            if let Some(events) = &mut self.events {
                events.follow(&folders);
            }
            if seen != self.last {
                self.last = seen;
                return;
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod events {
    use std::{io, path::PathBuf};

    use futures_util::StreamExt;
    use inotify::{EventStream, Inotify, WatchMask};

    /// What the kernel tells of folders.
    pub(super) struct Events(EventStream<[u8; 4096]>);

    impl std::fmt::Debug for Events {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Events")
        }
    }

    impl Events {
        pub(super) fn new() -> io::Result<Self> {
            Inotify::init()?.into_event_stream([0; 4096]).map(Self)
        }

        /// Hears of these folders, too; of one that it knows nothing changes.
        pub(super) fn follow(&mut self, folders: &[PathBuf]) {
            // Not of each write: a log beside a watched file would wake us all the time.
            let mask = WatchMask::CREATE
                | WatchMask::CLOSE_WRITE
                | WatchMask::DELETE
                | WatchMask::MOVED_FROM
                | WatchMask::MOVED_TO
                | WatchMask::ONLYDIR;
            for folder in folders {
                if let Err(error) = self.0.watches().add(folder, mask) {
                    tracing::warn!(folder = %folder.display(), %error, "a folder is not watched, but looked at from time to time");
                }
            }
        }

        /// Waits for the next event. May be dropped at any time.
        pub(super) async fn next(&mut self) {
            if !matches!(self.0.next().await, Some(Ok(_))) {
                // Nothing more is told: what is left is looking.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod events {
    use std::{io, path::PathBuf};

    /// Elsewhere it is only looked.
    #[derive(Debug)]
    pub(super) enum Events {}

    impl Events {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }

        pub(super) fn follow(&mut self, _: &[PathBuf]) {
            match *self {}
        }

        pub(super) async fn next(&mut self) {
            match *self {}
        }
    }
}

/// The folders whose events tell of changes of `paths`.
fn folders(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for path in paths {
        if path.is_dir() {
            descend(path, 0, &mut folders);
        } else if folder_of(path).is_dir() {
            folders.push(folder_of(path).to_owned());
        }
    }
    folders
}

fn descend(folder: &Path, depth: u32, folders: &mut Vec<PathBuf>) {
    folders.push(folder.to_owned());
    if depth < DEEPEST {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        for entry in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            descend(&entry, depth + 1, folders);
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
