use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[derive(Clone)]
struct App;

#[idempotent(scope = "payments")]
async fn create(body: String) -> String {
    body
}

fn main() {
    let _: Router = Router::new().route("/", post(create)).with_state(App);
}
