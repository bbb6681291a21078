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
    for (uri, body) in [
        ("/field", r#"{"id":"a","items":[]}"#),
        ("/whole/7", ""),
        ("/text/7", r#"{"id":"a","items":[]}"#),
        ("/text/7", r#"{"id":"a","items":[5]}"#),
        ("/choice", r#"{"id":"a","number":1,"items":[2]}"#),
        ("/choice", r#"{"id":"a","items":[2]}"#),
        ("/choice", r#"{"id":"a","items":[]}"#),
        ("/block", r#"{"id":"a","items":[1,2]}"#),
    ] {
        support::runs_once(&app, || support::post(uri, &[], body));
    }
    let answers = support::send(&app, [support::post("/block", &[], r#"{"id":"a","items":[]}"#)]);
    assert_eq!(answers[0].0, 400, "`None` is no key");
}
