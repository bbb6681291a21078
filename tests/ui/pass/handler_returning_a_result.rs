#[path = "../support.rs"]
mod support;

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use idem_runtime::idempotent;

struct ApiError(StatusCode);

impl IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

fn positive(amount: i64) -> Result<u64, ApiError> {
    u64::try_from(amount).map_err(|_| ApiError(StatusCode::UNPROCESSABLE_ENTITY))
}

#[idempotent(scope = "payments", key = from_header)]
async fn create(Json(amount): Json<i64>) -> Result<(StatusCode, String), ApiError> {
    let amount = positive(amount)?;
    Ok((StatusCode::CREATED, amount.to_string()))
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "good")], "5"));
    assert_eq!((answer.0, &*answer.2), (201, "5"));
    support::runs_twice(&app, || support::post("/", &[("idempotency-key", "bad")], "-5"));
}
