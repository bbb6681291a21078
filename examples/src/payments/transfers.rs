//! Money that moves between two rows of the database in which the answers are kept too: claim, balances and answer are one
//! transaction. What breaks off midway is undone whole, so a transfer needs neither a lease nor a recovery.
//!
//! A service has one database and writes this once. The example can be started on two, so two handlers stand here twice.

use std::num::NonZeroU32;

use axum::{
    Json, Router,
    extract::{FromRef, State},
    http::StatusCode,
    routing::{get, post},
};
use idem_runtime::{FinancialRouter, Idempotency, PostgresStore, SqliteStore, Tx, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgPool};

use super::{
    api::{ApiError, Body},
    caller::Caller,
};
use crate::stores::AnyStore;

/// The accounts, of which there are three to begin with. Run again, this changes nothing.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0));
    INSERT INTO accounts VALUES ('alice', 10000), ('bob', 10000), ('carol', 10000) ON CONFLICT DO NOTHING;";

const ALL: &str = "SELECT id, balance FROM accounts ORDER BY id";

const MOVE: &str = "UPDATE accounts SET balance = balance + CASE id WHEN $1 THEN -$3 ELSE $3 END WHERE id IN ($1, $2)";

/// What to move. Nothing that can never be moved deserializes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Wish")]
struct Transfer {
    from: String,
    to: String,
    /// In cents.
    amount: NonZeroU32,
}

#[derive(Debug, Deserialize)]
struct Wish {
    from: String,
    to: String,
    amount: NonZeroU32,
}

/// A transfer that was made.
#[derive(Debug, Serialize)]
struct Receipt {
    #[serde(flatten)]
    transfer: Transfer,
    status: &'static str,
}

#[derive(Debug, Serialize)]
struct Account {
    id: String,
    balance: i64,
}

/// The routes, for a store that has transactions; for another one, 501 that says so.
pub(super) async fn router(idempotency: Idempotency, store: &AnyStore) -> Result<Router, sqlx::Error> {
    match store.clone() {
        AnyStore::Sqlite(store) => sqlite::router(idempotency, store).await,
        AnyStore::Postgres(store, pool) => postgres::router(idempotency, store, pool).await,
        // Redis has no part in a transaction.
        AnyStore::Tiered(store, pool) => postgres::router(idempotency, store.authority().clone(), pool).await,
        AnyStore::Memory(_) | AnyStore::Redis(_) => {
            let missing = async |_: Caller| ApiError::NoTransactions;
            Ok(Router::new().route("/transfers", post(missing)).route("/accounts", get(missing)))
        }
    }
}

mod sqlite {
    use super::*;

    #[derive(Clone, FromRef)]
    struct Bank {
        idempotency: Idempotency,
        store: SqliteStore,
    }

    pub(super) async fn router(idempotency: Idempotency, store: SqliteStore) -> Result<Router, sqlx::Error> {
        sqlx::raw_sql(SCHEMA).execute(store.pool()).await?;
        let money = FinancialRouter::new().post("/transfers", transfer).get("/accounts", accounts);
        Ok(money.into_router().with_state(Bank { idempotency, store }))
    }

    /// Moves money, once per key. An answer that is an error rolls back.
    #[idempotent(scope = "transfers", ttl = "24h", key = from_header, financial, transaction)]
    async fn transfer(
        _: Caller,
        mut tx: Tx<SqliteStore>,
        Body(transfer): Body<Transfer>,
    ) -> Result<(StatusCode, Json<Receipt>), ApiError> {
        const BOTH: &str = "SELECT id, balance FROM accounts WHERE id IN ($1, $2)";
        let Transfer { from, to, .. } = &transfer;
        let accounts: Vec<_> = sqlx::query_as(BOTH).bind(from).bind(to).fetch_all(&mut tx).await?;
        transfer.require(&accounts)?;
        sqlx::query(MOVE).bind(from).bind(to).bind(transfer.cents()).execute(&mut tx).await?;
        Ok(transfer.receipt())
    }

    async fn accounts(_: Caller, State(store): State<SqliteStore>) -> Result<Json<Vec<Account>>, ApiError> {
        Ok(json(sqlx::query_as(ALL).fetch_all(store.pool()).await?))
    }
}

mod postgres {
    use super::*;

    #[derive(Clone, FromRef)]
    struct Bank {
        idempotency: Idempotency,
        store: PostgresStore,
        pool: PgPool,
    }

    pub(super) async fn router(
        idempotency: Idempotency,
        store: PostgresStore,
        pool: PgPool,
    ) -> Result<Router, sqlx::Error> {
        // Of replicas that start together, each but the first waits here. `raw_sql` sends it all as one transaction.
        // What is there already is no news.
        const LOCKED: &str = "SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock(20170810);";
        sqlx::raw_sql(AssertSqlSafe(format!("{LOCKED}{SCHEMA}"))).execute(&pool).await?;
        let money = FinancialRouter::new().post("/transfers", transfer).get("/accounts", accounts);
        Ok(money.into_router().with_state(Bank { idempotency, store, pool }))
    }

    /// Moves money, once per key. An answer that is an error rolls back.
    ///
    /// Two transfers between the same accounts lock them in the same order. Others that met here would be run again.
    #[idempotent(scope = "transfers", ttl = "24h", key = from_header, financial, transaction)]
    async fn transfer(
        _: Caller,
        mut tx: Tx<PostgresStore>,
        Body(transfer): Body<Transfer>,
    ) -> Result<(StatusCode, Json<Receipt>), ApiError> {
        const BOTH: &str = "SELECT id, balance FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR UPDATE";
        let Transfer { from, to, .. } = &transfer;
        let accounts: Vec<_> = sqlx::query_as(BOTH).bind(from).bind(to).fetch_all(&mut tx).await?;
        transfer.require(&accounts)?;
        sqlx::query(MOVE).bind(from).bind(to).bind(transfer.cents()).execute(&mut tx).await?;
        Ok(transfer.receipt())
    }

    async fn accounts(_: Caller, State(pool): State<PgPool>) -> Result<Json<Vec<Account>>, ApiError> {
        Ok(json(sqlx::query_as(ALL).fetch_all(&pool).await?))
    }
}

impl Transfer {
    /// Refuses what these accounts do not allow.
    fn require(&self, accounts: &[(String, i64)]) -> Result<(), ApiError> {
        let balance = |id: &String| accounts.iter().find(|(account, _)| account == id).map(|(_, balance)| *balance);
        let (Some(balance), Some(_)) = (balance(&self.from), balance(&self.to)) else {
            return Err(ApiError::NoSuchAccount);
        };
        if balance < self.cents() { Err(ApiError::TooPoor { balance }) } else { Ok(()) }
    }

    fn cents(&self) -> i64 {
        self.amount.get().into()
    }

    fn receipt(self) -> (StatusCode, Json<Receipt>) {
        (StatusCode::CREATED, Json(Receipt { transfer: self, status: "succeeded" }))
    }
}

impl TryFrom<Wish> for Transfer {
    type Error = &'static str;

    fn try_from(Wish { from, to, amount }: Wish) -> Result<Self, Self::Error> {
        if from == to { Err("`from` and `to` are the same account") } else { Ok(Self { from, to, amount }) }
    }
}

fn json(accounts: Vec<(String, i64)>) -> Json<Vec<Account>> {
    Json(accounts.into_iter().map(|(id, balance)| Account { id, balance }).collect())
}
