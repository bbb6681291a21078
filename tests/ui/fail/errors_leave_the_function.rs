use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "24")]
async fn create(body: String) -> String {
    body
}

fn main() {
    // `create` is still there: nothing else is reported.
    let _: Router = Router::new().route("/", post(create));
}
