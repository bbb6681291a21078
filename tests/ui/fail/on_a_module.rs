use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
mod routes {}

fn main() {}
