#[path = "../support.rs"]
mod support;

use axum::{Json, Router, extract::Path, routing::post};
use idem_runtime::idempotent;

#[derive(serde::Deserialize, serde::Serialize)]
struct Checkout {
    items: Vec<u64>,
    coupon: Option<String>,
}

#[idempotent(scope = "checkout", fingerprint = json, key = derive("cart", "checkout", (cart, &checkout)))]
async fn create(Path(cart): Path<u64>, Json(checkout): Json<Checkout>) -> String {
    format!("{cart} {}", checkout.items.len())
}

#[idempotent(scope = "named", key = derive(entity, format!("create-{entity}"), checkout.items))]
async fn named(Path(entity): Path<String>, Json(checkout): Json<Checkout>) -> String {
    format!("{entity} {}", checkout.items.len())
}

fn main() {
    let app = Router::new()
        .route("/carts/{cart}", post(create))
        .route("/named/{entity}", post(named))
        .with_state(support::runtime());
    let answers = support::send(
        &app,
        [
            support::post("/carts/1", &[], r#"{"items":[1],"coupon":null}"#),
            support::post("/carts/1", &[], r#"{ "coupon": null, "items": [1] }"#),
            support::post("/carts/1", &[], r#"{"items":[2],"coupon":null}"#),
        ],
    );
    assert_eq!(answers.iter().map(|answer| answer.1).collect::<Vec<_>>(), [false, true, false], "{answers:?}");
    support::runs_once(&app, || support::post("/named/order", &[], r#"{"items":[1]}"#));
}
