//! The table: how it is made, and what is asked of a server before anything is entrusted to it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{fault::Fault, link::simple, statement::milliseconds};

/// The default table, as SQL.
pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// The name in [`SCHEMA`].
pub(super) const DEFAULT_TABLE: &str = "idem_records";

/// The layout of the table that this version reads and writes.
const VERSION: i32 = 1;

/// The first version of PostgreSQL whose statements these are.
const OLDEST: i32 = 130_000;

/// The advisory lock of who makes a table.
const LOCK: u64 = 7_593_157_086_093_829;

/// Where the records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// `None`: the first one of the search path that has it.
    pub(super) schema: Option<String>,
    pub(super) name: String,
}

impl Table {
    /// Whether the names may be put into a statement.
    pub(super) fn validate(&self) -> Result<(), Fault> {
        for name in self.schema.iter().chain([&self.name]) {
            let first = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
            let rest = name.chars().all(|rest| rest.is_ascii_lowercase() || rest.is_ascii_digit() || rest == '_');
            if !first || !rest || name.len() > 48 {
                return Err(Fault::misconfigured(format!(
                    "`{name}` is no name for a table here: write at most 48 of `a` to `z`, `0` to `9` and `_`, a digit not first"
                )));
            }
        }
        Ok(())
    }

    /// As statements name it.
    pub(super) fn quoted(&self) -> String {
        self.with("")
    }

    fn with(&self, suffix: &str) -> String {
        match &self.schema {
            // Where it was found, it may have any name.
            Some(schema) => format!(r#""{}"."{}{suffix}""#, schema.replace('"', "\"\""), self.name),
            None => format!(r#""{}{suffix}""#, self.name),
        }
    }
}

/// Makes the table if it is not there. Waits for another one who does, but no longer than this.
pub(super) async fn migrate(connection: &mut PgConnection, table: &Table, patience: Duration) -> Result<(), Fault> {
    simple(connection, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    // Who finds it waits for nobody. Not even `IF NOT EXISTS` where it is: making an index waits for every writer, and
    // makes others wait.
    if server(connection, table).await?.schema.is_none() {
        lock(connection, patience).await?;
        // Whoever had the lock before may have made it.
        if server(connection, table).await?.schema.is_none() {
            let path = table.schema.as_ref().map(|schema| format!("SET LOCAL search_path = \"{schema}\";\n"));
            let text = path.unwrap_or_default() + &SCHEMA.replace(DEFAULT_TABLE, &table.name);
            simple(connection, AssertSqlSafe(text)).await?;
        }
    }
    judge_version(version(connection, table).await?, table)?;
    simple(connection, "COMMIT").await
}

/// What lies between two statements of one replica is no silence, however far away the server is.
const SHORTEST_SILENCE: Duration = Duration::from_secs(5);

/// Several replicas that start at once would all find no table, and all but one fail to make it.
async fn lock(connection: &mut PgConnection, patience: Duration) -> Result<(), Fault> {
    // The server ends a session that has the lock and falls silent, before the others have waited in vain.
    let text = format!(
        "SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; \
         SELECT pg_advisory_xact_lock({LOCK})",
        milliseconds(patience),
        milliseconds((patience / 2).max(SHORTEST_SILENCE)),
    );
    match simple(connection, AssertSqlSafe(text)).await {
        Err(fault) if fault.waited_in_vain() => Err(Fault::held_up(format!(
            "another session holds the lock for making tables: try again, or if it stands still, end it by \
             `SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON oid = database \
             WHERE datname = current_database() AND locktype = 'advisory' AND granted \
             AND classid = {} AND objid = {}`",
            LOCK >> 32,
            LOCK & 0xffff_ffff,
        ))),
        locked => locked,
    }
}

/// Judges server and table, and says which one it is: a handler may set another search path before its record is
/// completed.
pub(super) async fn check(connection: &mut PgConnection, table: &Table) -> Result<Table, Fault> {
    // A pooler gives one server to a transaction, and to less than that it may give two.
    simple(connection, "BEGIN").await?;
    let server = server(connection, table).await?;
    if server.version < OLDEST {
        let version = server.version / 10_000;
        return Err(Fault::misconfigured(format!("the server is PostgreSQL {version}: use PostgreSQL 13 or later")));
    }
    if server.is_standby {
        return Err(Fault::misconfigured("the server is a standby: name the primary"));
    }
    if server.is_read_only {
        return Err(Fault::misconfigured(
            "the database is read-only: name the primary, or set `default_transaction_read_only = off`",
        ));
    }
    let Some(schema) = server.schema else {
        return Err(Fault::misconfigured(format!(
            "the table {} or its `{}_schema` is missing: run `PostgresStore::migrate`, or `PostgresStore::SCHEMA` by hand",
            table.quoted(),
            table.name,
        )));
    };
    may_use(connection, table).await?;
    judge_version(version(connection, table).await?, table)?;
    // Names every column, and reads no row.
    let columns = "key, format, state, fingerprint, token, fence, attempt, until, forget, answer, answer_length";
    let text = format!("SELECT {columns} FROM {} WHERE false; COMMIT", table.quoted());
    simple(connection, AssertSqlSafe(text)).await?;
    Ok(Table { schema: Some(schema), name: table.name.clone() })
}

struct Server {
    version: i32,
    is_standby: bool,
    is_read_only: bool,
    /// Of the table; `None`: it is not there.
    schema: Option<String>,
}

async fn server(connection: &mut PgConnection, table: &Table) -> Result<Server, Fault> {
    const ASK: &str = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
         current_setting('transaction_read_only') = 'on', \
         (SELECT nspname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
          WHERE pg_class.oid = to_regclass($1) AND to_regclass($2) IS NOT NULL)";
    let query = sqlx::query(ASK).bind(table.quoted()).bind(table.with("_schema")).persistent(false);
    let row = query.fetch_one(connection).await?;
    Ok(Server {
        version: row.try_get(0)?,
        is_standby: row.try_get(1)?,
        is_read_only: row.try_get(2)?,
        schema: row.try_get(3)?,
    })
}

async fn version(connection: &mut PgConnection, table: &Table) -> Result<Option<i32>, Fault> {
    let text = format!("SELECT max(version) FROM {}", table.with("_schema"));
    Ok(sqlx::query_scalar(AssertSqlSafe(text)).persistent(false).fetch_one(connection).await?)
}

fn judge_version(version: Option<i32>, table: &Table) -> Result<(), Fault> {
    let table = table.quoted();
    match version {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(Fault::misconfigured(format!(
            "the table {table} is of layout {newer}, this version of idem knows {VERSION}: use a later version of idem"
        ))),
        Some(older) => Err(Fault::misconfigured(format!(
            "the table {table} is of layout {older}, this version of idem needs {VERSION}: run `PostgresStore::migrate`"
        ))),
        None => Err(Fault::misconfigured(format!(
            "the table {table} does not say its layout: run `PostgresStore::migrate`"
        ))),
    }
}

async fn may_use(connection: &mut PgConnection, table: &Table) -> Result<(), Fault> {
    const ASK: &str = "SELECT string_agg(privilege, ', ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege \
         WHERE NOT has_table_privilege($1, privilege)";
    let query = sqlx::query_scalar(ASK).bind(table.quoted()).persistent(false);
    match query.fetch_one(connection).await? {
        None::<String> => Ok(()),
        Some(missing) => Err(Fault::misconfigured(format!(
            "the login may not {missing} on {}: `GRANT SELECT, INSERT, UPDATE, DELETE`",
            table.quoted()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Table {
        Table { schema: None, name: name.to_owned() }
    }

    #[test]
    fn only_plain_names_are_put_into_statements() {
        for good in ["idem_records", "a", "_x9"] {
            assert!(table(good).validate().is_ok(), "{good}");
        }
        for bad in ["", "9a", "a b", "a\"b", "a;b", "A", "ä", &"a".repeat(49)] {
            assert!(table(bad).validate().is_err(), "{bad}");
        }
        assert!(Table { schema: Some("a\"".to_owned()), ..table("a") }.validate().is_err());
    }

    #[test]
    fn a_schema_that_was_found_may_have_any_name() {
        assert_eq!(Table { schema: Some("My \"Shop".to_owned()), ..table("a") }.quoted(), r#""My ""Shop"."a""#);
    }

    #[test]
    fn every_layout_but_its_own_is_refused() {
        assert!(judge_version(Some(1), &table("t")).is_ok());
        for (version, says) in [(Some(2), "later version of idem"), (Some(0), "migrate"), (None, "migrate")] {
            let error = judge_version(version, &table("t")).map_err(|fault| fault.into_error("connect").to_string());
            assert!(error.as_ref().is_err_and(|text| text.contains(says)), "{error:?}");
        }
    }
}
