//! What `macro_rules` hands on stands in groups that nobody sees.
#![deny(warnings)]

#[path = "../support.rs"]
mod support;

use axum::{Router, extract::FromRef, routing::post};
use idem_runtime::{
    ConsumeError, Idempotency, SqliteStore, Tx, idempotent, idempotent_consumer,
};

#[derive(Clone, FromRef)]
struct Bank {
    idempotency: Idempotency,
    store: SqliteStore,
}

macro_rules! handlers {
    ($name:ident($pattern:pat_param, $argument:ty) $body:block, $transfer:ident($tx:ty)) => {
        #[idempotent(scope = "orders", key = from_header)]
        async fn $name($pattern: $argument) -> String $body

        #[idempotent(scope = "transfers", key = from_header, transaction)]
        async fn $transfer(tx: $tx, body: String) -> String {
            drop(tx);
            body
        }
    };
}

handlers!(create(body, String) { body }, transfer(Tx<SqliteStore>));

macro_rules! consumer {
    ($name:ident($runtime:ident, $event:ident: $type:ty) $body:block) => {
        #[idempotent_consumer(scope = "ship", key = $event, payload = $event, runtime = $runtime)]
        async fn $name($runtime: Idempotency, $event: $type) -> Result<u64, ConsumeError> $body
    };
}

consumer!(ship(idempotency, id: u64) { drop(idempotency); Ok(id) });

fn main() {
    let _: Router<Bank> = Router::new().route("/transfers", post(transfer));
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], "a"));
    assert_eq!(support::wait(ship(support::runtime(), 7)), Ok(7));
}
