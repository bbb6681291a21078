//! What must be true of operations whose claim, effect and answer are one database transaction.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod bank;
mod calls;
mod commit;
mod conflicts;
mod duplicates;
mod effect;
mod fake;
mod leases;
mod policy;
mod requests;

/// Makes of every function `async fn name(database: Database)` one test on SQLite and one on Postgres.
macro_rules! on_every_database {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::bank::Database::sqlite().await).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::bank::Database::postgres().await).await;
                }
            )*
        }
    };
}
use on_every_database;
