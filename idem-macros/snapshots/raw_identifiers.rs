#[idempotent(scope = "moves", key = r#type)]
async fn r#move(Path(r#type): Path<String>) {}
