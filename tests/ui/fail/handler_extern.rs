use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async extern "C" fn create(body: String) -> String {
    body
}

fn main() {}
