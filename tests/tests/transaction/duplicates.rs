//! Requests with one key that come at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use tests::client::Reply;

use crate::{
    bank::{Bank, Database},
    on_every_database,
};

on_every_database!(
    twenty_at_once_on_five_connections_run_once,
    fifty_at_once_on_five_connections_run_once,
    duplicates_leave_connections_to_others,
    a_duplicate_behind_another_process_is_refused_after_a_while,
    a_duplicate_behind_another_process_may_wait_for_its_answer,
    another_use_of_the_key_in_flight_is_refused,
    when_the_first_one_fails_the_next_one_runs,
);

async fn twenty_at_once_on_five_connections_run_once(database: Database) {
    many_run_once(&database, 20).await;
}

async fn fifty_at_once_on_five_connections_run_once(database: Database) {
    many_run_once(&database, 50).await;
}

async fn many_run_once(database: &Database, many: usize) {
    let banks = [database.bank().await, database.bank().await];
    let begun = Instant::now();
    let replies = join_all((0..many).map(|number| banks[number % 2].post("/transfer").send())).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "somebody waits for a time-out: {:?}", begun.elapsed());
    one_answer(&replies);
    assert_eq!(banks.iter().map(|bank| bank.script.runs()).sum::<usize>(), 1);
    assert_eq!((database.entries().await, database.records().await), (1, 1));
}

#[track_caller]
fn one_answer(replies: &[Reply]) {
    let fresh: Vec<_> = replies.iter().filter(|reply| !reply.is_replay()).collect();
    let [first] = fresh[..] else { panic!("{} answers, the first is {}", fresh.len(), fresh[0]) };
    first.assert_fresh(201);
    replies.iter().filter(|reply| reply.is_replay()).for_each(|replay| replay.assert_replay_of(first));
}

/// SQLite has one writer: what can go on beside a transaction is a replay.
async fn duplicates_leave_connections_to_others(database: Database) {
    let bank = database.bank().await;
    let other = bank.client.post("/transfer").key("other").body("other").send().await;
    bank.script.hold();
    let many: Vec<_> = (0..50).map(|_| tokio::spawn(bank.post("/patient").send())).collect();
    bank.script.begun(2).await;
    if let Database::Postgres(..) = database {
        bank.client.post("/transfer").key("other").body("other").send().await.assert_replay_of(&other);
    }
    bank.script.release();
    let replies: Vec<_> = join_all(many).await.into_iter().map(|reply| reply.expect("no panic")).collect();
    one_answer(&replies);
    assert_eq!(database.entries().await, 2);
}

async fn a_duplicate_behind_another_process_is_refused_after_a_while(database: Database) {
    let (first, second) = (database.bank().await, impatient(&database).await);
    first.script.hold();
    let ask = tokio::spawn(first.post("/transfer").send());
    first.script.begun(1).await;
    let begun = Instant::now();
    second.post("/transfer").send().await.assert_problem(409, "in-flight");
    assert!(begun.elapsed() >= LOCK, "it waits for the lock: {:?}", begun.elapsed());
    first.script.release();
    let answer = ask.await.expect("no panic");
    answer.assert_fresh(201);
    second.post("/transfer").send().await.assert_replay_of(&answer);
    assert_eq!((database.entries().await, second.script.runs()), (1, 0));
}

async fn a_duplicate_behind_another_process_may_wait_for_its_answer(database: Database) {
    let (first, second) = (database.bank().await, impatient(&database).await);
    first.script.hold();
    let ask = tokio::spawn(first.post("/patient").send());
    first.script.begun(1).await;
    let duplicate = tokio::spawn(second.post("/patient").send());
    // Longer than it waits for the lock at once.
    tokio::time::sleep(2 * LOCK).await;
    assert!(!duplicate.is_finished());
    first.script.release();
    let answer = ask.await.expect("no panic");
    answer.assert_fresh(201);
    duplicate.await.expect("no panic").assert_replay_of(&answer);
    assert_eq!((database.entries().await, second.script.runs()), (1, 0));
}

/// Who may see the record only once it is committed is told to come back, and then that it is another's.
async fn another_use_of_the_key_in_flight_is_refused(database: Database) {
    let (here, elsewhere) = (database.bank().await, impatient(&database).await);
    here.script.hold();
    let ask = tokio::spawn(here.post("/transfer").send());
    here.script.begun(1).await;
    let beside = tokio::spawn(here.client.post("/transfer").key("k").body("another entry").send());
    let another = || elsewhere.client.post("/transfer").key("k").body("another entry").send();
    another().await.assert_problem(409, "in-flight");
    here.script.release();
    let first = ask.await.expect("no panic");
    first.assert_fresh(201);
    let beside = beside.await.expect("no panic");
    if beside.status != StatusCode::CONFLICT {
        beside.assert_problem(422, "key-reused");
    }
    another().await.assert_problem(422, "key-reused");
    for bank in [&here, &elsewhere] {
        bank.post("/transfer").send().await.assert_replay_of(&first);
        bank.client.post("/transfer").key("k").body("another entry").send().await.assert_problem(422, "key-reused");
    }
    assert_eq!((database.entries().await, database.records().await), (1, 1));
    assert_eq!((here.script.runs(), elsewhere.script.runs()), (1, 0));
}

async fn when_the_first_one_fails_the_next_one_runs(database: Database) {
    let bank = database.bank().await;
    bank.script.statuses(&[500, 500, 201]);
    let replies = join_all((0..10).map(|_| bank.post("/patient").send())).await;
    let count = |status| replies.iter().filter(|reply| reply.status == status).count();
    assert_eq!((count(StatusCode::INTERNAL_SERVER_ERROR), count(StatusCode::CREATED)), (2, 8));
    assert_eq!((database.entries().await, bank.script.runs()), (1, 3));
}

const LOCK: Duration = Duration::from_millis(300);

/// A process whose transactions do not wait long for others.
async fn impatient(database: &Database) -> Bank {
    database.bank_with(LOCK, |setup| setup).await
}
