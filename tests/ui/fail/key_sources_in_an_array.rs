use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = any_of([from_header, body]))]
async fn create(body: String) -> String {
    body
}

fn main() {}
