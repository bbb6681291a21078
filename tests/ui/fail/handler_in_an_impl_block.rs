use axum::extract::State;
use idem_runtime::idempotent;

struct Api;

impl Api {
    #[idempotent(scope = "payments")]
    async fn create(State(_): State<Self>, body: String) -> String {
        body
    }
}

fn main() {}
