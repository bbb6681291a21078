#[path = "../support.rs"]
mod support;

use axum::{Router, extract::OriginalUri, http::Method, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "wide", key = format!("{method}-{body}"))]
#[allow(clippy::too_many_arguments)]
async fn wide(
    method: Method,
    OriginalUri(uri): OriginalUri,
    _: (),
    (): (),
    _5: (),
    _6: (),
    _7: (),
    _8: (),
    _9: (),
    _10: (),
    _11: (),
    _12: (),
    _13: (),
    _14: (),
    _15: (),
    body: String,
) -> String {
    format!("{method} {uri} {body}")
}

fn main() {
    let app = Router::new().route("/wide", post(wide)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/wide", &[], "k"));
    assert_eq!(answer.2, "POST /wide k");
}
