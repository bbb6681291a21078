//! What an event does: a row of a table, or a line of a ledger.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use idem_runtime::consumer::Event;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, SqlitePool};

use crate::lines;

/// Effects that are counted in the end.
#[derive(Debug, Clone)]
pub(super) enum Effects {
    /// Lines of a file.
    Lines(Ledger),
    /// Rows in the database of a `PostgresStore`.
    Postgres(PgPool),
    /// Rows in the file of a `SqliteStore`.
    Sqlite(SqlitePool),
}

/// A file that processes append to, one line per effect.
#[derive(Debug, Clone)]
pub(super) struct Ledger(Arc<Mutex<fd_lock::RwLock<File>>>);

/// How many effects there are, and of how many events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) effects: u64,
    pub(super) events: u64,
}

/// One effect: a row, or a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Effect {
    /// Whose events they are.
    pub(super) run: String,
    pub(super) event: String,
    pub(super) worker: String,
}

/// The same text for both databases. Nothing in the table keeps an event from having two rows: that is for idem to do.
const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS events_effects (run TEXT NOT NULL, event TEXT NOT NULL, worker TEXT NOT NULL)";
pub(super) const INSERT: &str = "INSERT INTO events_effects (run, event, worker) VALUES ($1, $2, $3)";
const COUNT: &str = "SELECT count(*), count(DISTINCT event) FROM events_effects WHERE run = $1";
const ROWS: &str = "SELECT event, worker FROM events_effects WHERE run = $1 ORDER BY event";

impl Effect {
    /// The same, of this event.
    pub(super) fn of(&self, event: &Event) -> Self {
        Self { event: event.id().unwrap_or_default().to_owned(), ..self.clone() }
    }
}

impl Effects {
    /// Makes the table, where there is one.
    pub(super) async fn create(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Postgres(pool) => sqlx::query(TABLE).execute(pool).await.map(|_| ()),
            Self::Sqlite(pool) => sqlx::query(TABLE).execute(pool).await.map(|_| ()),
        }
    }

    /// Those of this run.
    pub(super) async fn count(&self, run: &str) -> Result<Count, String> {
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        let (effects, events) = match self {
            Self::Lines(ledger) => return ledger.count(run).map_err(|error| error.to_string()),
            Self::Postgres(pool) => sqlx::query_as::<_, (i64, i64)>(COUNT).bind(run).fetch_one(pool).await,
            Self::Sqlite(pool) => sqlx::query_as::<_, (i64, i64)>(COUNT).bind(run).fetch_one(pool).await,
        }
        .map_err(|error| error.to_string())?;
        Ok(Count { effects: whole(effects), events: whole(events) })
    }

    /// Copies the rows of this run to a ledger.
    pub(super) async fn copy_to(&self, ledger: &Ledger, run: &str) -> Result<(), String> {
        let rows: Vec<(String, String)> = match self {
            Self::Lines(_) => return Ok(()),
            Self::Postgres(pool) => sqlx::query_as(ROWS).bind(run).fetch_all(pool).await,
            Self::Sqlite(pool) => sqlx::query_as(ROWS).bind(run).fetch_all(pool).await,
        }
        .map_err(|error| error.to_string())?;
        for (event, worker) in rows {
            ledger.append(&Effect { run: run.to_owned(), event, worker }).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Ledger {
    /// The file is created if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file =
            lines::open(path).map_err(|error| format!("cannot open the ledger `{}`: {error}", path.display()))?;
        Ok(Self(Arc::new(Mutex::new(fd_lock::RwLock::new(file)))))
    }

    /// The same, where every line must be an effect.
    pub(super) fn open_ours(path: &Path) -> Result<Self, String> {
        let ledger = Self::open(path)?;
        ledger.effects().map_err(|error| format!("cannot use the ledger `{}`: {error}", path.display()))?;
        Ok(ledger)
    }

    /// Adds the effect of an event. When this returns, the kernel has the line; the disk may not.
    pub(super) async fn add(&self, effect: Effect) -> Result<(), io::Error> {
        let ledger = self.clone();
        // Files block, and an executor must not.
        tokio::task::spawn_blocking(move || ledger.append(&effect)).await.map_err(io::Error::other)?
    }

    fn append(&self, effect: &Effect) -> Result<(), io::Error> {
        let line = serde_json::to_string(effect)?;
        self.locked(|file| {
            let before = lines::mend(file)?;
            // Half a line is taken back.
            lines::append(file, &line).or_else(|error| file.set_len(before).and(Err(error)))
        })
    }

    fn count(&self, run: &str) -> Result<Count, io::Error> {
        let (mut effects, mut events) = (0, HashSet::new());
        for effect in self.effects()?.into_iter().filter(|effect| effect.run == run) {
            effects += 1;
            events.insert(effect.event);
        }
        Ok(Count { effects, events: events.len() as u64 })
    }

    fn effects(&self) -> io::Result<Vec<Effect>> {
        self.locked(|file| lines::Reader::default().read(file))
    }

    /// Nobody else reads or writes meanwhile.
    fn locked<T>(&self, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(&*file.write()?)
    }
}
