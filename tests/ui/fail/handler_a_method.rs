use idem_runtime::idempotent;

struct Api;

impl Api {
    #[idempotent(scope = "payments")]
    async fn create(&self, body: String) -> String {
        body
    }
}

fn main() {}
