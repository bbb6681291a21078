use idem_runtime::{SqliteStore, Tx, idempotent, store::sqlite::driver as sqlx};

#[idempotent(scope = "transfers", key = from_header, transaction)]
async fn transfer(mut tx: Tx<SqliteStore>, body: String) -> String {
    sqlx::query("SELECT 1").execute(&mut *tx).await.unwrap();
    body
}

fn main() {}
