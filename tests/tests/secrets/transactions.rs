//! Operations in a transaction: what the database says of them holds the rows they wrote.

use std::{fmt, sync::LazyLock};

use async_trait::async_trait;
use idem_runtime::{
    Attempt, ExecuteError, Fingerprint, Idempotency, Operation, Policy, PostgresStore, Principal, SqliteStore, Tx,
    store::{Transactions, postgres::driver as sqlx},
};
use tests::{
    backend::{Fixture as _, Postgres, Sqlite},
    servers::PostgresServer,
};

use crate::{ANSWER, BODY, KEY, LOG, PASSWORD, PRINCIPAL, assert_shows_nothing};

/// What is written in a transaction.
#[async_trait]
pub(crate) trait Sql: Transactions {
    /// Adds an entry to the ledger, of somebody who must be there by the commit. Whether the database took it.
    async fn insert(connection: &mut Self::Connection, entry: &str, of: Option<&str>) -> bool;
}

const INSERT: &str = "INSERT INTO ledger (entry, person) VALUES ($1, $2)";

#[async_trait]
impl Sql for SqliteStore {
    async fn insert(connection: &mut Self::Connection, entry: &str, of: Option<&str>) -> bool {
        sqlx::query(INSERT).bind(entry).bind(of).execute(connection).await.is_ok()
    }
}

#[async_trait]
impl Sql for PostgresStore {
    async fn insert(connection: &mut Self::Connection, entry: &str, of: Option<&str>) -> bool {
        sqlx::query(INSERT).bind(entry).bind(of).execute(connection).await.is_ok()
    }
}

/// A ledger of entries that must differ.
pub(crate) const LEDGER: [&str; 2] = [
    "CREATE TABLE people (name TEXT PRIMARY KEY)",
    "CREATE TABLE ledger (entry TEXT UNIQUE, person TEXT REFERENCES people (name) DEFERRABLE INITIALLY DEFERRED)",
];

/// A store on a ledger in this schema, by a role of this name that has a password.
pub(crate) async fn secured(postgres: &Postgres, role: &str) -> PostgresStore {
    let (server, schema) = (PostgresServer::shared(), postgres.schema());
    server.run(&format!(
        "SET search_path TO {schema}; {}; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; \
         GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}",
        LEDGER.join("; ")
    ));
    let options: sqlx::postgres::PgConnectOptions = server.url_of(&format!("{role}:{PASSWORD}")).parse().unwrap();
    postgres.builder().connect_with(options.options([("search_path", schema)])).await.unwrap()
}

/// A store on a ledger in this file.
pub(crate) async fn in_a_file(sqlite: &Sqlite) -> SqliteStore {
    let store = SqliteStore::open(sqlite.path()).await.unwrap();
    for table in LEDGER {
        sqlx::query(table).execute(store.pool()).await.unwrap();
    }
    store
}

fn operation(key: &str) -> Operation {
    let operation = Operation::new(Policy::new("ledger").validate(), Principal::new(PRINCIPAL), key);
    operation.fingerprint(Fingerprint::of_bytes(BODY.as_bytes()))
}

/// What the caller's own error says is the caller's to show.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

/// How a run ends that has written its entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Well,
    /// The entry is there already, which the server says with the entry.
    Refused,
    Panic,
    /// It is an entry of somebody who is not there, which the server says at the commit.
    Nobody,
}

async fn no_transaction_shows_a_secret_on<D: Sql>(store: D) {
    LazyLock::force(&LOG);
    LOG.add("store", &store);
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let transact = async |key: &str, end: End| {
        let effect = move |mut tx: Tx<D>, attempt: Attempt| async move {
            LOG.add("in a transaction", &(&tx, &attempt));
            let taken =
                D::insert(tx.connection(), "SECRET-entry", (end == End::Nobody).then_some("SECRET-nobody")).await;
            match end {
                End::Panic => panic!("SECRET-panic"),
                _ if taken => Ok(ANSWER.to_owned()),
                _ => Err(Refused),
            }
        };
        let done = runtime.transact(&store, operation(key), effect).await;
        LOG.add("metrics", &runtime.metrics());
        done.map(|done| done.replayed).inspect_err(|error| LOG.add_error("refusal", error))
    };
    assert!(matches!(transact("SECRET-1", End::Panic).await, Err(ExecuteError::Refused(_))));
    assert!(matches!(transact("SECRET-1", End::Nobody).await, Err(ExecuteError::Refused(_))));
    assert!(matches!(transact(KEY, End::Well).await, Ok(false)));
    assert!(matches!(transact(KEY, End::Well).await, Ok(true)));
    assert!(matches!(transact("SECRET-2", End::Refused).await, Err(ExecuteError::Effect(Refused))));
    let text = LOG.text();
    assert!(text.lines().any(|line| line.contains("the transaction failed and was rolled back")), "it is not told");
    assert_shows_nothing("a transaction", &text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_transaction_shows_a_secret_on_sqlite() {
    let sqlite = Sqlite::start().await;
    no_transaction_shows_a_secret_on(in_a_file(&sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_transaction_shows_a_secret_on_postgres() {
    let postgres = Postgres::start().await;
    no_transaction_shows_a_secret_on(secured(&postgres, "secured_transactions").await).await;
}
