use idem_runtime::{Unsettled, idempotent};

async fn ask(_: Unsettled) -> bool {
    true
}

#[idempotent(scope = "payments", on_abandoned = recover(ask))]
async fn pay(body: String) -> String {
    body
}

fn main() {}
