use idem_runtime::idempotent;

#[idempotent(scope = "a-name-that-says-everything-there-is-to-say-about-the-operation-itself")]
async fn create(body: String) -> String {
    body
}

fn main() {}
