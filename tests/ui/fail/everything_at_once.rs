use idem_runtime::idempotent;

#[idempotent(
    scope = "my payments",
    ttl = "1.5h",
    tll = "24h",
    key = any_of(from_header(1), Uuid::new_v4()),
    missing = "reject",
    missing = run,
    store = sucess,
    on_conflict = wait,
    financial = yes,
)]
fn create<T>(body: impl Into<String>) -> String {
    body.into()
}

fn main() {}
