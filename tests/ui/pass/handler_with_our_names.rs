//! Names of the user never meet names of generated code, and generated code needs none of the prelude.
#![allow(dead_code, non_camel_case_types)]

#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Query, routing::post};
use idem_runtime::idempotent;

mod core {}
mod std {}
mod idem_runtime_ {}
struct Option;
struct Some;
struct None;
struct Response;
struct Policy;
struct KeySource;

fn argument_key() {}
fn principal() {}

#[derive(Clone, serde::Deserialize)]
struct Given {
    id: String,
}

#[idempotent(
    scope = "names",
    key = format!("{}{}{}{}", guarded.id, arguments.id, source.id, a0.id),
    principal = request.id,
    on_conflict = wait("1s"),
    ttl = "1h",
)]
async fn create(
    Query(guarded): Query<Given>,
    Query(arguments): Query<Given>,
    Query(source): Query<Given>,
    Query(a0): Query<Given>,
    Query(request): Query<Given>,
    handler: String,
) -> String {
    format!("{}{}{}{}{}{handler}", guarded.id, arguments.id, source.id, a0.id, request.id)
}

#[idempotent(scope = "names", key = from_header)]
async fn guarded(a0: String) -> String {
    a0
}

fn main() {
    let app = Router::new().route("/", post(create)).route("/guarded", post(guarded)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/?id=a", &[], "b"));
    assert_eq!(answer.2, "aaaaab");
    support::runs_once(&app, || support::post("/guarded", &[("idempotency-key", "k")], "b"));
}
