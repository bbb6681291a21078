use idem_runtime::{SqliteStore, Tx, idempotent};

type DbTx = Tx<SqliteStore>;

#[idempotent(scope = "transfers", key = from_header)]
async fn transfer(body: String, tx: DbTx) -> String {
    drop(tx);
    body
}

fn main() {}
