#[path = "../support.rs"]
mod support;

use axum::{
    Router, debug_handler,
    extract::{FromRef, Path, State},
    routing::post,
};
use idem_runtime::{Idempotency, financial, idempotent};

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
}

#[debug_handler]
#[idempotent(scope = "orders", key = from_header)]
async fn three(State(_): State<App>, Path(path): Path<String>, body: String) -> String {
    path + &body
}

#[debug_handler(state = App)]
#[financial]
#[idempotent(scope = "orders", key = from_header)]
async fn one(body: String) -> String {
    body
}

fn main() {
    let app = Router::new()
        .route("/", post(one))
        .route("/{path}", post(three))
        .with_state(App { idempotency: support::runtime() });
    support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], "b"));
    let answer = support::runs_once(&app, || support::post("/a", &[("idempotency-key", "k")], "b"));
    assert_eq!(answer.2, "ab");
}
