//! One gateway a folder: the journal's lock, taken before anything of a gateway is opened or made.
//!
//! The system lets go of it with the process, however that ends. What the file
//! holds says that a gateway has kept records in the folder: a start that failed
//! before that leaves the file empty, and no doubt about records that never were.
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    journal,
    settings::{Durability, Settings},
};

/// The file's name, in the journal's folder.
const NAME: &str = "lock";
/// What it holds once records were kept.
const USED: &[u8] = b"used\n";

/// A journal's folder that is this process's alone.
#[derive(Debug)]
pub struct Lock {
    file: File,
    folder: PathBuf,
    was_used: bool,
}

impl Lock {
    /// Takes the folder of these settings, and makes it where there is none; `None` where no records are kept. Blocks.
    ///
    /// # Errors
    /// Another gateway has it, or it cannot be used; in words.
    pub fn take(settings: &Settings) -> Result<Option<Self>, String> {
        if settings.durability == Durability::Off {
            return Ok(None);
        }
        let folder = &settings.folder;
        Self::of(folder).map(Some).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => format!(
                "another gateway runs with the same folder for its audit, `{}`, and nothing was touched: stop that \
                 one first, or give this one an `audit.folder` (and `store.sqlite`, `budget.journal`) of its own",
                folder.display()
            ),
            _ => unusable(folder, &error.to_string()),
        })
    }

    /// The same for a folder, in the system's words.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(NAME))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self { file, folder: folder.to_owned(), was_used: was_used(folder) })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a gateway had kept records here before.
    pub(super) fn was_used(&self) -> bool {
        self.was_used
    }

    /// Says that records are kept here, from now on.
    pub(super) fn use_it(&self) -> io::Result<()> {
        if self.file.metadata()?.len() == 0 {
            (&self.file).write_all(USED)?;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// Why a folder cannot be used, for whoever starts the gateway.
pub(super) fn unusable(folder: &Path, why: &str) -> String {
    format!(
        "the audit's journal, `{}`, cannot be used: {why}; `audit.folder` names another place, and \
         `audit.durability: off` does without records",
        folder.display()
    )
}

/// Whether a gateway has kept records in a folder.
pub(super) fn was_used(folder: &Path) -> bool {
    fs::metadata(folder.join(NAME)).is_ok_and(|found| found.len() > 0)
        || journal::segments(folder).is_ok_and(|segments| !segments.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_do_not_have_a_folder_and_a_start_that_failed_leaves_it_unused() {
        let place = tempfile::tempdir().unwrap();
        let settings = Settings { folder: place.path().join("audit"), ..Settings::default() };
        for used in [false, false, true] {
            let lock = Lock::take(&settings).unwrap().unwrap();
            assert!(!lock.was_used());
            let why = Lock::take(&settings).unwrap_err();
            assert!(why.contains("another gateway runs with the same folder"), "{why}");
            if used {
                lock.use_it().unwrap();
            }
        }
        assert!(Lock::take(&settings).unwrap().unwrap().was_used());
        let off = Settings { durability: Durability::Off, folder: place.path().join("none"), ..settings };
        assert!(Lock::take(&off).unwrap().is_none() && !off.folder.exists());
        let broken = Settings { folder: place.path().join("file/audit"), ..Settings::default() };
        fs::write(place.path().join("file"), "").unwrap();
        assert!(Lock::take(&broken).unwrap_err().contains("cannot be used"));
    }
}
