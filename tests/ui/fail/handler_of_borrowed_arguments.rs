use std::borrow::Cow;

use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn create(account: &str, body: Cow<'_, str>) -> String {
    format!("{account} {body}")
}

fn main() {}
