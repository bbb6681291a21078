use axum::Json;
use idem_runtime::idempotent;

#[idempotent(scope = "payments", principal = amount)]
async fn create(Json(amount): Json<f64>) -> String {
    amount.to_string()
}

fn main() {}
