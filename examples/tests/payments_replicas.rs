//! Several replicas of the built service on one store and one ledger: together, killed, restarted, stopped.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod support;

use std::{collections::HashMap, time::Instant};

use axum::http::StatusCode;
use tests::servers::{RedisServer, eventually_async, free_port};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use self::support::{Answer, LATER, Ledger, PATIENCE, Place, Service, card, on_stores, within};

on_stores!([sqlite redis postgres tiered]: [
    concurrent_duplicates_at_two_replicas_run_once
    duplicates_that_wait_all_get_the_one_answer
    a_flaky_card_is_remembered_by_every_replica
    an_answer_survives_the_replica_that_gave_it
]);

const KEYS: usize = 50;
const DUPLICATES: usize = 20;

async fn concurrent_duplicates_at_two_replicas_run_once(place: Place) {
    let ledger = Ledger::new();
    let replicas = replicas(&place.url, &ledger).await;
    let answers = send_duplicates(&replicas, &["store-unavailable"], "/payments").await;

    for (key, mut answers) in answers {
        for refused in answers.iter().filter(|answer| answer.status != StatusCode::CREATED) {
            assert_eq!((refused.status, refused.code().as_str()), (StatusCode::CONFLICT, "in-flight"), "{key}");
            assert!(refused.header("retry-after").is_some(), "{key}");
        }
        for replica in &replicas {
            answers.push(replica.insist(&LATER, "/payments", &key, &card("tok_visa")).await);
        }
        assert_made_once(&key, answers.into_iter().filter(|answer| answer.status != StatusCode::CONFLICT));
    }
    assert_eq!(ledger.lines().len(), KEYS);
}

async fn duplicates_that_wait_all_get_the_one_answer(place: Place) {
    let ledger = Ledger::new();
    let replicas = replicas(&place.url, &ledger).await;
    for (key, answers) in send_duplicates(&replicas, &LATER, "/wait").await {
        assert_made_once(&key, answers);
    }
    assert_eq!(ledger.lines().len(), KEYS);
}

/// All are the one answer, and one of them is no replay.
fn assert_made_once(key: &str, answers: impl IntoIterator<Item = Answer>) {
    let answers: Vec<_> = answers.into_iter().collect();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED), "{key}: {answers:?}");
    assert!(answers.iter().all(|answer| answer.bytes == answers[0].bytes), "{key} has one answer");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed()).count(), 1, "{key} ran once");
}

async fn a_flaky_card_is_remembered_by_every_replica(place: Place) {
    let ledger = Ledger::new();
    let [one, two] = &replicas(&place.url, &ledger).await;
    let first = one.post("/payments", Some("k"), &card("tok_flaky")).await;
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE);
    let second = two.post("/payments", Some("k"), &card("tok_flaky")).await;
    assert_eq!(second.status, StatusCode::CREATED);
    assert!(!second.replayed());
    let third = one.post("/payments", Some("k"), &card("tok_flaky")).await;
    assert!(third.replayed());
    assert_eq!(ledger.lines().len(), 1);
}

async fn an_answer_survives_the_replica_that_gave_it(place: Place) {
    let ledger = Ledger::new();
    let [one, two] = replicas(&place.url, &ledger).await;
    let first = one.post("/payments", Some("k"), &card("tok_visa")).await;
    one.kill().await;
    two.kill().await;
    let three = Service::start(&place.url, &ledger).await;
    let retry = three.post("/payments", Some("k"), &card("tok_visa")).await;
    assert!(retry.replayed());
    assert_eq!((retry.status, retry.bytes), (first.status, first.bytes));
    assert_eq!(ledger.lines().len(), 1);
}

/// A replica was killed at it, before it charged anything.
#[tokio::test]
async fn half_a_line_of_the_ledger_is_no_payment_and_spoils_none() {
    let ledger = Ledger::new();
    std::fs::write(ledger.path(), r#"{"id":"ch_0000000000000000","caller":"al"#).expect("half a line");
    let service = Service::start("memory:", &ledger).await;
    for payments in 0..2 {
        assert_eq!(service.get("/payments").await.json().as_array().map(Vec::len), Some(payments));
        let payment = service.post("/payments", Some(&payments.to_string()), &card("tok_visa")).await;
        assert_eq!(payment.status, StatusCode::CREATED);
    }
    assert_eq!(ledger.lines().len(), 2);
}

#[tokio::test]
async fn an_answer_survives_a_redis_that_writes_everything_down() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let ledger = Ledger::new();
    let service = Service::start(&redis.url(), &ledger).await;
    let first = service.post("/payments", Some("k"), &card("tok_visa")).await;
    assert_eq!(first.status, StatusCode::CREATED);

    redis.kill();
    let refused = service.post("/payments", Some("k"), &card("tok_visa")).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable"));

    redis.restart();
    let retried = async || {
        let retry = service.post("/payments", Some("k"), &card("tok_visa")).await;
        (retry.status != StatusCode::SERVICE_UNAVAILABLE).then_some(retry)
    };
    let retry = eventually_async("an answer other than 503", PATIENCE, retried).await;
    assert!(retry.replayed());
    assert_eq!((retry.status, retry.bytes), (first.status, first.bytes));
    assert_eq!(ledger.lines().len(), 1);
}

/// Nobody knows whether the card was charged, so nobody charges it: first the lease must run out, then it is unknown.
#[tokio::test]
async fn a_payment_whose_replica_was_killed_is_never_made_again() {
    let (redis, ledger) = (RedisServer::start(), Ledger::new());
    let [one, two] = replicas(&redis.url(), &ledger).await;
    let connection = post_and_leave_open(&one, "k").await;
    until_claimed(&redis).await;
    one.kill().await;
    drop(connection);

    let killed = Instant::now();
    let outcome = loop {
        let retry = two.post("/payments", Some("k"), &card("tok_slow")).await;
        assert_eq!(retry.status, StatusCode::CONFLICT);
        if retry.code() != "in-flight" {
            break retry;
        }
        // As a client does that is told to come back later.
        let seconds = retry.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds");
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        assert!(killed.elapsed() < PATIENCE, "the lease does not run out");
    };
    assert_eq!(outcome.code(), "outcome-unknown");
    assert_eq!(ledger.lines().len(), 0);
}

#[tokio::test]
async fn stopping_waits_for_what_runs() {
    let (redis, ledger) = (RedisServer::start(), Ledger::new());
    let [one, two] = replicas(&redis.url(), &ledger).await;
    let caller = (*one).clone();
    let request = tokio::spawn(async move { caller.post("/payments", Some("k"), &card("tok_slow")).await });
    until_claimed(&redis).await;
    one.terminate().await;
    let answer = within(request).await.expect("no panic");
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(one.exit().await.success());

    let retry = two.post("/payments", Some("k"), &card("tok_slow")).await;
    assert!(retry.replayed());
    assert_eq!(retry.bytes, answer.bytes);
    assert_eq!(ledger.lines().len(), 1);
}

/// The server has nobody to wait for any more; the operation is waited for all the same.
#[tokio::test]
async fn stopping_waits_for_what_runs_for_nobody() {
    let (redis, ledger) = (RedisServer::start(), Ledger::new());
    let [one, two] = replicas(&redis.url(), &ledger).await;
    let connection = post_and_leave_open(&one, "k").await;
    until_claimed(&redis).await;
    drop(connection);
    one.terminate().await;
    assert!(one.exit().await.success());
    assert_eq!(ledger.lines().len(), 1);
    let retry = two.post("/payments", Some("k"), &card("tok_slow")).await;
    assert_eq!(retry.status, StatusCode::CREATED);
    assert!(retry.replayed());
    assert_eq!(ledger.lines().len(), 1);
}

/// Not when all is well, not when a handler panics, not when the store is gone.
#[tokio::test]
async fn no_key_and_no_caller_is_logged() {
    let (mut redis, ledger) = (RedisServer::on(free_port(), &[], Some("hidden-password")), Ledger::new());
    let service = Service::start(&redis.url(), &ledger).await;
    let made = service.post_as("hidden-caller", "/payments", Some("hidden-key"), &card("tok_visa")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let panicked = service.post_as("hidden-caller", "/payments", Some("hidden-key-2"), &card("tok_panic")).await;
    assert_eq!(panicked.status, StatusCode::INTERNAL_SERVER_ERROR);
    redis.kill();
    let refused = service.post_as("hidden-caller", "/payments", Some("hidden-key-3"), &card("tok_visa")).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(ledger.lines().len(), 2);

    let log = ledger.log();
    assert!(log.contains("tok_panic") && log.contains("claim failed"), "these are logged: {log}");
    assert!(!log.contains("hidden"), "{log}");
}

async fn replicas(store: &str, ledger: &Ledger) -> [Service; 2] {
    [Service::start(store, ledger).await, Service::start(store, ledger).await]
}

/// Every key's duplicates at once, spread over the replicas; ten keys at a time, for a process may not have a thousand
/// connections open.
async fn send_duplicates(
    replicas: &[Service; 2],
    again_after: &'static [&'static str],
    path: &'static str,
) -> HashMap<String, Vec<Answer>> {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("key-{n}")).collect();
    let mut answers: HashMap<String, Vec<Answer>> = HashMap::new();
    for keys in keys.chunks(10) {
        let mut requests = JoinSet::new();
        for duplicate in 0..DUPLICATES {
            for key in keys.iter().cloned() {
                let caller = (*replicas[duplicate % replicas.len()]).clone();
                requests.spawn(async move { (caller.insist(again_after, path, &key, &card("tok_visa")).await, key) });
            }
        }
        for (answer, key) in requests.join_all().await {
            answers.entry(key).or_default().push(answer);
        }
    }
    assert!(answers.len() == KEYS && answers.values().all(|answers| answers.len() == DUPLICATES));
    answers
}

/// Sends a slow payment over a connection of its own, and leaves the answer unread.
async fn post_and_leave_open(service: &Service, key: &str) -> TcpStream {
    let body = card("tok_slow").to_string();
    let request = format!(
        "POST /payments HTTP/1.1\r\nhost: test\r\nauthorization: Bearer alice\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(service.address()).await.expect("connected");
    connection.write_all(request.as_bytes()).await.expect("sent");
    connection
}

/// Until Redis has a record: the handler behind it is running.
async fn until_claimed(redis: &RedisServer) {
    let claimed = async || (redis.run::<u64>(&["DBSIZE"]) > 0).then_some(());
    eventually_async("a claim in Redis", PATIENCE, claimed).await;
}
