use idem_runtime::{Settlement, Unsettled, idempotent};

fn ask(_: Unsettled) -> Option<Settlement> {
    None
}

#[idempotent(scope = "payments", on_abandoned = recover(ask))]
async fn pay(body: String) -> String {
    body
}

fn main() {}
