use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = any_of(from_header, any_of(from_path("id"), from_query("id"))))]
async fn create(body: String) -> String {
    body
}

fn main() {}
