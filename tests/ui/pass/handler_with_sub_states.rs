#[path = "../support.rs"]
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    extract::{FromRef, State},
    routing::post,
};
use idem_runtime::{Idempotency, idempotent};

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
    counter: Counter,
}

#[derive(Clone)]
struct Counter(Arc<AtomicU64>);

#[idempotent(scope = "orders", key = from_header)]
async fn create(State(app): State<App>, State(counter): State<Counter>, Json(by): Json<u64>) -> String {
    counter.0.fetch_add(by, Ordering::Relaxed);
    app.counter.0.load(Ordering::Relaxed).to_string()
}

fn main() {
    let app = App { idempotency: support::runtime(), counter: Counter(Arc::default()) };
    let app = Router::new().route("/", post(create)).with_state(app);
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], "5"));
    assert_eq!(answer.2, "5");
}
