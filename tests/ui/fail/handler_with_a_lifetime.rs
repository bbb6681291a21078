use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn create<'a>(body: std::borrow::Cow<'a, str>) -> String {
    body.into_owned()
}

fn main() {}
