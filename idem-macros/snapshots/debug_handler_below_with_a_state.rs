#[idempotent(scope = "orders", runtime = extension)]
#[debug_handler(state = App<Db>)]
async fn create(State(db): State<Db>, State(mail): State<Mail>, body: Bytes) {}
