use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
struct Create {
    body: String,
}

fn main() {}
