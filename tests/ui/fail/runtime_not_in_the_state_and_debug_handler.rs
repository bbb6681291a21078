use axum::{debug_handler, extract::State};
use idem_runtime::idempotent;

#[derive(Clone)]
struct App;

#[idempotent(scope = "payments")]
#[debug_handler]
async fn create(State(_): State<App>, body: String) -> String {
    body
}

fn main() {}
