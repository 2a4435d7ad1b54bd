//! The books of one gateway: in memory, with a journal on disk.
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Refusal, Told,
    books::{Account, Books, Change, Passed},
    claim::Claim,
    journal::Journal,
    now_ms,
};

/// Where something was written so lately, something will be again in a moment.
const RECENT: Duration = Duration::from_millis(1);
/// How long changes that nobody waits for may wait for others to be written with.
const SOON: Duration = Duration::from_millis(5);
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
    /// When something was last written.
    wrote: Instant,
    /// Whether the last write failed.
    failing: bool,
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
        self.0.write();
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

    /// Sets money aside in every account, or in none. When this has come back, it is written down.
    ///
    /// Calls of one moment share a write: who comes first to put something down steps back
    /// once, so that others who are ready can join.
    pub async fn reserve(&self, claims: &[Claim], amount: u64, expires: u64) -> Result<u64, Refusal> {
        let begun = self.begin(claims, amount, expires)?;
        tokio::task::yield_now().await;
        begun.written()
    }

    fn begin(&self, claims: &[Claim], amount: u64, expires: u64) -> Result<Begun<'_>, Refusal> {
        let mut state = self.state().map_err(Refusal::Away)?;
        let open = &mut *state;
        open.changes.clear();
        let call = match open.books.reserve(claims, amount, expires, &mut open.changes) {
            Ok(call) => call,
            Err(short) => {
                open.changes.extend(open.books.refused(&short, &mut open.passed));
                open.make();
                self.0.after(state);
                return Err(Refusal::Short(short));
            }
        };
        if open.changes.len() > 1 && !open.books.has_room(&open.changes, self.0.max_accounts) {
            return Err(Refusal::Full);
        }
        open.has_place().map_err(Refusal::Away)?;
        let place = open.make();
        self.0.after(state);
        Ok(Begun { books: self, call, place, kept: false })
    }

    /// Sets more aside for a call.
    pub async fn extend(&self, call: u64, more: u64) -> Result<(), Refusal> {
        let place = {
            let mut state = self.state().map_err(Refusal::Away)?;
            let change = state.books.extend(call, more).map_err(|short| match short {
                Some(short) => Refusal::Short(short),
                None => Refusal::Away("the call's lease has ended".to_owned()),
            })?;
            state.has_place().map_err(Refusal::Away)?;
            state.changes.clear();
            state.changes.push(change);
            let place = state.make();
            self.0.after(state);
            place
        };
        tokio::task::yield_now().await;
        // What could not be written is free again when the call is settled.
        self.write(place).map_err(Refusal::Away)
    }

    /// Accounts for a call. It is written down with what is set aside next, or in a moment.
    pub fn settle(&self, call: u64, cost: u64) {
        let Ok(mut state) = self.state() else { return };
        let open = &mut *state;
        let on = open.books.accounts_of(call);
        let Some((change, on)) = open.books.settle(call, cost).zip(on) else { return };
        open.changes.clear();
        open.changes.push(change);
        open.make();
        open.changes.clear();
        open.books.marks(&on, &mut open.changes, &mut open.passed);
        open.make();
        if open.books.is_idle() || open.wrote.elapsed() > RECENT {
            // Nobody comes in a moment by whom it could be written. Failure is seen by who writes next.
            let _ = open.write();
        }
        self.0.after(state);
    }

    fn write(&self, place: u64) -> Result<(), String> {
        let mut state = self.state()?;
        if state.journal.has(place) { Ok(()) } else { state.write() }
    }

    /// Writes what waits to be written.
    pub fn flush(&self) {
        self.0.write();
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
        let (wrote, changes, passed) = (Instant::now(), Vec::new(), Vec::new());
        let mut open = Open { books, journal, wrote, failing: false, short, changes, passed };
        open.books.abandon(&mut open.changes);
        let lost = open.changes.iter().filter(|change| matches!(change, Change::Expire { .. })).count();
        open.make();
        open.write()?;
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
        if !open.changes.is_empty() && open.has_place().is_ok() {
            open.make();
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Writes what waits. Whether there is something new for the disk.
    fn write(&self) -> bool {
        let mut lock = self.open.lock();
        let Some(open) = lock.as_mut() else { return false };
        if open.write().is_err() {
            // Tried again: it must not be forgotten when nobody comes any more.
            self.dirty.store(true, Ordering::Release);
        }
        true
    }

    fn sync(&self) {
        let file = self.open.lock().as_ref().map(|open| open.journal.file());
        let synced = file.map_or(Ok(()), |file| file.and_then(|file| file.sync_data()));
        if let Err(error) = synced {
            tracing::error!(%error, "the budget journal cannot be brought to the disk");
        }
    }

    fn shorten(&self) {
        let shorter = {
            let mut lock = self.open.lock();
            let Some(open) = lock.as_mut() else { return };
            if open.journal.length() < LONG.max(open.short * 2) {
                return;
            }
            // What waits would be in both: in the books, and behind them.
            if open.write().is_err() {
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
    /// Makes the changes, and puts them down to be written. Tells their place.
    fn make(&mut self) -> u64 {
        self.changes.iter().for_each(|change| self.books.apply(change));
        self.journal.place(&self.changes)
    }

    /// Whether more may be put down.
    fn has_place(&mut self) -> Result<(), String> {
        if self.failing || self.journal.is_full() { self.write() } else { Ok(()) }
    }

    /// Writes what waits. The log hears when that begins to fail, and when it works again.
    fn write(&mut self) -> Result<(), String> {
        let written = self.journal.write();
        self.wrote = Instant::now();
        match &written {
            Err(error) if !self.failing => {
                tracing::error!(%error, "the budget journal cannot be written; calls under a budget are refused");
            }
            Ok(()) if self.failing => tracing::info!("the budget journal is written again"),
            _ => {}
        }
        self.failing = written.is_err();
        written.map_err(|error| error.to_string())
    }
}

/// Money that is set aside, but perhaps not written down. Dropped as it is, it is free again.
struct Begun<'a> {
    books: &'a Local,
    call: u64,
    place: u64,
    kept: bool,
}

impl Begun<'_> {
    fn written(mut self) -> Result<u64, Refusal> {
        self.books.write(self.place).map_err(Refusal::Away)?;
        self.kept = true;
        Ok(self.call)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.books.settle(self.call, 0);
        }
    }
}

/// Writes what waits, brings it to the disk, ends leases, keeps the file short.
fn look_after(shared: &Weak<Shared>) {
    let (mut unsynced, mut synced, mut tidied, mut round) = (false, Instant::now(), Instant::now(), 1_u64);
    loop {
        if !unsynced {
            // Woken by the first change after a silence.
            thread::park_timeout(LOOK);
        }
        thread::sleep(SOON);
        let Some(shared) = shared.upgrade() else { return };
        if shared.dirty.swap(false, Ordering::AcqRel) {
            unsynced |= shared.write();
        }
        if unsynced && synced.elapsed() >= GATHER {
            shared.sync();
            (unsynced, synced) = (false, Instant::now());
            shared.shorten();
        }
        if tidied.elapsed() >= LOOK {
            shared.tidy(round % TIDY == 0);
            (round, tidied) = (round + 1, Instant::now());
        }
    }
}

/// The accounts of a file, read by itself: what another process would find.
#[cfg(test)]
pub(super) fn read_back(path: &Path) -> std::io::Result<Vec<Account>> {
    let (books, _) = super::journal::read(&std::fs::read(path)?)?;
    Ok(books.accounts().cloned().collect())
}

#[cfg(test)]
impl Local {
    /// Sets money aside without waiting for others.
    pub(super) fn reserve_now(&self, claims: &[Claim], amount: u64, expires: u64) -> Result<u64, Refusal> {
        self.begin(claims, amount, expires)?.written()
    }

    /// Puts another file in the place of the journal's.
    pub(super) fn swap_file(&self, file: std::fs::File) -> std::fs::File {
        let mut state = self.state().unwrap();
        state.journal.swap_file(file)
    }
}
