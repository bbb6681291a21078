use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = COUNTER.fetch_add(1, Ordering::SeqCst))]
async fn create(body: String) -> String {
    body
}

fn main() {}
