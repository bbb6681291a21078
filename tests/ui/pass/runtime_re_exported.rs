#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};

mod platform {
    pub mod deps {
        pub use idem_runtime as idem;
    }
}

use platform::deps::idem::{KeyRequest, idempotent};

fn key(request: &KeyRequest<'_>) -> usize {
    request.body.len()
}

#[idempotent(
    scope = "orders",
    key = any_of(from_header, from_fn(key)),
    fingerprint = json,
    principal = body.trim(),
    crate = crate::platform::deps::idem,
)]
async fn create(body: String) -> String {
    body
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/", &[], "5"));
}
