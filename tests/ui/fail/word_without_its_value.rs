use idem_runtime::idempotent;

#[idempotent(scope = "payments", on_conflict = wait)]
async fn create(body: String) -> String {
    body
}

fn main() {}
