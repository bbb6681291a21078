#[path = "../support.rs"]
mod support;

use std::{borrow::Cow, sync::Arc};

use axum::{Json, Router, extract::Path, routing::post};
use idem_runtime::idempotent;

#[derive(serde::Deserialize)]
struct Order {
    id: String,
    number: Option<u64>,
    items: Vec<u64>,
}

impl Order {
    fn first(&self) -> Option<u64> {
        self.items.first().copied()
    }
}

#[idempotent(scope = "field", key = order.id)]
async fn field(Json(order): Json<Order>) -> String {
    order.id
}

#[idempotent(scope = "whole", key = id)]
async fn whole(Path(id): Path<u64>) -> String {
    id.to_string()
}

#[idempotent(scope = "text", key = format!("{id}-{}", order.items.len()))]
async fn text(Path(id): Path<u64>, Json(order): Json<Order>) -> String {
    format!("{id} {}", order.id)
}

#[idempotent(scope = "choice", key = any_of(order.number, order.first(), order.id.as_str()))]
async fn choice(Json(order): Json<Order>) -> String {
    order.id
}

#[idempotent(scope = "block", key = {
    let shared: Arc<str> = order.id.as_str().into();
    let texts: Vec<Cow<'_, str>> = order.items.iter().map(|item| item.to_string().into()).collect();
    if texts.is_empty() { None } else { Some(format!("{shared}{}", texts.join("+"))) }
})]
async fn block(Json(order): Json<Order>) -> String {
    order.id
}

fn main() {
    let app = Router::new()
        .route("/field", post(field))
        .route("/whole/{id}", post(whole))
        .route("/text/{id}", post(text))
        .route("/choice", post(choice))
        .route("/block", post(block))
        .with_state(support::runtime());
    for uri in ["/field", "/whole/7", "/text/7", "/choice", "/block"] {
        for body in [r#"{"id":"a","number":1,"items":[1]}"#, r#"{"id":"a","items":[2]}"#, r#"{"id":"b","items":[]}"#] {
            let body = if uri == "/whole/7" { "" } else { body };
            if uri == "/block" && body.contains("[]") {
                assert_eq!(support::send(&app, [support::post(uri, &[], body)])[0].0, 400, "no key");
            } else if uri == "/field" && body.contains("[2]") {
                assert_eq!(support::send(&app, [support::post(uri, &[], body)])[0].0, 422, "another order with this id");
            } else if uri != "/whole/7" || body.is_empty() {
                let answers = support::send(&app, [support::post(uri, &[], body), support::post(uri, &[], body)]);
                assert!(answers[1].1, "{uri} {body}: {answers:?}");
            }
        }
    }
}
