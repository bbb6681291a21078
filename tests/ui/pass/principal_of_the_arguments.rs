#[path = "../support.rs"]
mod support;

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    routing::post,
};
use idem_runtime::idempotent;

struct User {
    name: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let name = parts.headers.get("x-user").map(|name| name.to_str().unwrap_or_default().to_owned());
        Ok(Self { name })
    }
}

#[idempotent(scope = "orders", key = from_header, principal = user.name)]
async fn create(user: User, body: String) -> String {
    format!("{:?} {body}", user.name)
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    for user in ["ann", "bob"] {
        let headers = [("x-user", user), ("idempotency-key", "k")];
        let answer = support::runs_once(&app, || support::post("/", &headers, "a"));
        assert_eq!(answer.2, format!("Some({user:?}) a"));
    }
}
