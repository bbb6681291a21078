use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = derive("order", "create", ()))]
async fn create(body: String) -> String {
    body
}

fn main() {}
