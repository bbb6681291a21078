//! The statements, on one connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, Error, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    fault::{self, Fault},
    host::Boot,
    step::{Change, Found, Step, Time, Timeline},
};
use crate::{
    clock::{Clock, SystemClock},
    key::StorageKey,
    store::{
        Fence, Parked, ParkedRecord,
        row::{Columns, Record, State, number},
    },
};

/// The tables, as text.
pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// The version of [`SCHEMA`].
const VERSION: i64 = 1;

const VERSION_FOUND: &str = "SELECT version FROM idem_schema WHERE id = 1";
const BOOT: &str = "SELECT last_fence, boot, booted FROM idem_schema WHERE id = 1";
const SAVE_BOOT: &str = "UPDATE idem_schema SET boot = ?1, booted = ?2 WHERE id = 1";
const TABLE_FOUND: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'idem_schema'";
const READ: &str = include_str!("read.sql");
const PUT: &str = include_str!("put.sql");
const REMOVE: &str = "DELETE FROM idem_records WHERE key = ?1";
const SAVE_FENCE: &str = "UPDATE idem_schema SET last_fence = ?1 WHERE id = 1";
const PARKED: &str = include_str!("parked.sql");
const DROP: &str = include_str!("drop.sql");
const TRIM: &str = include_str!("trim.sql");

/// Takes the file's write lock, as the first statement of a transaction without a snapshot that could be too old, and
/// changes nothing. The savepoint makes a transaction where the caller has none.
const ENTER: &str = "SAVEPOINT idem_step; DELETE FROM idem_records WHERE 0";
const PATIENCE: &str = "PRAGMA busy_timeout";
const LEAVE: &str = "RELEASE idem_step";
const UNDO: &str = "ROLLBACK TO idem_step; RELEASE idem_step";

/// Between two tries for the lock.
const TURN: Duration = Duration::from_millis(2);

/// Requires the tables, or makes them where there are none.
pub(super) async fn require_schema(connection: &mut SqliteConnection, create: bool) -> Result<(), Fault> {
    // One that may write: a file that cannot be written to is told now.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if sqlx::query_scalar::<_, i64>(TABLE_FOUND).fetch_one(&mut *transaction).await? == 0 {
        if !create {
            return Err(Fault::misconfigured(
                "the file has no tables of the store: call `SqliteStore::migrate`, or run `SqliteStore::SCHEMA`",
            ));
        }
        sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
    }
    match sqlx::query_scalar::<_, i64>(VERSION_FOUND).fetch_optional(&mut *transaction).await? {
        Some(VERSION) => {}
        Some(other) => {
            return Err(Fault::misconfigured(format!(
                "the file's tables are of version {other}, this program knows {VERSION}: update the older of the two"
            )));
        }
        None => return Err(gone()),
    }
    // Whether every column is there.
    read(&mut transaction, &StorageKey::from_bytes([0; 32])).await?;
    parked(&mut transaction, &Parked::first(0)).await?;
    transaction.commit().await?;
    Ok(())
}

/// The clock that all who opened the file on this host go by.
pub(super) async fn host_clock(connection: &mut SqliteConnection) -> Result<Arc<dyn Clock>, Fault> {
    let Some(boot) = Boot::read() else { return Ok(Arc::new(SystemClock::new())) };
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let row = sqlx::query(BOOT).fetch_optional(&mut *transaction).await?.ok_or_else(gone)?;
    let known = row.try_get::<Option<String>, _>("boot")?.as_ref() == Some(&boot.id);
    let booted = match row.try_get::<Option<i64>, _>("booted")?.map(u64::try_from) {
        Some(Ok(booted)) if known => booted,
        _ => {
            let last = u64::try_from(row.try_get::<i64, _>("last_fence")?).map_err(|_| gone())?;
            let booted = boot.started_at(SystemClock::new().now().max(last));
            sqlx::query(SAVE_BOOT).bind(&boot.id).bind(number(booted)).execute(&mut *transaction).await?;
            booted
        }
    };
    transaction.commit().await?;
    Ok(Arc::new(boot.clock(booted)))
}

/// The last fence, and what lies under the key.
pub(super) async fn read(connection: &mut SqliteConnection, key: &StorageKey) -> Result<(Fence, Found), Fault> {
    let row = sqlx::query(READ).bind(&key.as_bytes()[..]).fetch_optional(connection).await?;
    let row = row.ok_or_else(gone)?;
    let last = u64::try_from(row.try_get::<i64, _>("last_fence")?).map_err(|_| gone())?;
    let found = match row.try_get::<Option<i64>, _>("format") {
        Ok(None) => Found::Nothing,
        _ => record(&row).map_or(Found::Unreadable, Found::Record),
    };
    Ok((Fence::new(last), found))
}

/// The fences of one transaction: the last one that the file holds, and the last one given.
#[derive(Debug)]
pub(super) struct Fences {
    saved: Fence,
    given: Fence,
}

impl Fences {
    pub(super) const fn none() -> Self {
        Self { saved: Fence::new(0), given: Fence::new(0) }
    }
}

/// Takes a step in the transaction that is open on this connection and holds the write lock.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    timeline: &Timeline,
    fences: &mut Fences,
    key: StorageKey,
    judge: impl FnOnce(Found, &mut Time) -> Change + Send,
) -> Result<(), Fault> {
    let (saved, found) = read(connection, &key).await?;
    fences.saved = saved;
    let mut time = timeline.at(fences.given.max(saved));
    let change = judge(found, &mut time);
    fences.given = time.last_fence;
    match change {
        Change::None => Ok(()),
        Change::Put(record) => put(connection, &key, record).await,
        Change::Remove => {
            sqlx::query(REMOVE).bind(&key.as_bytes()[..]).execute(connection).await?;
            Ok(())
        }
    }
}

/// Writes what [`take`] gave, before the transaction commits.
pub(super) async fn save(connection: &mut SqliteConnection, fences: &Fences) -> Result<(), Fault> {
    if fences.given > fences.saved {
        sqlx::query(SAVE_FENCE).bind(number(fences.given.get())).execute(connection).await?;
    }
    Ok(())
}

/// Takes one step as part of whatever transaction is open on this connection; `None`: somebody else holds the write
/// lock, for longer than this connection waits. After an error nothing of the step is left.
pub(super) async fn join<S: Step>(
    connection: &mut SqliteConnection,
    timeline: &Timeline,
    step: &S,
) -> Result<Option<S::Done>, Fault> {
    let taken = match enter(connection).await {
        Ok(true) => take_alone(connection, timeline, step).await.map(Some),
        Ok(false) => return Ok(None),
        Err(fault) => Err(fault),
    };
    let end = if taken.is_ok() { LEAVE } else { UNDO };
    let ended = sqlx::query(end).execute(connection).await;
    match taken {
        Ok(done) => ended.map(|_| done).map_err(Fault::from),
        // A grave one has undone the whole transaction, savepoint and all.
        Err(fault) => Err(fault),
    }
}

/// `false`: somebody else holds the write lock, for longer than this connection waits. The savepoint is gone then.
async fn enter(connection: &mut SqliteConnection) -> Result<bool, Fault> {
    let began = Instant::now();
    loop {
        match sqlx::query(ENTER).execute(&mut *connection).await {
            Ok(_) => return Ok(true),
            Err(error) if fault::is_locked(&error) => sqlx::query(UNDO).execute(&mut *connection).await?,
            Err(error) => return Err(Fault::from(error)),
        };
        // SQLite does not wait in a transaction that has read before. Once the other one has committed, it is a conflict.
        let patience: i64 = sqlx::query_scalar(PATIENCE).fetch_one(&mut *connection).await?;
        if began.elapsed() >= Duration::from_millis(u64::try_from(patience).unwrap_or_default()) {
            return Ok(false);
        }
        tokio::time::sleep(TURN).await;
    }
}

async fn take_alone<S: Step>(
    connection: &mut SqliteConnection,
    timeline: &Timeline,
    step: &S,
) -> Result<S::Done, Fault> {
    let (mut fences, mut done) = (Fences::none(), None);
    take(connection, timeline, &mut fences, *step.key(), |found, time| {
        let (change, answer) = step.judge(found, time);
        done = Some(answer);
        change
    })
    .await?;
    save(connection, &fences).await?;
    done.ok_or_else(gone)
}

/// Parked records, as [`Store::parked`](crate::store::Store::parked) lists them.
pub(super) async fn parked(connection: &mut SqliteConnection, page: &Parked) -> Result<Vec<ParkedRecord>, Fault> {
    let (mut records, mut after) = (Vec::new(), page.after.map_or_else(Vec::new, |key| key.as_bytes().to_vec()));
    loop {
        let missing = page.limit - records.len();
        let query = sqlx::query(PARKED).bind(after.as_slice()).bind(number(missing as u64));
        let rows = query.fetch_all(&mut *connection).await?;
        for row in &rows {
            after = row.try_get("key")?;
            // One that cannot be read is not listed, and leaves its place in the page to the next.
            if let (Ok(key), Some(record)) = (<[u8; 32]>::try_from(after.as_slice()), record(row))
                && let State::Parked { note } = record.state
            {
                records.push(ParkedRecord::new(StorageKey::from_bytes(key), note, record.fence, record.attempt));
            }
        }
        if rows.len() < missing || records.len() == page.limit {
            return Ok(records);
        }
    }
}

/// Drops at most so many records past their time, and so many answers past theirs. Returns whether it dropped any.
pub(super) async fn drop_past(connection: &mut SqliteConnection, now: u64, many: u32) -> Result<bool, Fault> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut dropped = 0;
    for statement in [DROP, TRIM] {
        let query = sqlx::query(statement).bind(number(now)).bind(many);
        dropped += query.execute(&mut *transaction).await?.rows_affected();
    }
    transaction.commit().await?;
    Ok(dropped > 0)
}

async fn put(connection: &mut SqliteConnection, key: &StorageKey, record: Record) -> Result<(), Fault> {
    let Columns { format, state, fingerprint, token, fence, attempt, until, forget, length, answer } =
        record.into_columns();
    let query = sqlx::query(PUT).bind(&key.as_bytes()[..]).bind(format).bind(state).bind(fingerprint).bind(token);
    let query = query.bind(fence).bind(attempt).bind(until).bind(forget).bind(length).bind(answer);
    query.execute(connection).await?;
    Ok(())
}

/// `None`: the columns are not those of a record.
fn record(row: &SqliteRow) -> Option<Record> {
    let columns = || {
        Ok::<_, Error>(Columns {
            format: row.try_get("format")?,
            state: row.try_get("state")?,
            fingerprint: row.try_get("fingerprint")?,
            token: row.try_get("token")?,
            fence: row.try_get("fence")?,
            attempt: row.try_get("attempt")?,
            until: row.try_get("until")?,
            forget: row.try_get("forget")?,
            length: row.try_get("length")?,
            answer: row.try_get("answer")?,
        })
    };
    Record::from_columns(columns().ok()?)
}

fn gone() -> Fault {
    Fault::misconfigured("the one row of `idem_schema` is gone or broken")
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    async fn tables() -> SqliteConnection {
        let options = SqliteConnectOptions::new().in_memory(true);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a database");
        require_schema(&mut connection, true).await.expect("the tables");
        connection
    }

    /// None of these may look at every record.
    #[tokio::test]
    async fn no_statement_reads_the_whole_table() {
        let mut connection = tables().await;
        for (statement, index) in [
            (READ, "idem_records USING PRIMARY KEY"),
            (REMOVE, "idem_records USING PRIMARY KEY"),
            (PARKED, "idem_records_parked"),
            (DROP, "idem_records_forget"),
            (TRIM, "idem_records_until"),
        ] {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let rows = sqlx::query(explain).fetch_all(&mut connection).await.expect("a plan");
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            assert!(plan.iter().any(|line| line.contains(index)), "{statement}: {plan:?}");
            assert!(!plan.iter().any(|line| line.starts_with("SCAN idem_records")), "{statement}: {plan:?}");
        }
    }

    #[tokio::test]
    async fn the_schema_is_frozen() {
        let mut connection = tables().await;
        let columns = "SELECT group_concat(name || ' ' || type || ' ' || \"notnull\", ', ') FROM pragma_table_info(?1)";
        for (table, frozen) in [
            ("idem_schema", "id INTEGER 1, version INTEGER 1, last_fence INTEGER 1, boot TEXT 0, booted INTEGER 0"),
            (
                "idem_records",
                "key BLOB 1, format INTEGER 1, state INTEGER 1, fingerprint BLOB 1, token BLOB 0, fence INTEGER 1, \
                 attempt INTEGER 1, until INTEGER 0, forget INTEGER 0, length INTEGER 0, answer BLOB 0",
            ),
        ] {
            let found: String =
                sqlx::query_scalar(columns).bind(table).fetch_one(&mut connection).await.expect("its columns");
            assert_eq!(found, frozen, "another layout is another version");
        }
    }
}
