use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn create(#[cfg(unix)] _: (), body: String) -> String {
    body
}

fn main() {}
