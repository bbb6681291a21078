use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn create<T: Into<String>>(body: String) -> String
where
    T: Send,
{
    body
}

fn main() {}
