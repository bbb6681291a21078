//! A store that gives no answer, or whose answer is lost.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, response::Response, routing::post};
use idem_runtime::{OnStoreError, Policy, idempotent, store::StoreErrorKind};
use tests::{
    backend::{Backend, Fixture, Sqlite},
    faulty_store::{Fault, FaultyStore, Step},
    service::{App, Call, Service, Setup},
};

tests::on_every_store!(
    a_handler_runs_without_the_store_where_that_is_chosen,
    a_handler_under_a_layer_runs_without_the_store_where_that_is_chosen,
    a_claim_whose_reply_is_lost_is_asked_again_and_won,
);

#[idempotent(scope = "payments", key = from_header)]
async fn pay(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, on_store_error = run)]
async fn pay_anyway(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn plain(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn a_handler_runs_without_the_store_where_that_is_chosen(backend: Backend) {
    let routes = Router::new().route("/pay", post(pay_anyway));
    runs_without_its_store(&backend, || Service::of(&backend, routes.clone())).await;
}

async fn a_handler_under_a_layer_runs_without_the_store_where_that_is_chosen(backend: Backend) {
    const ANYWAY: Policy = Policy::new("api").on_store_error(OnStoreError::Run).validate();
    let routes = Router::new().route("/pay", post(plain));
    runs_without_its_store(&backend, || Service::layered(&backend, ANYWAY, routes.clone())).await;
}

async fn runs_without_its_store<'a>(backend: &'a Backend, setup: impl Fn() -> Setup<'a>) {
    let store = FaultyStore::around(backend.connect().await);
    let service = setup().behind(store.clone()).start().await;
    let other = setup().script(service.script()).start().await;
    store.fail_all(&Fault::Refused(StoreErrorKind::Unreachable));
    let first = service.post("/pay").key("k").send().await;
    first.assert_fresh(201);
    assert_eq!((service.runs(), service.idempotency().metrics().unguarded), (1, 1));
    // The store is still down, but this process remembers.
    service.post("/pay").key("k").send().await.assert_replay_of(&first);
    store.heal();
    assert!(service.idempotency().drain(Duration::from_secs(30)).await.finished);
    for service in [&other, &service] {
        service.post("/pay").key("k").send().await.assert_replay_of(&first);
        service.post("/pay").key("k").body("other").send().await.assert_problem(422, "key-reused");
    }
    assert_eq!(service.runs(), 1);
    let metrics = service.idempotency().metrics();
    assert_eq!((metrics.unguarded, metrics.unavailable, metrics.stale_owners), (1, 0, 0));
}

/// The store took it, and then finds it taken: by the one who asks.
async fn a_claim_whose_reply_is_lost_is_asked_again_and_won(backend: Backend) {
    let store = FaultyStore::around(backend.connect().await);
    let service = Service::of(&backend, Router::new().route("/pay", post(pay))).behind(store.clone()).start().await;
    for round in 0..10 {
        let key = round.to_string();
        store.fail_next(Step::Claim, Fault::ReplyLost);
        store.fail_next(Step::Claim, Fault::ReplyLost);
        let asked = store.calls(Step::Claim);
        let first = service.post("/pay").key(&key).send().await;
        if first.status == 503 {
            // A busy machine answers too late, and nothing has run.
            assert_eq!(service.runs(), 0);
            store.heal();
            continue;
        }
        first.assert_fresh(201);
        assert_eq!((store.calls(Step::Claim) - asked, service.runs()), (3, 1));
        service.post("/pay").key(&key).send().await.assert_replay_of(&first);
        let metrics = service.idempotency().metrics();
        assert_eq!((service.runs(), metrics.executed, metrics.conflicts), (1, 1, 0));
        return;
    }
    panic!("this machine is too slow to ask three times in a quarter of a second");
}

/// How long the store waits for the lock of its file.
const IMPATIENT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_has_locked_is_refused_and_nothing_runs() {
    let file = Arc::new(Sqlite::start().await);
    let (backend, store) = (Backend::of(file.clone()), file.impatient(IMPATIENT).await);
    let service = Service::of(&backend, Router::new().route("/pay", post(pay))).behind(store).start().await;
    let lock = file.lock().await;
    for _ in 0..2 {
        service.post("/pay").key("k").send().await.assert_problem(503, "store-unavailable");
    }
    assert_eq!((service.runs(), service.idempotency().metrics().unavailable), (0, 2));
    drop(lock);
    assert!(service.idempotency().drain(Duration::from_secs(30)).await.finished);
    let first = service.post("/pay").key("k").send().await;
    first.assert_fresh(201);
    service.post("/pay").key("k").send().await.assert_replay_of(&first);
    assert_eq!((service.runs(), backend.records().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_locked_after_the_effect_makes_nothing_run_again() {
    let file = Arc::new(Sqlite::start().await);
    let (backend, store) = (Backend::of(file.clone()), file.impatient(IMPATIENT).await);
    let routes = Router::new().route("/pay", post(pay));
    let service = Service::of(&backend, routes.clone()).behind(store).start().await;
    let other = Service::of(&backend, routes).script(service.script()).start().await;
    service.script().hold();
    let first = tokio::spawn(service.post("/pay").key("k").send());
    service.script().begun(1).await;
    let lock = file.lock().await;
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    // The process that ran it knows; the other one sees that it was begun.
    for _ in 0..2 {
        service.post("/pay").key("k").send().await.assert_replay_of(&first);
        other.post("/pay").key("k").send().await.assert_problem(409, "in-flight");
    }
    assert_eq!(service.idempotency().metrics().unrecorded, 1);
    drop(lock);
    assert!(service.idempotency().drain(Duration::from_secs(30)).await.finished);
    for service in [&other, &service] {
        service.post("/pay").key("k").send().await.assert_replay_of(&first);
    }
    assert_eq!((service.runs(), service.idempotency().metrics().stale_owners), (1, 0));
}
