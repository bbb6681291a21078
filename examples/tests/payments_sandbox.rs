//! Every route and every card of the example, over real HTTP against the built service, on each store it takes.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod support;

use axum::http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use self::support::{Ledger, Place, Service, card};

/// One test per name and store.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        $(mod $test {
            use super::{Place, on};

            #[tokio::test]
            async fn memory() {
                on(Place::memory(), super::$test).await;
            }

            #[tokio::test]
            async fn sqlite() {
                on(Place::sqlite(), super::$test).await;
            }

            #[tokio::test]
            async fn redis() {
                on(Place::redis(), super::$test).await;
            }

            #[tokio::test]
            async fn postgres() {
                on(Place::postgres(), super::$test).await;
            }

            #[tokio::test]
            async fn tiered() {
                on(Place::tiered(), super::$test).await;
            }
        })*
    };
}

/// Starts the service, and gives it to the test.
async fn on<F: Future<Output = ()>>(place: Place, test: impl FnOnce(Service, Ledger) -> F) {
    let ledger = Ledger::new();
    let service = Service::start(&place.url, &ledger).await;
    test(service, ledger).await;
}

on_every_store! {
    a_payment_is_made_once_and_replayed,
    another_body_is_refused,
    a_payment_needs_a_key_and_a_caller,
    a_body_that_does_not_fit_uses_up_no_key,
    callers_do_not_share_keys,
    a_declined_card_is_charged_again,
    a_gateway_that_is_down_charges_nothing,
    a_flaky_card_succeeds_the_second_time,
    a_panic_after_the_charge_is_unknown,
    a_slow_card_makes_duplicates_wait_or_come_back,
    refunds_happen_once_and_never_exceed_the_payment,
    orders_are_keyed_by_their_body,
    events_are_keyed_by_their_header,
    a_checkout_is_keyed_by_cart_and_basket,
    reports_are_guarded_only_on_request,
}

async fn a_payment_is_made_once_and_replayed(service: Service, ledger: Ledger) {
    let first = service.post("/payments", Some("k"), &card("tok_visa")).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert!(!first.replayed());
    let payment = first.json();
    let id = payment["id"].as_str().expect("an id").to_owned();
    assert_eq!(payment, json!({ "id": id, "amount": 1999, "currency": "usd", "status": "succeeded" }));
    assert_eq!(first.header("location"), Some(format!("/payments/{id}").as_str()));

    for _ in 0..3 {
        let again = service.post("/payments", Some("k"), &card("tok_visa")).await;
        assert!(again.replayed());
        assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
        assert_eq!(again.header("location"), first.header("location"));
    }
    let quoted = service.post("/payments", Some("\"k\""), &card("tok_visa")).await;
    assert!(quoted.replayed(), "both spellings of a key are one key");

    let [line] = &ledger.lines()[..] else { panic!("not one effect: {:?}", ledger.lines()) };
    assert_eq!(line["id"], id.as_str());
    assert_eq!((&line["effect"], &line["caller"], &line["attempt"]), (&json!("charge"), &json!("alice"), &json!(1)));
    assert!(!line.to_string().contains("\"k\""), "the caller's key is nobody else's business: {line}");

    assert_eq!(service.get("/payments").await.json(), json!([payment]));
    assert_eq!(service.get(&format!("/payments/{id}")).await.json()["id"], id.as_str());
    assert_eq!(service.get("/payments/pay_0").await.status, StatusCode::NOT_FOUND);
}

async fn another_body_is_refused(service: Service, ledger: Ledger) {
    let first = service.post("/payments", Some("k"), &card("tok_visa")).await;
    let other = service.post("/payments", Some("k"), &card("tok_mastercard")).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "key-reused"));
    assert_eq!(service.post("/payments", Some("k"), &card("tok_visa")).await.bytes, first.bytes);
    assert_eq!(ledger.lines().len(), 1);
}

async fn a_payment_needs_a_key_and_a_caller(service: Service, ledger: Ledger) {
    let keyless = service.post("/payments", None, &card("tok_visa")).await;
    assert_eq!((keyless.status, keyless.code().as_str()), (StatusCode::BAD_REQUEST, "key-missing"));
    let two = service.post("/payments", Some("a, b"), &card("tok_visa")).await;
    assert_eq!((two.status, two.code().as_str()), (StatusCode::BAD_REQUEST, "key-invalid"));

    service.post("/payments", Some("k"), &card("tok_visa")).await;
    for path in
        ["/payments", "/wait", "/orders", "/webhooks/psp", "/carts/1/checkout", "/reports", "/payments/1/refunds"]
    {
        let request = Request::post(service.uri(path)).header("idempotency-key", "k");
        let request = request.header("content-type", "application/json").body(Full::from(card("tok_visa").to_string()));
        let stranger = service.send(request.expect("a request")).await.expect("an answer");
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(stranger.header("www-authenticate"), Some("Bearer"), "{path}");
        assert!(!stranger.replayed(), "{path}");
    }
    assert_eq!(ledger.lines().len(), 1);
}

async fn a_body_that_does_not_fit_uses_up_no_key(service: Service, ledger: Ledger) {
    let good = card("tok_visa");
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, status) in [
        (with("amount", json!(0)), StatusCode::UNPROCESSABLE_ENTITY),
        (with("amount", json!(-1)), StatusCode::UNPROCESSABLE_ENTITY),
        (with("amount", json!("1999")), StatusCode::UNPROCESSABLE_ENTITY),
        (with("currency", json!("USD")), StatusCode::UNPROCESSABLE_ENTITY),
        (with("source", json!("tok_unknown")), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let answer = service.post("/payments", Some("k"), &body).await;
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{body}");
        assert_eq!(answer.json()["status"], status.as_u16(), "{body}");
    }
    assert_eq!(service.post("/payments", Some("k"), &good).await.status, StatusCode::CREATED);
    assert_eq!(ledger.lines().len(), 1);
}

async fn callers_do_not_share_keys(service: Service, ledger: Ledger) {
    let alice = service.post_as("alice", "/payments", Some("k"), &card("tok_visa")).await;
    let bob = service.post_as("bob", "/payments", Some("k"), &card("tok_visa")).await;
    assert_eq!((alice.status, bob.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert!(!bob.replayed());
    assert_ne!(alice.json()["id"], bob.json()["id"]);
    assert_eq!(service.get("/payments").await.json(), json!([alice.json()]));
    let bobs = format!("/payments/{}", bob.json()["id"].as_str().expect("an id"));
    assert_eq!(service.get(&bobs).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ledger.lines().len(), 2);
}

async fn a_declined_card_is_charged_again(service: Service, ledger: Ledger) {
    for _ in 0..2 {
        let declined = service.post("/payments", Some("k"), &card("tok_declined")).await;
        assert_eq!(declined.status, StatusCode::PAYMENT_REQUIRED);
        assert!(!declined.replayed());
    }
    // The key is free: another card may be tried under it.
    assert_eq!(service.post("/payments", Some("k"), &card("tok_visa")).await.status, StatusCode::CREATED);
    assert_eq!(ledger.lines().len(), 1);
}

async fn a_gateway_that_is_down_charges_nothing(service: Service, ledger: Ledger) {
    for _ in 0..2 {
        let down = service.post("/payments", Some("k"), &card("tok_gateway_down")).await;
        assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!down.replayed());
    }
    assert_eq!(ledger.lines().len(), 0);
}

async fn a_flaky_card_succeeds_the_second_time(service: Service, ledger: Ledger) {
    let statuses = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::CREATED, StatusCode::CREATED];
    for (attempt, status) in statuses.into_iter().enumerate() {
        let answer = service.post("/payments", Some("k"), &card("tok_flaky")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.replayed(), attempt == 2);
    }
    let another = service.post("/payments", Some("k2"), &card("tok_flaky")).await;
    assert_eq!(another.status, StatusCode::SERVICE_UNAVAILABLE, "the first time under another key");
    // The key is free: whoever asks for more under it is not taken for the first one by the provider.
    let more = json!({"amount": 999_999, "currency": "usd", "source": "tok_flaky"});
    let corrected = service.post("/payments", Some("k2"), &more).await;
    assert_eq!(corrected.status, StatusCode::SERVICE_UNAVAILABLE, "the first time for this amount");
    assert_eq!(ledger.lines().len(), 1, "a failed attempt is no effect");
}

async fn a_panic_after_the_charge_is_unknown(service: Service, ledger: Ledger) {
    let first = service.post("/payments", Some("k"), &card("tok_panic")).await;
    assert_eq!(first.status, StatusCode::INTERNAL_SERVER_ERROR);
    for _ in 0..2 {
        let again = service.post("/payments", Some("k"), &card("tok_panic")).await;
        assert_eq!((again.status, again.code().as_str()), (StatusCode::CONFLICT, "outcome-unknown"));
    }
    assert_eq!(ledger.lines().len(), 1);
    assert_eq!(service.post("/payments", Some("k2"), &card("tok_visa")).await.status, StatusCode::CREATED, "it lives");
}

async fn a_slow_card_makes_duplicates_wait_or_come_back(service: Service, ledger: Ledger) {
    let slow = card("tok_slow");
    let (a, b) =
        tokio::join!(service.post("/payments", Some("k"), &slow), service.post("/payments", Some("k"), &slow),);
    let (first, refused) = if a.status == StatusCode::CREATED { (a, b) } else { (b, a) };
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::CONFLICT, "in-flight"));
    assert!(refused.header("retry-after").is_some());

    let (a, b) = tokio::join!(service.post("/wait", Some("k"), &slow), service.post("/wait", Some("k"), &slow));
    assert_eq!((a.status, b.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(a.bytes, b.bytes);
    assert_ne!(a.replayed(), b.replayed());
    assert_eq!(ledger.lines().len(), 2, "another endpoint, another operation");
}

async fn refunds_happen_once_and_never_exceed_the_payment(service: Service, ledger: Ledger) {
    let payment = service.post("/payments", Some("k"), &card("tok_visa")).await.json();
    let id = payment["id"].as_str().expect("an id");
    let path = format!("/payments/{id}/refunds");

    let first = service.post(&path, Some("k"), &json!({ "amount": 1500 })).await;
    assert_eq!(first.status, StatusCode::CREATED, "the key of the payment is another one here");
    let again = service.post(&path, Some("k"), &json!({ "amount": 1500 })).await;
    assert!(again.replayed());
    assert_eq!(again.bytes, first.bytes);
    let too_much = service.post(&path, Some("k2"), &json!({ "amount": 500 })).await;
    assert_eq!(too_much.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(service.get(&format!("/payments/{id}")).await.json()["refundable"], 499);
    assert_eq!(service.post(&path, Some("k2"), &json!({ "amount": 499 })).await.status, StatusCode::CREATED);
    let nobodys = service.post("/payments/pay_0/refunds", Some("k"), &json!({ "amount": 1 })).await;
    assert_eq!(nobodys.status, StatusCode::NOT_FOUND);
    assert_eq!(service.post(&path, None, &json!({ "amount": 1 })).await.code(), "key-missing");
    assert_eq!(ledger.lines().len(), 3);
}

async fn orders_are_keyed_by_their_body(service: Service, ledger: Ledger) {
    let order = |id: &str, items: Value| json!({ "order": { "id": id }, "items": items });
    let first = service.post("/orders", None, &order("o-1", json!(["tea"]))).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let again = service.post("/orders", None, &order("o-1", json!(["tea"]))).await;
    assert!(again.replayed());
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(service.post("/orders", None, &order("o-1", json!(["coffee"]))).await.code(), "key-reused");
    assert!(!service.post("/orders", None, &order("o-2", json!(["tea"]))).await.replayed());
    assert_eq!(ledger.lines().len(), 2);
}

async fn events_are_keyed_by_their_header(service: Service, ledger: Ledger) {
    let event = json!({ "type": "charge.succeeded" });
    let deliver = |id: Option<&'static str>| {
        let mut request = Request::post(service.uri("/webhooks/psp")).header("authorization", "Bearer psp");
        if let Some(id) = id {
            request = request.header("x-event-id", id);
        }
        request.header("content-type", "application/json").body(Full::from(event.to_string())).expect("a request")
    };
    let first = service.send(deliver(Some("evt-1"))).await.expect("an answer");
    let again = service.send(deliver(Some("evt-1"))).await.expect("an answer");
    let other = service.send(deliver(Some("evt-2"))).await.expect("an answer");
    let without = service.send(deliver(None)).await.expect("an answer");
    assert!(first.status.is_success());
    assert!(again.replayed());
    assert_eq!(again.bytes, first.bytes);
    assert!(other.status.is_success() && !other.replayed());
    assert_eq!(without.code(), "key-missing");
    assert_eq!(ledger.lines().len(), 2);
}

async fn a_checkout_is_keyed_by_cart_and_basket(service: Service, ledger: Ledger) {
    let basket = json!({ "items": ["tea"], "total": 450 });
    let first = service.post("/carts/c-1/checkout", None, &basket).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let again = service.post("/carts/c-1/checkout", None, &basket).await;
    assert!(again.replayed());
    assert_eq!(again.bytes, first.bytes);
    let reordered = service.post_text("/carts/c-1/checkout", r#"{ "total": 450, "items": ["tea"] }"#).await;
    assert!(reordered.replayed(), "the same fields in another order: {reordered:?}");
    let changed = service.post("/carts/c-1/checkout", None, &json!({ "items": ["tea", "milk"], "total": 600 })).await;
    let elsewhere = service.post("/carts/c-2/checkout", None, &basket).await;
    assert!(!changed.replayed() && !elsewhere.replayed());
    assert_eq!(ledger.lines().len(), 3);
}

async fn reports_are_guarded_only_on_request(service: Service, ledger: Ledger) {
    for _ in 0..2 {
        let unguarded = service.post("/reports", None, &json!({})).await;
        assert_eq!(unguarded.status, StatusCode::CREATED);
        assert_eq!(unguarded.header("idempotent-replayed"), None);
    }
    let first = service.post("/reports", Some("k"), &json!({})).await;
    let again = service.post("/reports", Some("k"), &json!({})).await;
    assert!(!first.replayed() && again.replayed());
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(ledger.lines().len(), 3);
}
