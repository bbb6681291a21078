use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async unsafe fn create(body: String) -> String {
    body
}

fn main() {}
