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
    sync::{Arc, Mutex, PoisonError},
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
    Files(Arc<Files>),
}

#[derive(Debug)]
struct Files {
    entries: PathBuf,
    notes: PathBuf,
    known: Mutex<Known>,
}

/// What the file of entries is known to say about money: nobody asks for anything else.
#[derive(Debug, Default)]
struct Known {
    entries: Vec<Entry>,
    reader: lines::Reader,
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
        let key = attempt.downstream_key(&effect.step(kind));
        Ok(Self { id, caller: caller.to_owned(), key, attempt: attempt.number(), effect })
    }
}

impl Effect {
    /// A provider goes by the key it is told: money that is asked for anew under a key that an error freed is another step if it is
    /// another amount.
    fn step(&self, kind: &str) -> String {
        match self {
            Self::Charge(charge) => format!("{kind}:{}:{}", charge.amount, charge.currency),
            Self::Refund { payment, amount } => format!("{kind}:{payment}:{amount}"),
            Self::Order { .. } | Self::Event { .. } | Self::Checkout { .. } | Self::Report { .. } => kind.to_owned(),
        }
    }
}

impl Ledger {
    /// Forgotten on exit, and not shared.
    pub(super) fn in_memory() -> Self {
        Self(Place::Memory(Mutex::default()))
    }

    /// In a file, which is created if it is not there. Entries of another program are refused.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut known = Known::default();
        fd_lock::RwLock::new(lines::open(path)?).write().and_then(|file| known.catch_up(&file).map(drop))?;
        let mut notes = path.as_os_str().to_owned();
        notes.push(".notes");
        let files = Files { entries: path.to_owned(), notes: notes.into(), known: Mutex::new(known) };
        Ok(Self(Place::Files(Arc::new(files))))
    }

    /// Adds an entry, however many there are.
    pub(super) async fn append(&self, entry: Entry) -> Result<(), LedgerError> {
        match &self.0 {
            Place::Memory(memory) => {
                memory.lock().unwrap_or_else(PoisonError::into_inner).entries.push(entry);
                Ok(())
            }
            Place::Files(files) => {
                let files = Arc::clone(files);
                blocking(move || locked(&files.entries, |file| write_entry(file, &entry))).await
            }
        }
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
            Place::Files(files) => {
                let files = Arc::clone(files);
                blocking(move || {
                    locked(&files.entries, |file| {
                        files.look(file, rule)??;
                        Ok(write_entry(file, &entry)?)
                    })
                })
                .await
            }
        }
    }

    /// Takes a look at every entry about money, oldest first.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&[Entry]) -> T + Send + 'static,
    ) -> Result<T, LedgerError> {
        match &self.0 {
            Place::Memory(memory) => Ok(look(&memory.lock().unwrap_or_else(PoisonError::into_inner).entries)),
            Place::Files(files) => {
                let files = Arc::clone(files);
                blocking(move || locked(&files.entries, |file| files.look(file, look))).await
            }
        }
    }

    /// Remembers a word that is no effect, beside the ledger. Whether it is new.
    pub(super) async fn note(&self, word: &str) -> Result<bool, LedgerError> {
        match &self.0 {
            Place::Memory(memory) => {
                Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).notes.insert(word.to_owned()))
            }
            Place::Files(files) => {
                let (files, word) = (Arc::clone(files), word.to_owned());
                let note = move |file: &File| {
                    let new = !lines::contain(file, &word)?;
                    if new {
                        write_line(file, &word)?;
                    }
                    Ok(new)
                };
                blocking(move || locked(&files.notes, note)).await
            }
        }
    }
}

impl Files {
    /// At what the file says, by the one who has its lock.
    fn look<T>(&self, file: &File, look: impl FnOnce(&[Entry]) -> T) -> Result<T, LedgerError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(look(known.catch_up(file)?))
    }
}

impl Known {
    /// Reads what was added. A file that is shorter than it was is another one, and read from its start.
    fn catch_up(&mut self, file: &File) -> io::Result<&[Entry]> {
        if self.reader.is_beyond(file)? {
            *self = Self::default();
        }
        let is_money = |entry: &Entry| matches!(entry.effect, Effect::Charge(_) | Effect::Refund { .. });
        self.entries.extend(self.reader.read(file)?.into_iter().filter(is_money));
        Ok(&self.entries)
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
fn locked<T, E: From<LedgerError>>(path: &Path, work: impl FnOnce(&File) -> Result<T, E>) -> Result<T, E> {
    let mut lock = fd_lock::RwLock::new(lines::open(path).map_err(LedgerError::from)?);
    let file = lock.write().map_err(LedgerError::from)?;
    work(&file)
}

fn write_entry(file: &File, entry: &Entry) -> Result<(), LedgerError> {
    write_line(file, &serde_json::to_string(entry).map_err(io::Error::from)?)
}

/// One line, in one write, on the disk when this returns. What could not be written whole is taken back.
fn write_line(file: &File, line: &str) -> Result<(), LedgerError> {
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
