use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn create(
    _1: (),
    _2: (),
    _3: (),
    _4: (),
    _5: (),
    _6: (),
    _7: (),
    _8: (),
    _9: (),
    _10: (),
    _11: (),
    _12: (),
    _13: (),
    _14: (),
    _15: (),
    _16: (),
    body: String,
) -> String {
    body
}

fn main() {}
