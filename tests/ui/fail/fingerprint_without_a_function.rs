use idem_runtime::idempotent;

#[idempotent(scope = "payments", fingerprint = from_fn)]
async fn bare(body: String) -> String {
    body
}

#[idempotent(scope = "payments", fingerprint = from_fn())]
async fn empty(body: String) -> String {
    body
}

#[idempotent(scope = "payments", fingerprint = from_fn(|request| request.body))]
async fn closure(body: String) -> String {
    body
}

#[idempotent(scope = "payments", fingerprint = from_fn(one, two))]
async fn two(body: String) -> String {
    body
}

fn main() {}
