use idem_runtime::idempotent;

#[idempotent(scope = "payments", on_abandoned = recover)]
async fn bare(body: String) -> String {
    body
}

#[idempotent(scope = "payments", on_abandoned = recover())]
async fn empty(body: String) -> String {
    body
}

#[idempotent(scope = "payments", on_abandoned = recover(|lost| ask(lost)))]
async fn closure(body: String) -> String {
    body
}

#[idempotent(scope = "payments", on_abandoned = recover(ask, ask_again))]
async fn two(body: String) -> String {
    body
}

fn main() {}
