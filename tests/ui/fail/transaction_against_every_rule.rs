use idem_runtime::{SqliteStore, Settlement, Tx, Unsettled, idempotent};

async fn ask(_: Unsettled) -> Option<Settlement> {
    None
}

#[idempotent(
    scope = "transfers",
    key = from_header,
    financial,
    transaction,
    lease = "10s",
    on_abandoned = recover(ask),
    on_store_error = run,
)]
async fn transfer(first: Tx<SqliteStore>, second: Tx<SqliteStore>) {
    drop((first, second));
}

fn main() {}
