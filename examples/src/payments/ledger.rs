//! What happened: one entry per effect, never changed and never removed.
//!
//! In a file an entry is one line of JSON. Replicas share the file: each takes its lock, writes one line and waits until
//! the disk has it. What a killed replica left half written is no entry; a whole line is one.

use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use idem_runtime::Attempt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::psp::Charge;
use crate::lines;

/// One effect, whose it is and what it was carried out under.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) caller: String,
    /// The same for every attempt at one operation, and never the caller's own key: a provider that is told this one
    /// recognizes a second attempt, and two operations under one key of the caller do not meet.
    pub(super) key: String,
    pub(super) attempt: u32,
    #[serde(flatten)]
    pub(super) effect: Effect,
}

/// What happened. Amounts are in the currency's smallest unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub(super) enum Effect {
    Charge(Charge),
    Refund { payment: String, amount: NonZeroU32 },
    Order { order: String, items: usize },
    Event { event: Map<String, Value> },
    Checkout { cart: String, basket: Map<String, Value> },
    Report { payments: usize },
}

/// All effects, in memory or in a file.
#[derive(Debug)]
pub(super) struct Ledger(Place);

#[derive(Debug)]
enum Place {
    Memory(Mutex<Memory>),
    File { entries: PathBuf, notes: PathBuf },
}

#[derive(Debug, Default)]
struct Memory {
    entries: Vec<Entry>,
    notes: HashSet<String>,
}

/// Why the ledger could not be used.
#[derive(Debug)]
pub(super) enum LedgerError {
    /// Nothing changed.
    NotWritten(io::Error),
    /// The line may be there or not.
    MaybeWritten(io::Error),
}

impl Entry {
    /// An entry with a new id, `KIND_` and 16 hex digits.
    pub(super) fn new(kind: &str, caller: &str, attempt: &Attempt, effect: Effect) -> Result<Self, LedgerError> {
        let id = format!("{kind}_{:016x}", getrandom::u64().map_err(io::Error::other)?);
        Ok(Self { id, caller: caller.to_owned(), key: attempt.downstream_key(kind), attempt: attempt.number(), effect })
    }
}

impl Ledger {
    /// Forgotten on exit, and not shared.
    pub(super) fn in_memory() -> Self {
        Self(Place::Memory(Mutex::default()))
    }

    /// In a file, which is created if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        open(path)?;
        let mut notes = path.as_os_str().to_owned();
        notes.push(".notes");
        Ok(Self(Place::File { entries: path.to_owned(), notes: notes.into() }))
    }

    /// Adds an entry.
    pub(super) async fn append(&self, entry: Entry) -> Result<(), LedgerError> {
        self.append_if(entry, |_| Ok(())).await
    }

    /// Adds an entry if `rule` agrees after a look at all that is there. No other entry comes in between.
    pub(super) async fn append_if<E>(
        &self,
        entry: Entry,
        rule: impl FnOnce(&[Entry]) -> Result<(), E> + Send + 'static,
    ) -> Result<(), E>
    where
        E: From<LedgerError> + Send + 'static,
    {
        match &self.0 {
            Place::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                rule(&memory.entries)?;
                memory.entries.push(entry);
                Ok(())
            }
            Place::File { entries, .. } => {
                let path = entries.clone();
                blocking(move || {
                    locked(&path, |file| {
                        rule(&read(file)?)?;
                        let line = serde_json::to_string(&entry).map_err(|e| LedgerError::from(io::Error::from(e)))?;
                        Ok(write_line(file, &line)?)
                    })
                })
                .await
            }
        }
    }

    /// Every entry, oldest first.
    pub(super) async fn entries(&self) -> Result<Vec<Entry>, LedgerError> {
        match &self.0 {
            Place::Memory(memory) => Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).entries.clone()),
            Place::File { entries, .. } => {
                let path = entries.clone();
                blocking(move || locked(&path, read)).await
            }
        }
    }

    /// Remembers a word that is no effect, beside the ledger. Whether it is new.
    pub(super) async fn note(&self, word: &str) -> Result<bool, LedgerError> {
        match &self.0 {
            Place::Memory(memory) => {
                Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).notes.insert(word.to_owned()))
            }
            Place::File { notes, .. } => {
                let (path, word) = (notes.clone(), word.to_owned());
                blocking(move || {
                    locked(&path, |file| {
                        let new = lines::read(file)?.lines().all(|line| line != word);
                        if new {
                            write_line(file, &word)?;
                        }
                        Ok(new)
                    })
                })
                .await
            }
        }
    }
}

/// Files block, and an executor must not.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<LedgerError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The work panicked or the runtime is going away: it may have got as far as the write.
        Err(error) => Err(LedgerError::MaybeWritten(io::Error::other(error)).into()),
    }
}

/// Runs `work` on the file while no other replica does.
fn locked<T, E: From<LedgerError>>(path: &Path, work: impl FnOnce(&mut File) -> Result<T, E>) -> Result<T, E> {
    let mut lock = fd_lock::RwLock::new(open(path).map_err(LedgerError::from)?);
    let mut file = lock.write().map_err(LedgerError::from)?;
    work(&mut file)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).open(path)
}

fn read(file: &mut File) -> Result<Vec<Entry>, LedgerError> {
    let entries = lines::read(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Ok(entries.map_err(io::Error::from)?)
}

/// One line, in one write, on the disk when this returns. What could not be written whole is taken back.
fn write_line(file: &mut File, line: &str) -> Result<(), LedgerError> {
    let before = lines::mend(file)?;
    let written = lines::append(file, line).and_then(|()| file.sync_data());
    written.map_err(|error| match file.set_len(before).and_then(|()| file.sync_data()) {
        Ok(()) => LedgerError::NotWritten(error),
        Err(_) => LedgerError::MaybeWritten(error),
    })
}

impl From<io::Error> for LedgerError {
    fn from(error: io::Error) -> Self {
        Self::NotWritten(error)
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten(error) => write!(f, "the ledger could not be used, nothing happened: {error}"),
            Self::MaybeWritten(error) => write!(f, "the ledger failed halfway: {error}"),
        }
    }
}
