#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::{KeyRequest, idempotent};

mod keys {
    use super::KeyRequest;

    pub fn event(request: &KeyRequest<'_>) -> Option<String> {
        Some(request.headers.get("x-event")?.to_str().ok()?.to_owned())
    }
}

fn length(request: &KeyRequest<'_>) -> usize {
    request.body.len()
}

fn borrowed<'a>(request: &KeyRequest<'a>) -> Option<&'a str> {
    request.uri.query()
}

#[idempotent(scope = "events", key = any_of(from_fn(keys::event), from_fn(borrowed), from_fn(length)))]
async fn create(body: String) -> String {
    body
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/", &[("x-event", "k")], "a"));
    support::runs_once(&app, || support::post("/?query", &[], "a"));
    support::runs_once(&app, || support::post("/", &[], "abc"));
}
