use idem_runtime::idempotent;

const SCOPE: &str = "payments";

#[idempotent(scope = SCOPE)]
async fn create(body: String) -> String {
    body
}

fn main() {
    println!("{SCOPE}");
}
