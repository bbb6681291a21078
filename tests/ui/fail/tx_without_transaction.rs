use idem_runtime::{SqliteStore, Tx, idempotent};

#[idempotent(scope = "transfers", key = from_header)]
async fn transfer(tx: Tx<SqliteStore>, body: String) -> String {
    drop(tx);
    body
}

fn main() {}
