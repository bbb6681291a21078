//! Effect and record are both there or both not.

use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use http::StatusCode;
use idem_runtime::Disposition;
use tests::client::Wire;

use crate::{
    bank::{Database, answer},
    on_every_database,
};

on_every_database!(
    an_answer_is_committed_with_its_effect_and_replayed,
    an_error_answer_leaves_nothing,
    an_error_answer_that_is_kept_leaves_its_record_alone,
    a_success_that_the_handler_frees_leaves_nothing,
    an_error_that_the_handler_keeps_leaves_its_record_alone,
    a_record_that_cannot_be_read_is_refused_and_nothing_is_written,
    a_panic_leaves_nothing,
    a_handler_cut_off_with_its_runtime_leaves_nothing,
    a_client_that_leaves_cuts_nothing,
    another_use_of_the_key_is_refused,
    the_time_of_an_answer_starts_when_it_is_complete,
    an_answer_over_the_cap_is_committed_and_not_run_again,
    a_transaction_that_is_not_given_back_is_not_committed,
    a_transaction_that_somebody_may_still_use_is_not_committed,
    a_request_without_a_key_is_a_transaction_all_the_same,
    a_handler_knows_its_attempt,
    nothing_is_written_in_a_transaction_that_has_ended,
);

async fn nothing_is_written_in_a_transaction_that_has_ended(database: Database) {
    let bank = database.bank().await;
    for _ in 0..2 {
        bank.post("/ending").send().await.assert_problem(503, "store-unavailable");
    }
    bank.idle().await;
    assert_eq!((database.entries().await, database.records().await, bank.script.runs()), (0, 0, 2));
    bank.post("/transfer").send().await.assert_fresh(201);
}

async fn an_answer_is_committed_with_its_effect_and_replayed(database: Database) {
    let bank = database.bank().await;
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    assert_eq!((database.entries().await, database.records().await), (1, 1));
    bank.post("/transfer").send().await.assert_replay_of(&first);
    // Another process, as after a restart.
    database.bank().await.post("/transfer").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, bank.script.runs()), (1, 1));
    let metrics = bank.idempotency.metrics();
    assert_eq!((metrics.executed, metrics.replayed, metrics.in_flight, metrics.reruns), (1, 1, 0, 0));
}

async fn an_error_answer_leaves_nothing(database: Database) {
    let bank = database.bank().await;
    bank.script.statuses(&[402, 503, 201]);
    for status in [402, 503] {
        bank.post("/transfer").send().await.assert_fresh(status);
        assert_eq!((database.entries().await, database.records().await), (0, 0));
    }
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    bank.post("/transfer").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, bank.script.runs()), (1, 3));
}

async fn an_error_answer_that_is_kept_leaves_its_record_alone(database: Database) {
    let bank = database.bank().await;
    bank.script.statuses(&[402]);
    let first = bank.post("/definitive").send().await;
    first.assert_fresh(402);
    assert_eq!((database.entries().await, database.records().await), (0, 1));
    bank.post("/definitive").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, bank.script.runs()), (0, 1));
}

async fn a_success_that_the_handler_frees_leaves_nothing(database: Database) {
    let bank = database.bank().await;
    bank.script.answer(|run, _| match run {
        1 => (Disposition::Release, answer(200, "not yet")).into_response(),
        _ => answer(201, "done"),
    });
    bank.post("/transfer").send().await.assert_fresh(200);
    assert_eq!((database.entries().await, database.records().await), (0, 0));
    let second = bank.post("/transfer").send().await;
    second.assert_fresh(201);
    bank.post("/transfer").send().await.assert_replay_of(&second);
    assert_eq!((database.entries().await, database.records().await, bank.script.runs()), (1, 1, 2));
}

async fn an_error_that_the_handler_keeps_leaves_its_record_alone(database: Database) {
    let bank = database.bank().await;
    bank.script.answer(|_, _| (Disposition::Store, answer(502, "charged elsewhere, then lost")).into_response());
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(502);
    assert_eq!((database.entries().await, database.records().await), (0, 1));
    bank.post("/transfer").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, database.records().await, bank.script.runs()), (0, 1, 1));
}

async fn a_record_that_cannot_be_read_is_refused_and_nothing_is_written(database: Database) {
    let bank = database.bank().await;
    bank.post("/transfer").send().await.assert_fresh(201);
    database.make_records_unreadable().await;
    // Another process, too, which knows nothing of it.
    let other = database.bank().await;
    for bank in [&bank, &other, &bank, &other] {
        bank.post("/transfer").send().await.assert_problem(409, "outcome-unknown");
    }
    assert_eq!((database.entries().await, bank.script.runs(), other.script.runs()), (1, 1, 0));
    for (bank, executed) in [(&bank, 1), (&other, 0)] {
        let metrics = bank.idempotency.metrics();
        assert_eq!((metrics.unknown, metrics.executed), (2, executed));
    }
}

async fn a_panic_leaves_nothing(database: Database) {
    let bank = database.bank().await;
    bank.script
        .answer(|run, _| if run == 1 { panic!("the handler panics, as it is told to") } else { answer(201, "") });
    bank.post("/transfer").send().await.assert_problem_for_now(500, "panicked");
    assert_eq!((database.entries().await, database.records().await), (0, 0));
    bank.post("/transfer").send().await.assert_fresh(201);
    assert_eq!(database.entries().await, 1);
    assert_eq!(bank.idempotency.metrics().panics, 1);
}

async fn a_handler_cut_off_with_its_runtime_leaves_nothing(database: Database) {
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let elsewhere = database.clone();
    let bank = doomed.spawn(async move { elsewhere.bank().await }).await.expect("a bank");
    bank.script.hold();
    let ask = tokio::spawn(bank.post("/transfer").try_send());
    bank.script.begun(1).await;
    doomed.shutdown_background();
    assert!(ask.await.expect("no panic").is_err(), "nobody answers");
    let bank = database.bank().await;
    bank.post("/transfer").send().await.assert_fresh(201);
    assert_eq!((database.entries().await, database.records().await), (1, 1));
}

async fn a_client_that_leaves_cuts_nothing(database: Database) {
    let bank = database.bank().await;
    bank.script.hold();
    let mut wire = Wire::connect(bank.client.address()).await;
    wire.send(
        b"POST /transfer HTTP/1.1\r\nhost: bank\r\nx-account: acct_1\r\nidempotency-key: k\r\ncontent-length: 5\r\n\r\nentry",
    )
    .await;
    bank.script.begun(1).await;
    drop(wire);
    tests::servers::eventually_async("the handler goes on by itself", Duration::from_secs(30), async || {
        (bank.idempotency.metrics().detached == 1).then_some(())
    })
    .await;
    bank.script.release();
    bank.idle().await;
    assert_eq!((database.entries().await, database.records().await), (1, 1));
    let retry = bank.post("/transfer").send().await;
    assert_eq!((retry.status, retry.is_replay(), bank.script.runs()), (StatusCode::CREATED, true, 1));
}

async fn another_use_of_the_key_is_refused(database: Database) {
    let bank = database.bank().await;
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    bank.post("/transfer").body("another entry").send().await.assert_problem(422, "key-reused");
    bank.post("/transfer").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, bank.script.runs()), (1, 1));
}

async fn the_time_of_an_answer_starts_when_it_is_complete(database: Database) {
    const TTL: Duration = Duration::from_secs(2);
    let bank = database.bank().await;
    for round in 1..=10 {
        let key = round.to_string();
        let ask = || bank.client.post("/brief").key(&key).body("entry").send();
        bank.script.hold();
        let first = tokio::spawn(ask());
        bank.script.begun(round).await;
        // Real time, as the databases have it.
        tokio::time::sleep(TTL + Duration::from_millis(10)).await;
        let released = Instant::now();
        bank.script.release();
        let first = first.await.expect("no panic");
        first.assert_fresh(201);
        let retry = ask().await;
        if released.elapsed() < TTL {
            retry.assert_replay_of(&first);
            assert_eq!(bank.script.runs(), round);
            tokio::time::sleep(TTL + Duration::from_millis(10)).await;
            ask().await.assert_fresh(201);
            assert_eq!(bank.script.runs(), round + 1);
            return;
        }
    }
    panic!("this machine is too slow to ask within {TTL:?}");
}

async fn an_answer_over_the_cap_is_committed_and_not_run_again(database: Database) {
    let bank = database.bank_with(Duration::from_secs(30), |setup| setup.max_answer_bytes(100)).await;
    bank.script.answer(|_, _| answer(201, "x".repeat(101)));
    let first = bank.post("/transfer").send().await;
    first.assert_fresh(201);
    assert_eq!(first.body.len(), 101);
    assert_eq!((database.entries().await, database.records().await), (1, 1));
    bank.post("/transfer").send().await.assert_problem(409, "response-not-kept");
    assert_eq!((database.entries().await, bank.script.runs()), (1, 1));
}

async fn a_transaction_that_is_not_given_back_is_not_committed(database: Database) {
    let mut bank = database.bank().await;
    bank.post("/leaking").send().await.assert_problem(500, "transaction-leaked");
    let leaked = bank.leaked.recv().await.expect("what the handler kept");
    assert_eq!((database.entries().await, database.records().await), (0, 0));
    drop(leaked);
    bank.post("/leaking").send().await.assert_fresh(201);
    assert_eq!((database.entries().await, database.records().await), (1, 1));
}

async fn a_transaction_that_somebody_may_still_use_is_not_committed(database: Database) {
    let mut bank = database.bank().await;
    bank.post("/leaking-unused").send().await.assert_problem(500, "transaction-leaked");
    assert_eq!(database.records().await, 0);
    drop(bank.leaked.recv().await);
    bank.post("/leaking-unused").send().await.assert_fresh(201);
    assert_eq!(database.records().await, 1);
}

async fn a_request_without_a_key_is_a_transaction_all_the_same(database: Database) {
    let bank = database.bank().await;
    bank.script.statuses(&[201, 500, 201]);
    for (status, entries) in [(201, 1), (500, 1), (201, 2)] {
        bank.client.post("/optional").body("entry").send().await.assert_fresh(status);
        assert_eq!((database.entries().await, database.records().await), (entries, 0));
    }
    let first = bank.post("/optional").send().await;
    bank.post("/optional").send().await.assert_replay_of(&first);
    assert_eq!((database.entries().await, database.records().await), (3, 1));
}

async fn a_handler_knows_its_attempt(database: Database) {
    let bank = database.bank().await;
    let first = bank.post("/attempted").send().await;
    first.assert_fresh(200);
    let text = first.text();
    let (told, downstream) = text.rsplit_once(' ').expect("what it is told");
    assert_eq!((told, downstream.len()), ("1 true true", 64));
    assert_eq!(database.entries().await, 1);
}
