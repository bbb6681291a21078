#[path = "../support.rs"]
mod support;

use axum::{
    Extension, Json, Router,
    extract::{Path, Query},
    http::HeaderMap,
    routing::post,
};
use idem_runtime::idempotent;

#[derive(serde::Deserialize)]
struct Paging {
    page: u64,
    size: u64,
    order: String,
}

#[derive(serde::Deserialize)]
struct Item {
    id: u64,
}

#[idempotent(scope = "orders", key = format!("{shop}-{id}-{page}-{size}-{by}-{whole:?}-{}", item.id))]
async fn create(
    _: HeaderMap,
    Path((shop, mut id)): Path<(String, u64)>,
    Query(Paging { page, ref size, order: mut by, .. }): Query<Paging>,
    whole @ Query(_): Query<Vec<(String, String)>>,
    ref headers: HeaderMap,
    Json(mut item): Json<Item>,
) -> String {
    id += 1;
    item.id += 1;
    by.push('!');
    assert_eq!(whole.0.len(), 3);
    assert_eq!(headers.len(), 1);
    format!("{shop} {id} {page} {size} {by} {}", item.id)
}

#[idempotent(scope = "limits", key = format!("{limit}-{body}"))]
async fn limited(Extension(&limit): Extension<&'static u32>, body: String) -> String {
    (limit + 1).to_string() + &body
}

fn main() {
    let app = Router::new()
        .route("/{shop}/{id}", post(create))
        .route("/limited", post(limited).layer(Extension(&7_u32)))
        .with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/x/1?page=1&size=2&order=up", &[], r#"{"id":7}"#));
    assert_eq!(answer.2, "x 2 1 2 up! 8");
    let answer = support::runs_once(&app, || support::post("/limited", &[], "a"));
    assert_eq!(answer.2, "8a");
}
