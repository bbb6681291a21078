use idem_runtime::idempotent;

struct Tx;

#[idempotent(scope = "transfers", key = from_header, transaction)]
async fn transfer(tx: Tx, body: String) -> String {
    drop(tx);
    body
}

fn main() {}
