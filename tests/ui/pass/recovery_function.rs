#[path = "../support.rs"]
mod support;

use axum::{Router, http::StatusCode, routing::post};
use http::Response;
use idem_runtime::{Disposition, Idempotency, MemoryStore, Settlement, Unsettled, idempotent};

struct Provider {
    receipt: &'static str,
}

mod provider {
    use super::*;

    pub async fn ask(lost: Unsettled) -> Option<Settlement> {
        let provider = lost.context::<Provider>()?;
        assert!(lost.context::<String>().is_none(), "nothing of this type was given");
        assert_eq!((lost.attempt().number(), lost.attempt().downstream_key("charge").len()), (1, 64));
        Some(Settlement::responded(Response::new(provider.receipt.into())))
    }
}

async fn never_ran(_: Unsettled) -> Option<Settlement> {
    Some(Settlement::not_executed())
}

#[idempotent(scope = "payments", key = from_header, financial, on_abandoned = recover(provider::ask))]
async fn pay(_: String) -> (StatusCode, Disposition, &'static str) {
    (StatusCode::BAD_GATEWAY, Disposition::Unknown, "no answer")
}

#[idempotent(scope = "refunds", key = from_header, on_abandoned = recover(self::never_ran))]
async fn refund(_: String) -> (StatusCode, Disposition, &'static str) {
    (StatusCode::BAD_GATEWAY, Disposition::Unknown, "no answer")
}

fn main() {
    let runtime = Idempotency::builder(MemoryStore::new()).shared().context(Provider { receipt: "receipt" }).build();
    let app = Router::new().route("/pay", post(pay)).route("/refund", post(refund)).with_state(runtime);
    let answers = support::send(&app, [(); 2].map(|()| support::post("/pay", &[("idempotency-key", "k")], "")));
    assert_eq!(answers, [(502, false, "no answer".to_owned()), (200, true, "receipt".to_owned())]);
    support::runs_twice(&app, || support::post("/refund", &[("idempotency-key", "k")], ""));
}
