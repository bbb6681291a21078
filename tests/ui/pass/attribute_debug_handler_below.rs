#[path = "../support.rs"]
mod support;

use axum::{
    Router, debug_handler,
    extract::{FromRef, State},
    routing::post,
};
use idem_runtime::{Idempotency, idempotent};

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
}

#[idempotent(scope = "reports", key = from_header)]
#[debug_handler]
async fn none() -> &'static str {
    "made"
}

#[idempotent(scope = "orders", key = from_header)]
#[debug_handler]
async fn two(State(_): State<App>, body: String) -> String {
    body
}

fn main() {
    let app = Router::new()
        .route("/none", post(none))
        .route("/two", post(two))
        .with_state(App { idempotency: support::runtime() });
    support::runs_once(&app, || support::post("/none", &[("idempotency-key", "k")], ""));
    support::runs_once(&app, || support::post("/two", &[("idempotency-key", "k")], "b"));
}
