use idem_runtime::idempotent;

#[idempotent(scope = "transfers", key = from_header, transaction)]
async fn transfer(body: String) -> String {
    body
}

fn main() {}
