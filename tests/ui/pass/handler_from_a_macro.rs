#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::idempotent;

macro_rules! handlers {
    ($($name:ident: $scope:literal, $ttl:expr, $key:expr, $body:ty;)*) => {$(
        #[idempotent(scope = $scope, ttl = $ttl, key = $key)]
        async fn $name(body: $body) -> String {
            format!("{} {}", stringify!($name), body.len())
        }
    )*};
}

handlers! {
    first: "first", "24h", from_header, String;
    second: "second", "48h", any_of(from_header, from_query("key")), bytes::Bytes;
}

fn main() {
    let app = Router::new().route("/first", post(first)).route("/second", post(second)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/first", &[("idempotency-key", "k")], "a"));
    assert_eq!(answer.2, "first 1");
    let answer = support::runs_once(&app, || support::post("/second?key=k", &[], "ab"));
    assert_eq!(answer.2, "second 2");
}
