use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header, r#key = Uuid::new_v4())]
async fn create(body: String) -> String {
    body
}

fn main() {}
