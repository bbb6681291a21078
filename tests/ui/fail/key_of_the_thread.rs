use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = format!("{:?}", std::thread::current().id()))]
async fn create(body: String) -> String {
    body
}

fn main() {}
