#[path = "../support.rs"]
mod support;

use axum::{Json, Router, routing::post};
use idem_runtime::idempotent;

fn app() -> Router {
    #[derive(serde::Deserialize)]
    struct Local {
        id: String,
    }

    fn greet(name: &str) -> String {
        format!("hello {name}")
    }

    #[idempotent(scope = "orders", key = local.id)]
    async fn create(Json(local): Json<Local>) -> String {
        greet(&local.id)
    }

    Router::new().route("/", post(create)).with_state(support::runtime())
}

fn main() {
    let answer = support::runs_once(&app(), || support::post("/", &[], r#"{"id":"a"}"#));
    assert_eq!(answer.2, "hello a");
}
