use idem_runtime::{financial, idempotent};

#[idempotent(scope = "payments", financial, key = from_header("X-Request-Id"))]
async fn create(body: String) -> String {
    body
}

#[financial]
#[idempotent(scope = "refunds", key = any_of(from_header, from_header("traceparent")))]
async fn refund(body: String) -> String {
    body
}

fn main() {}
