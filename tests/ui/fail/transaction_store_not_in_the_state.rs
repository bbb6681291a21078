use idem_runtime::{Idempotency, SqliteStore, Tx, idempotent};

#[idempotent(scope = "transfers", key = from_header, transaction)]
#[axum::debug_handler(state = Idempotency)]
async fn transfer(tx: Tx<SqliteStore>, body: String) -> String {
    drop(tx);
    body
}

fn main() {}
