//! Transfers of the built service: each once and whole, whoever asks how often.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod support;

use std::collections::HashMap;

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::support::{Answer, Caller, LATER, Ledger, Place, Service, on_stores};

on_stores!([sqlite postgres tiered]: [
    a_transfer_moves_money_once
    what_may_not_be_moved_stays
    many_at_once_move_each_once
    an_account_is_never_overdrawn
]);
on_stores!([memory redis]: [where_there_are_no_transactions_there_are_no_transfers]);

fn transfer(from: &str, to: &str, amount: i64) -> Value {
    json!({ "from": from, "to": to, "amount": amount })
}

async fn balances(service: &Caller) -> HashMap<String, i64> {
    let accounts = service.get("/accounts").await.json();
    let balance = |account: &Value| Some((account["id"].as_str()?.to_owned(), account["balance"].as_i64()?));
    accounts.as_array().expect("a list").iter().map(|account| balance(account).expect("an account")).collect()
}

async fn assert_balances(service: &Caller, alice: i64, bob: i64, carol: i64) {
    let expected = [("alice", alice), ("bob", bob), ("carol", carol)].map(|(id, balance)| (id.to_owned(), balance));
    assert_eq!(balances(service).await, HashMap::from(expected));
}

async fn a_transfer_moves_money_once(place: Place) {
    let service = Service::start(&place.url, &Ledger::new()).await;
    assert_balances(&service, 10_000, 10_000, 10_000).await;
    let first = service.post("/transfers", Some("k"), &transfer("alice", "bob", 2_500)).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert!(!first.replayed());
    assert_eq!(first.json(), json!({ "from": "alice", "to": "bob", "amount": 2_500, "status": "succeeded" }));
    for _ in 0..3 {
        let again = service.post("/transfers", Some("k"), &transfer("alice", "bob", 2_500)).await;
        assert!(again.replayed());
        assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
    }
    let other = service.post("/transfers", Some("k"), &transfer("alice", "bob", 2_501)).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "key-reused"));
    let keyless = service.post("/transfers", None, &transfer("alice", "bob", 2_500)).await;
    assert_eq!((keyless.status, keyless.code().as_str()), (StatusCode::BAD_REQUEST, "key-missing"));
    assert_balances(&service, 7_500, 12_500, 10_000).await;

    // Accounts are made once, not at each start.
    let second = Service::start(&place.url, &Ledger::new()).await;
    assert_balances(&second, 7_500, 12_500, 10_000).await;
    assert!(second.post("/transfers", Some("k"), &transfer("alice", "bob", 2_500)).await.replayed());
}

async fn what_may_not_be_moved_stays(place: Place) {
    let service = Service::start(&place.url, &Ledger::new()).await;
    for (wish, status) in [
        (transfer("alice", "bob", 10_001), StatusCode::UNPROCESSABLE_ENTITY),
        (transfer("alice", "zoe", 1), StatusCode::NOT_FOUND),
        (transfer("zoe", "alice", 1), StatusCode::NOT_FOUND),
        (transfer("alice", "alice", 1), StatusCode::UNPROCESSABLE_ENTITY),
        (transfer("alice", "bob", 0), StatusCode::UNPROCESSABLE_ENTITY),
        (transfer("alice", "bob", -1), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": "alice", "amount": 1 }), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let refused = service.post("/transfers", Some("k"), &wish).await;
        assert_eq!(refused.status, status, "{wish}");
        assert_eq!(refused.json()["status"], status.as_u16(), "{wish}");
        assert!(!refused.replayed());
    }
    assert_balances(&service, 10_000, 10_000, 10_000).await;
    // An error was rolled back together with its claim: the key is free, and the same request may run later.
    let rich = service.post("/transfers", Some("k2"), &transfer("carol", "alice", 1)).await;
    assert_eq!(rich.status, StatusCode::CREATED);
    let late = service.post("/transfers", Some("k"), &transfer("alice", "bob", 10_001)).await;
    assert_eq!(late.status, StatusCode::CREATED);
    assert_balances(&service, 0, 20_001, 9_999).await;
}

/// Between all accounts in both directions, each asked for four times at once, at two replicas.
async fn many_at_once_move_each_once(place: Place) {
    const TRANSFERS: i64 = 60;
    let ledger = Ledger::new();
    let replicas = [Service::start(&place.url, &ledger).await, Service::start(&place.url, &ledger).await];
    let pairs = [("alice", "bob"), ("bob", "alice"), ("bob", "carol"), ("carol", "bob"), ("alice", "carol")];
    let mut expected = HashMap::from(["alice", "bob", "carol"].map(|id| (id.to_owned(), 10_000)));
    let mut requests = JoinSet::new();
    for number in 0..TRANSFERS {
        let (from, to) = pairs[number as usize % pairs.len()];
        *expected.get_mut(from).expect("an account") -= number + 1;
        *expected.get_mut(to).expect("an account") += number + 1;
        for duplicate in 0..4 {
            let caller = (*replicas[duplicate % 2]).clone();
            let (key, wish) = (format!("key-{number}"), transfer(from, to, number + 1));
            requests.spawn(async move { (number, caller.insist(&LATER, "/transfers", &key, &wish).await) });
        }
    }
    let mut answers: HashMap<i64, Vec<Answer>> = HashMap::new();
    for (number, answer) in requests.join_all().await {
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answers.entry(number).or_default().push(answer);
    }
    for (number, answers) in &answers {
        assert_eq!(answers.iter().filter(|answer| !answer.replayed()).count(), 1, "{number} was made once");
        assert!(answers.iter().all(|answer| answer.bytes == answers[0].bytes), "{number} has one answer");
    }
    let found = balances(&replicas[0]).await;
    assert_eq!(found.values().sum::<i64>(), 30_000, "no money came or went");
    assert_eq!(found, expected, "each moved once");
}

/// Ten are covered, ten are not, and all come at once.
async fn an_account_is_never_overdrawn(place: Place) {
    let ledger = Ledger::new();
    let replicas = [Service::start(&place.url, &ledger).await, Service::start(&place.url, &ledger).await];
    let mut requests = JoinSet::new();
    for number in 0..20 {
        let caller = (*replicas[number % 2]).clone();
        let (key, wish) = (format!("key-{number}"), transfer("alice", "bob", 1_000));
        requests.spawn(async move { caller.insist(&LATER, "/transfers", &key, &wish).await });
    }
    let statuses: Vec<_> = requests.join_all().await.into_iter().map(|answer| answer.status).collect();
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((count(StatusCode::CREATED), count(StatusCode::UNPROCESSABLE_ENTITY)), (10, 10), "{statuses:?}");
    assert_balances(&replicas[0], 0, 20_000, 10_000).await;
}

async fn where_there_are_no_transactions_there_are_no_transfers(place: Place) {
    let service = Service::start(&place.url, &Ledger::new()).await;
    for answer in
        [service.post("/transfers", Some("k"), &transfer("alice", "bob", 1)).await, service.get("/accounts").await]
    {
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("sqlite:") && detail.contains("postgres:"), "it says what has them: {detail}");
    }
    let stranger = Request::post(service.uri("/transfers")).body(Full::<Bytes>::default()).expect("a request");
    assert_eq!(service.send(stranger).await.expect("an answer").status, StatusCode::UNAUTHORIZED);
}
