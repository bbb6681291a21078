#[idempotent(scope = "reports")]
async fn create() {}
