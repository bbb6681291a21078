//! The ledger of the built service: shared, long, blank in places, somebody else's.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod support;

use std::{fs::File, io::Write as _, path::Path, process::Stdio};

use axum::http::StatusCode;
use serde_json::json;

use self::support::{Ledger, Service, card, command, within};

fn add(path: &Path, text: &str) {
    let mut file = File::options().append(true).create(true).open(path).expect("the ledger");
    file.write_all(text.as_bytes()).expect("written");
}

async fn payments(service: &Service) -> usize {
    service.get("/payments").await.json().as_array().map(Vec::len).expect("a list")
}

async fn charge(service: &Service, key: &str) -> String {
    let payment = service.post("/payments", Some(key), &card("tok_visa")).await;
    assert_eq!(payment.status, StatusCode::CREATED, "{payment:?}");
    payment.json()["id"].as_str().expect("an id").to_owned()
}

/// What a charge would have to read grows with every charge. That it does not read is seen where it could not.
#[tokio::test]
async fn a_charge_does_not_read_the_ledger() {
    let ledger = Ledger::new();
    let service = Service::start("memory:", &ledger).await;
    let payment = charge(&service, "1").await;
    add(&ledger.path(), "Dear ledger,\n");
    charge(&service, "2").await;
    let order = service.post("/orders", None, &json!({ "order": { "id": "o-1" }, "items": [] })).await;
    assert_eq!(order.status, StatusCode::CREATED);
    for answer in [
        service.get("/payments").await,
        service.post(&format!("/payments/{payment}/refunds"), Some("k"), &json!({ "amount": 1 })).await,
    ] {
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        let problem = answer.json();
        assert!(problem["detail"].as_str().expect("text").contains("line 2"), "{problem}");
    }
}

#[tokio::test]
async fn what_another_replica_added_is_seen() {
    let ledger = Ledger::new();
    let [one, two] = [Service::start("memory:", &ledger).await, Service::start("memory:", &ledger).await];
    for known in 0..3 {
        assert_eq!((payments(&one).await, payments(&two).await), (known, known));
        let payment = charge(&one, &known.to_string()).await;
        let path = format!("/payments/{payment}/refunds");
        let refund = two.post(&path, Some("k"), &json!({ "amount": 1500 })).await;
        assert_eq!(refund.status, StatusCode::CREATED, "{refund:?}");
        let too_much = one.post(&path, Some("k"), &json!({ "amount": 500 })).await;
        assert_eq!(too_much.status, StatusCode::UNPROCESSABLE_ENTITY, "{too_much:?}");
    }
}

#[tokio::test]
async fn a_ledger_that_was_put_away_begins_anew() {
    let ledger = Ledger::new();
    let service = Service::start("memory:", &ledger).await;
    for key in ["1", "2"] {
        charge(&service, key).await;
    }
    assert_eq!(payments(&service).await, 2);
    std::fs::rename(ledger.path(), ledger.path().with_extension("old")).expect("put away");
    charge(&service, "3").await;
    assert_eq!(payments(&service).await, 1);
}

#[tokio::test]
async fn a_blank_line_is_no_entry() {
    let ledger = Ledger::new();
    add(&ledger.path(), "\n  \r\n");
    let service = Service::start("memory:", &ledger).await;
    charge(&service, "1").await;
    add(&ledger.path(), "\n");
    charge(&service, "2").await;
    assert_eq!(payments(&service).await, 2);
}

#[tokio::test]
async fn a_file_of_somebody_else_is_refused_and_left_as_it_was() {
    let entry = r#"{"id":"rep_0","caller":"alice","key":"k","attempt":1,"effect":"report","payments":0}"#;
    for (text, says) in [
        ("Dear ledger,".to_owned(), "line 1 was not written"),
        (format!("{entry}\nDear ledger,\n"), "line 2 was not written"),
        ("{\"run\":\"1\",\"event\":\"1-1\",\"worker\":\"worker-1\"}\n".to_owned(), "line 1 was not written"),
    ] {
        let ledger = Ledger::new();
        add(&ledger.path(), &text);
        let mut service = command("memory:", Some(&ledger.path()));
        let output = within(service.stdout(Stdio::piped()).stderr(Stdio::piped()).output()).await.expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let error = stderr.lines().find(|line| line.starts_with("error: cannot open the ledger")).expect("an error");
        assert!(error.contains(says), "{error}");
        assert_eq!(std::fs::read_to_string(ledger.path()).expect("text"), text);
    }
}
