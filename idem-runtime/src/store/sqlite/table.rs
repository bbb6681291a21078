//! The statements, on one connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, Error, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    fault::Fault,
    host::Boot,
    row::{Columns, Record, State, StateColumns, number},
    step::{Change, Found, Guess, Pending, Step, Take, Time, Timeline},
};
use crate::{
    clock::{Clock, SystemClock},
    key::StorageKey,
    store::{Fence, Parked, ParkedRecord, StoreErrorKind},
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
/// The same, by one who is to write: takes the lock first, so that nothing changes between the two. Changes nothing.
const READ_TO_WRITE: &str = concat!("DELETE FROM idem_records WHERE 0; ", include_str!("read.sql"));
const INSERT: &str = include_str!("insert.sql");
const SETTLE: &str = include_str!("settle.sql");
const PUT: &str = include_str!("put.sql");
const REMOVE: &str = "DELETE FROM idem_records WHERE key = ?1";
const PARKED: &str = include_str!("parked.sql");
const DROP: &str = include_str!("drop.sql");
const TRIM: &str = include_str!("trim.sql");

/// A transaction where the caller has none.
const ENTER: &str = "SAVEPOINT idem_step";
const LEAVE: &str = "RELEASE idem_step";
const UNDO: &str = "ROLLBACK TO idem_step; RELEASE idem_step";
const PATIENCE: &str = "PRAGMA busy_timeout";

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
    look(&mut transaction, &StorageKey::from_bytes([0; 32])).await?;
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

/// The last fence, and what lies under the key. Waits for no lock.
pub(super) async fn look(connection: &mut SqliteConnection, key: &StorageKey) -> Result<(Fence, Found), Fault> {
    read(connection, READ, key).await
}

async fn read(
    connection: &mut SqliteConnection,
    statement: &'static str,
    key: &StorageKey,
) -> Result<(Fence, Found), Fault> {
    let row = sqlx::query(statement).bind(&key.as_bytes()[..]).fetch_optional(connection).await?;
    let row = row.ok_or_else(gone)?;
    let last = u64::try_from(row.try_get::<i64, _>("last_fence")?).map_err(|_| gone())?;
    let found = match row.try_get::<Option<i64>, _>("format") {
        Ok(None) => Found::Nothing,
        _ => record(&row).map_or(Found::Unreadable, Found::Record),
    };
    Ok((Fence::new(last), found))
}

/// Takes a step in the transaction that is open on this connection. The first statement takes the file's write lock, unless
/// the transaction holds it.
///
/// Each statement is a way to the connection's thread and back, and nearly every step finds what it expects: it then takes one.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    timeline: &Timeline,
    step: &mut dyn Take,
) -> Result<(), Fault> {
    let key = *step.key();
    let mut time = timeline.guess();
    if let Some(guess) = step.guess(&mut time)
        && try_guess(&mut *connection, &key, guess, &time).await?
    {
        timeline.note(time.last_fence);
        return Ok(());
    }
    let (last_fence, found) = read(&mut *connection, READ_TO_WRITE, &key).await?;
    let mut time = timeline.at(last_fence);
    let change = step.judge(found, &mut time);
    timeline.note(time.last_fence);
    match change {
        Change::None => Ok(()),
        Change::Put(record) => put(connection, &key, record).await,
        Change::Remove => {
            sqlx::query(REMOVE).bind(&key.as_bytes()[..]).execute(connection).await?;
            Ok(())
        }
    }
}

/// Takes one step as part of whatever transaction is open on this connection; `None`: somebody else holds the write
/// lock, for longer than this connection waits. After an error the transaction can only be rolled back.
pub(super) async fn join<S: Step>(
    connection: &mut SqliteConnection,
    timeline: &Timeline,
    step: S,
) -> Result<Option<S::Done>, Fault> {
    let mut step = Pending::new(step);
    let began = Instant::now();
    loop {
        match take_whole(&mut *connection, timeline, &mut step).await {
            Ok(()) => return step.into_done().map(Some).ok_or_else(gone),
            // Nothing else keeps an open connection from a statement.
            Err(fault) if fault.kind == StoreErrorKind::Unreachable => {}
            Err(fault) => return Err(fault),
        }
        // SQLite does not wait in a transaction that has read before. Once the other one has committed, it is a conflict.
        let patience: i64 = sqlx::query_scalar(PATIENCE).fetch_one(&mut *connection).await?;
        if began.elapsed() >= Duration::from_millis(u64::try_from(patience).unwrap_or_default()) {
            return Ok(None);
        }
        tokio::time::sleep(TURN).await;
    }
}

/// Takes a step, in a transaction of its own where none is open.
async fn take_whole(connection: &mut SqliteConnection, timeline: &Timeline, step: &mut dyn Take) -> Result<(), Fault> {
    if connection.is_in_transaction() {
        return take(connection, timeline, step).await;
    }
    // The caller may have begun one without the driver's knowledge.
    sqlx::query(ENTER).execute(&mut *connection).await?;
    let taken = take(&mut *connection, timeline, step).await;
    let end = if taken.is_ok() { LEAVE } else { UNDO };
    let ended = sqlx::query(end).execute(connection).await;
    // A grave fault has undone the whole transaction, savepoint and all.
    taken.and(ended.map(drop).map_err(Fault::from))
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

/// Drops at most so many records past their time, and so many answers past theirs. Returns how many it were.
pub(super) async fn drop_past(connection: &mut SqliteConnection, now: u64, many: u32) -> Result<u64, Fault> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut dropped = 0;
    for statement in [DROP, TRIM] {
        let query = sqlx::query(statement).bind(number(now)).bind(many);
        dropped += query.execute(&mut *transaction).await?.rows_affected();
    }
    transaction.commit().await?;
    Ok(dropped)
}

/// Whether the guess was right; if not, nothing was written.
async fn try_guess(
    connection: &mut SqliteConnection,
    key: &StorageKey,
    guess: Guess,
    time: &Time,
) -> Result<bool, Fault> {
    let query = match guess {
        Guess::Absent(record) => {
            let Columns { format, state, fingerprint, token, fence, attempt, until, forget, .. } =
                record.into_columns();
            let query = sqlx::query(INSERT).bind(&key.as_bytes()[..]).bind(format).bind(state).bind(fingerprint);
            query.bind(token).bind(fence).bind(attempt).bind(until).bind(forget)
        }
        Guess::InFlight(token, state) => {
            let StateColumns { state, until, forget, length, answer } = state.into_columns();
            let query = sqlx::query(SETTLE).bind(&key.as_bytes()[..]).bind(&token.as_bytes()[..]);
            query.bind(number(time.now)).bind(state).bind(until).bind(forget).bind(length).bind(answer)
        }
    };
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

/// Writes the record, and its fence if no fence of the file is as large.
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
            (SETTLE, "idem_records USING PRIMARY KEY"),
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
