//! [`Tx`] as an executor of the driver, which sees what meets another transaction as it passes by.

use futures_util::{
    StreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use sqlx::{Connection, Database, Describe, Either, Error, Execute, Executor, SqlStr};

use crate::engine::{Conflict, Tx};

macro_rules! executor {
    ($feature:meta, $store:ty, $database:ty, $conflicts:expr) => {
        #[cfg($feature)]
        impl<'c> Executor<'c> for &'c mut Tx<$store> {
            type Database = $database;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxStream<
                'e,
                Result<
                    Either<<$database as Database>::QueryResult, <$database as Database>::Row>,
                    Error,
                >,
            >
            where
                'c: 'e,
                E: 'q + Execute<'q, $database>,
            {
                let (connection, conflict) = self.noting();
                if !connection.is_in_transaction() {
                    return Box::pin(stream::once(ready(Err(ended()))));
                }
                let noted = move |item: Result<_, Error>| item.inspect_err(|error| note(error, $conflicts, conflict));
                Box::pin(connection.fetch_many(query).map(noted))
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxFuture<'e, Result<Option<<$database as Database>::Row>, Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, $database>,
            {
                let (connection, conflict) = self.noting();
                if !connection.is_in_transaction() {
                    return Box::pin(ready(Err(ended())));
                }
                let fetched = connection.fetch_optional(query);
                Box::pin(async move { fetched.await.inspect_err(|error| note(error, $conflicts, conflict)) })
            }

            fn prepare_with<'e>(
                self,
                sql: SqlStr,
                parameters: &'e [<$database as Database>::TypeInfo],
            ) -> BoxFuture<'e, Result<<$database as Database>::Statement, Error>>
            where
                'c: 'e,
            {
                self.connection().prepare_with(sql, parameters)
            }

            fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<$database>, Error>>
            where
                'c: 'e,
            {
                self.connection().describe(sql)
            }
        }
    };
}

// Serialization failure, deadlock.
#[cfg(feature = "postgres")]
const POSTGRES_CONFLICTS: &[&str] = &["40001", "40P01"];
// Somebody wrote since the transaction began to read.
#[cfg(feature = "sqlite")]
const SQLITE_CONFLICTS: &[&str] = &["517"];

executor!(feature = "postgres", super::PostgresStore, sqlx::Postgres, POSTGRES_CONFLICTS);
executor!(feature = "sqlite", super::SqliteStore, sqlx::Sqlite, SQLITE_CONFLICTS);
executor!(
    all(feature = "redis", feature = "postgres"),
    super::TieredStore<super::PostgresStore>,
    sqlx::Postgres,
    POSTGRES_CONFLICTS
);
executor!(
    all(feature = "redis", feature = "sqlite"),
    super::TieredStore<super::SqliteStore>,
    sqlx::Sqlite,
    SQLITE_CONFLICTS
);

/// By a transaction inside it, say, that was dropped as it began. What is written now would be committed by itself, without a record.
fn ended() -> Error {
    Error::Protocol(
        "the transaction of this `Tx` has ended: answer with an error, and the handler is run again".to_owned(),
    )
}

fn note(error: &Error, conflicts: &[&str], conflict: &Conflict) {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.is_some_and(|code| conflicts.contains(&&*code)) {
        conflict.note();
    }
}
