#[idempotent(scope = "orders", key = pick::<u64, String>(&req, |a, b| a == b))]
async fn create(Json(req): Json<HashMap<String, Vec<(u64, &'static str)>>>) -> Result<(), Box<dyn Error>> {
    Ok(())
}
