#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};

mod routes {
    pub(super) mod orders {
        use idem_runtime::idempotent;

        #[idempotent(scope = "orders", key = from_header)]
        pub(in super::super) async fn create(body: String) -> String {
            super::shout(&body)
        }
    }

    fn shout(text: &str) -> String {
        text.to_uppercase()
    }
}

fn main() {
    let app = Router::new().route("/", post(routes::orders::create)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], "a"));
    assert_eq!(answer.2, "A");
}
