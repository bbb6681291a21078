#[idempotent(scope = "transfers")]
async fn transfer(tx: my_crate::Tx<Postgres>) {}
