use idem_runtime::idempotent;

#[idempotent(scope = "payments", colour = red)]
async fn create(body: String) -> String {
    body
}

fn main() {}
