//! The books of one gateway: in memory, with a journal on disk.
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Refusal, Told,
    books::{Account, Books, Change, Claim, Passed},
    journal::Journal,
    now_ms,
};

/// How long changes wait for others before they are brought to the disk together.
const GATHER: Duration = Duration::from_millis(50);
/// How often leases are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often accounts that are over are looked for.
const TIDY: u64 = 60;
/// From this length on the journal is written anew, if half of it is history, in bytes.
const LONG: u64 = 16 << 20;

/// The books of one gateway.
pub struct Local(Arc<Shared>);

struct Shared {
    path: PathBuf,
    max_accounts: usize,
    told: Told,
    open: Mutex<Option<Open>>,
    dirty: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

struct Open {
    books: Books,
    journal: Journal,
    /// Its length when it was last written anew.
    short: u64,
    changes: Vec<Change>,
    passed: Vec<Passed>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(thread) = self.0.thread.lock().take() {
            thread.unpark();
        }
    }
}

impl Local {
    /// The books at `path`. They are read when they are first needed, or by [`Local::open`].
    pub fn new(path: &Path, max_accounts: usize, told: Told) -> Self {
        Self(Arc::new(Shared {
            path: path.to_owned(),
            max_accounts,
            told,
            open: Mutex::default(),
            dirty: AtomicBool::new(false),
            thread: Mutex::default(),
        }))
    }

    /// Reads the books; calls that were under way when they were last written are charged in
    /// full. Blocks.
    ///
    /// # Errors
    /// Why the file cannot be used, in words.
    pub fn open(&self) -> Result<(), String> {
        self.state().map(drop)
    }

    /// Whether there is something to read.
    pub fn exists(&self) -> bool {
        self.0.path.exists()
    }

    /// Sets money aside in every account, or in none.
    pub fn reserve(&self, claims: &[Claim], amount: u64, expires: u64) -> Result<u64, Refusal> {
        let mut state = self.state().map_err(Refusal::Away)?;
        let open = &mut *state;
        open.changes.clear();
        let call = match open.books.reserve(claims, amount, expires, &mut open.changes) {
            Ok(call) => call,
            Err(short) => {
                open.changes.extend(open.books.refused(&short, &mut open.passed));
                // What is told anew after a crash is told twice; that is all.
                let _ = open.commit();
                self.0.after(state);
                return Err(Refusal::Short(short));
            }
        };
        if open.changes.len() > 1 && open.books.len() + open.changes.len() - 1 > self.0.max_accounts {
            return Err(Refusal::Full);
        }
        let committed = open.commit();
        self.0.after(state);
        committed.map(|()| call).map_err(Refusal::Away)
    }

    /// Sets more aside for a call.
    pub fn extend(&self, call: u64, more: u64) -> Result<(), Refusal> {
        let mut state = self.state().map_err(Refusal::Away)?;
        let change = state.books.extend(call, more).map_err(|short| match short {
            Some(short) => Refusal::Short(short),
            None => Refusal::Away("the call's lease has ended".to_owned()),
        })?;
        state.changes.clear();
        state.changes.push(change);
        let committed = state.commit();
        self.0.after(state);
        committed.map_err(Refusal::Away)
    }

    /// Accounts for a call. Where that cannot be written down, memory has it, and the next start
    /// charges the call in full.
    pub fn settle(&self, call: u64, cost: u64) {
        let Ok(mut state) = self.state() else { return };
        let open = &mut *state;
        let on = open.books.accounts_of(call);
        let Some((change, on)) = open.books.settle(call, cost).zip(on) else { return };
        open.changes.clear();
        open.changes.push(change);
        if let Err(error) = open.journal.append(&open.changes) {
            tracing::error!(%error, "the budget journal cannot be written");
        }
        open.books.apply(&open.changes[0]);
        open.changes.clear();
        open.books.marks(&on, &mut open.changes, &mut open.passed);
        let _ = open.commit();
        self.0.after(state);
    }

    /// All accounts, as they are.
    pub fn accounts(&self) -> Vec<Account> {
        // Where there is no file there is nothing to show.
        let state = self.0.open.lock();
        state.as_ref().map(|open| open.books.accounts().cloned().collect()).unwrap_or_default()
    }

    fn state(&self) -> Result<parking_lot::MappedMutexGuard<'_, Open>, String> {
        let mut open = self.0.open.lock();
        if open.is_none() {
            *open = Some(self.0.read()?);
            let shared = Arc::downgrade(&self.0);
            let thread = thread::Builder::new().name("budget".into()).spawn(move || look_after(&shared));
            let thread = thread.map_err(|error| error.to_string())?;
            *self.0.thread.lock() = Some(thread.thread().clone());
        }
        MutexGuard::try_map(open, Option::as_mut).map_err(|_| "the books are closed".to_owned())
    }
}

impl Shared {
    fn read(&self) -> Result<Open, String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let (journal, books, cut) = Journal::open(&self.path).map_err(told)?;
        if cut > 0 {
            tracing::warn!(bytes = cut, "the budget journal ended within a record, which was removed");
        }
        let short = journal.length();
        let mut open = Open { books, journal, short, changes: Vec::new(), passed: Vec::new() };
        open.books.abandon(&mut open.changes);
        let lost = open.changes.iter().filter(|change| matches!(change, Change::Expire { .. })).count();
        open.commit()?;
        if lost > 0 {
            tracing::warn!(
                calls = lost,
                "calls were under way when the gateway ended; they are charged in full"
            );
        }
        Ok(open)
    }

    /// Lets go of the books; what is to be told is told then.
    fn after(&self, mut state: impl std::ops::DerefMut<Target = Open>) {
        let passed = if state.passed.is_empty() { None } else { Some(std::mem::take(&mut state.passed)) };
        drop(state);
        if !self.dirty.swap(true, Ordering::AcqRel)
            && let Some(thread) = &*self.thread.lock()
        {
            thread.unpark();
        }
        passed.into_iter().flatten().for_each(|passed| (self.told)(passed));
    }

    fn tidy(&self, accounts: bool) {
        let mut lock = self.open.lock();
        let Some(open) = lock.as_mut() else { return };
        let now = now_ms();
        open.changes.clear();
        open.books.due(now, &mut open.changes);
        let late = open.changes.iter().filter(|change| matches!(change, Change::Expire { .. })).count();
        if late > 0 {
            tracing::warn!(calls = late, "calls were not accounted for in time; they are charged in full");
        }
        if accounts {
            open.books.over((now / 1000) as i64, &mut open.changes);
        }
        if !open.changes.is_empty() {
            if let Err(error) = open.commit() {
                tracing::error!(error, "the budget journal cannot be written");
            }
            self.dirty.store(true, Ordering::Release);
        }
    }

    fn shorten(&self) {
        let shorter = {
            let mut lock = self.open.lock();
            let Some(open) = lock.as_mut() else { return };
            if open.journal.length() < LONG.max(open.short * 2) {
                return;
            }
            open.journal.shorten(&open.books)
        };
        let written = shorter.write();
        let mut lock = self.open.lock();
        let Some(open) = lock.as_mut() else { return };
        let replaced = written.and_then(|(file, length)| {
            open.short = length;
            open.journal.replace(file, length)
        });
        if let Err(error) = replaced {
            open.journal.stay();
            // It is tried again when the file has doubled once more.
            open.short = open.journal.length();
            tracing::error!(%error, "the budget journal could not be shortened");
        }
    }
}

impl Open {
    /// Writes the changes down, then makes them. On failure none is made.
    fn commit(&mut self) -> Result<(), String> {
        if self.changes.is_empty() {
            return Ok(());
        }
        self.journal.append(&self.changes).map_err(|error| error.to_string())?;
        self.changes.iter().for_each(|change| self.books.apply(change));
        Ok(())
    }
}

/// Brings the journal to the disk, ends leases, keeps the file short.
fn look_after(shared: &Weak<Shared>) {
    for round in 0_u64.. {
        // Woken by the first change after a silence.
        thread::park_timeout(LOOK);
        thread::sleep(GATHER);
        let Some(shared) = shared.upgrade() else { return };
        if shared.dirty.swap(false, Ordering::AcqRel) {
            let file = shared.open.lock().as_ref().map(|open| open.journal.file());
            let synced = file.map_or(Ok(()), |file| file.and_then(|file| file.sync_data()));
            if let Err(error) = synced {
                tracing::error!(%error, "the budget journal cannot be brought to the disk");
            }
            shared.shorten();
        }
        shared.tidy(round % TIDY == 0);
    }
}

/// The accounts of a file, read by itself: what another process would find.
#[cfg(test)]
pub(super) fn read_back(path: &Path) -> std::io::Result<Vec<Account>> {
    let (books, _) = super::journal::read(&std::fs::read(path)?)?;
    Ok(books.accounts().cloned().collect())
}
