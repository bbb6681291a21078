//! Steps of a transaction that go wrong: what the client is told, and what is left.

use axum::{
    Router,
    extract::{FromRef, State},
    response::Response,
    routing::post,
};
use idem_runtime::{Disposition, Tx, idempotent, store::StoreErrorKind};
use tests::service::Call;

use crate::{
    bank::{App, Bank, answer, serve},
    fake::{Commit, Fake},
};

impl FromRef<App<Self>> for Fake {
    fn from_ref(app: &App<Self>) -> Self {
        app.store.clone()
    }
}

#[idempotent(scope = "transfers", key = from_header, transaction, store = definitive)]
async fn transfer(mut tx: Tx<Fake>, State(app): State<App<Fake>>, call: Call) -> Response {
    tx.connection().write("entry");
    app.script.run(call).await
}

#[idempotent(scope = "transfers", transaction)]
async fn optional(mut tx: Tx<Fake>, State(app): State<App<Fake>>, call: Call) -> Response {
    tx.connection().write("entry");
    app.script.run(call).await
}

#[idempotent(scope = "transfers", key = from_header, transaction, financial)]
async fn financial(mut tx: Tx<Fake>, State(app): State<App<Fake>>, call: Call) -> Response {
    tx.connection().write("entry");
    app.script.run(call).await
}

#[idempotent(scope = "transfers", key = from_header, transaction)]
async fn unsure(mut tx: Tx<Fake>) -> (Disposition, &'static str) {
    tx.connection().write("entry");
    (Disposition::Unknown, "who knows")
}

#[idempotent(scope = "transfers", key = from_header, transaction, store = definitive, on_conflict = wait("50s"))]
async fn patient(mut tx: Tx<Fake>, State(app): State<App<Fake>>, call: Call) -> Response {
    tx.connection().write("entry");
    app.script.run(call).await
}

async fn bank() -> (Fake, Bank) {
    let fake = Fake::new();
    let routes = Router::new()
        .route("/transfer", post(transfer))
        .route("/optional", post(optional))
        .route("/patient", post(patient))
        .route("/financial", post(financial))
        .route("/unsure", post(unsure));
    (fake.clone(), serve(fake, |setup| setup.max_answer_bytes(CAP), routes).await)
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_answered_truthfully() {
    let (fake, bank) = bank().await;
    fake.commits([Commit::Unseen]);
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (1, 1, 1));
    bank.post("/transfer").send().await.assert_replay_of(&first);
}

const CAP: usize = 1000;

/// What is recorded of it is only that it ran, but this client waits for it.
#[tokio::test]
async fn a_large_answer_whose_commit_is_not_confirmed_reaches_its_client() {
    let (fake, bank) = bank().await;
    bank.script.answer(|_, _| answer(201, "x".repeat(CAP + 1)));
    fake.commits([Commit::Unseen]);
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    assert_eq!((first.body.len(), fake.entries().len(), bank.script.runs()), (CAP + 1, 1, 1));
    bank.post("/transfer").send().await.assert_problem(409, "response-not-kept");
}

/// It runs once more, with arguments of its own.
#[tokio::test]
async fn an_error_answer_that_finds_another_transaction_in_its_way_is_made_again() {
    let (fake, bank) = bank().await;
    bank.script.statuses(&[402]);
    fake.busy_after(1);
    let first = bank.post("/patient").send().await;
    first.assert_fresh(402);
    assert_eq!((fake.entries().len(), bank.script.runs()), (0, 2));
    bank.post("/patient").send().await.assert_replay_of(&first);
}

#[tokio::test]
async fn a_commit_that_was_undone_unseen_runs_again() {
    let (fake, bank) = bank().await;
    fake.commits([Commit::Undone, Commit::Undone]);
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (1, 1, 3));
    bank.post("/transfer").send().await.assert_replay_of(&first);
    assert_eq!(bank.idempotency.metrics().reruns, 2);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nobody_can_tell_of_is_told_to_be_so_and_found_by_the_retry() {
    let (fake, bank) = bank().await;
    fake.commits([Commit::Unseen]);
    bank.script.hold();
    let ask = tokio::spawn(bank.post("/transfer").send());
    bank.script.begun(1).await;
    // The database is gone for longer than anybody waits.
    fake.begins([StoreErrorKind::Unreachable; 200]);
    bank.script.release();
    ask.await.expect("no panic").assert_problem(503, "commit-unconfirmed");
    while fake_is_gone(&fake) {}
    let retry = bank.post("/transfer").send().await;
    assert!(retry.is_replay(), "{retry}");
    assert_eq!((fake.entries().len(), bank.script.runs()), (1, 1));
}

/// Uses up one failure.
fn fake_is_gone(fake: &Fake) -> bool {
    use futures_util::FutureExt;
    use idem_runtime::store::Transactions;

    fake.begin().now_or_never().expect("it does not wait").is_err()
}

#[tokio::test]
async fn a_lost_reply_without_a_key_is_told_to_be_so() {
    let (fake, bank) = bank().await;
    fake.commits([Commit::Unseen]);
    bank.client.post("/optional").send().await.assert_problem(503, "commit-unconfirmed");
    assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (1, 0, 1));
}

#[tokio::test]
async fn whatever_meets_another_transaction_runs_again() {
    let (fake, bank) = bank().await;
    fake.claims([StoreErrorKind::Conflict]);
    fake.completions([StoreErrorKind::Conflict]);
    fake.commits([Commit::Conflict]);
    bank.post("/transfer").send().await.assert_fresh(201);
    // Not for the claim: it had not begun.
    assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (1, 1, 3));
    assert_eq!(bank.idempotency.metrics().reruns, 3);
}

/// The database has undone what the handler did, so a retry may run, wherever money moves as well.
#[tokio::test]
async fn a_retry_is_told_to_run_after_a_panic() {
    let (fake, bank) = bank().await;
    for (number, path) in ["/transfer", "/optional", "/financial"].into_iter().enumerate() {
        bank.script.answer(|_, _| panic!("the handler panics, as it is told to"));
        bank.post(path).send().await.assert_problem_for_now(500, "panicked");
        assert_eq!(fake.entries().len(), number);
        bank.script.statuses(&[201; 6]);
        bank.post(path).send().await.assert_fresh(201);
    }
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing() {
    let (fake, bank) = bank().await;
    for (at, runs) in ["claim", "completion", "commit"].into_iter().zip([0, 1, 2]) {
        match at {
            "claim" => fake.claims([StoreErrorKind::Misconfigured]),
            "completion" => fake.completions([StoreErrorKind::Unavailable]),
            _ => fake.commits([Commit::Full]),
        }
        bank.post("/transfer").send().await.assert_problem(503, "store-unavailable");
        assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (0, 0, runs), "{at}");
    }
    bank.post("/transfer").send().await.assert_fresh(201);
}

#[tokio::test]
async fn a_transaction_that_cannot_be_begun_at_once_is_begun_again() {
    let (fake, bank) = bank().await;
    fake.begins([StoreErrorKind::Unreachable]);
    bank.post("/transfer").send().await.assert_fresh(201);
    fake.begins([StoreErrorKind::Misconfigured]);
    bank.client.post("/transfer").key("k2").send().await.assert_problem(503, "store-unavailable");
    assert_eq!(bank.script.runs(), 1);
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_is_asked_for_in_another_transaction() {
    let (fake, bank) = bank().await;
    fake.claims([StoreErrorKind::Unavailable, StoreErrorKind::Unreachable]);
    bank.post("/transfer").send().await.assert_fresh(201);
    assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (1, 1, 1));
    assert_eq!(bank.idempotency.metrics().store_errors, 0);
}

#[tokio::test]
async fn an_error_that_is_kept_is_answered_even_if_it_cannot_be_recorded() {
    let (fake, bank) = bank().await;
    bank.script.answer(|_, _| answer(402, "declined"));
    bank.script.hold();
    let ask = tokio::spawn(bank.post("/transfer").send());
    bank.script.begun(1).await;
    fake.begins([StoreErrorKind::Misconfigured]);
    bank.script.release();
    ask.await.expect("no panic").assert_fresh(402);
    assert_eq!((fake.entries().len(), fake.records()), (0, 0));
    let second = bank.post("/transfer").send().await;
    second.assert_fresh(402);
    bank.post("/transfer").send().await.assert_replay_of(&second);
    assert_eq!((fake.entries().len(), fake.records(), bank.script.runs()), (0, 1, 2));
}

#[tokio::test]
async fn an_outcome_in_a_transaction_is_never_unknown() {
    let (fake, bank) = bank().await;
    bank.post("/unsure").send().await.assert_fresh(200);
    assert_eq!((fake.entries().len(), fake.records()), (0, 0));
    bank.post("/unsure").send().await.assert_fresh(200);
}
