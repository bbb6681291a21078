use idem_runtime::idempotent;

#[idempotent(scope = "payments", on_abandoned = recover(ask))]
async fn create(body: String) -> String {
    body
}

fn main() {}
