use idem_runtime::idempotent;

struct Api;

#[idempotent(scope = "payments")]
impl Api {}

fn main() {}
