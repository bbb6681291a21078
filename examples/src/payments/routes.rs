//! The handlers. What stands above each of them is all that makes it safe to retry.

use std::num::NonZeroU32;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    routing::{get, post},
};
use idem_runtime::{Attempt, FinancialRouter, idempotent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    App,
    api::{ApiError, Body, Path},
    caller::Caller,
    ledger::{Effect, Entry},
    psp::{self, Charge},
};

pub(super) fn router(app: App) -> Router {
    // It takes only handlers that require a key: a route to money cannot be mounted without a guard.
    let money = FinancialRouter::new()
        .post("/payments", create_payment)
        .post("/payments/{id}/refunds", create_refund)
        .post("/wait", create_payment_or_wait);
    Router::new()
        .merge(money)
        .route("/payments", get(list_payments))
        .route("/payments/{id}", get(get_payment))
        .route("/orders", post(create_order))
        .route("/webhooks/psp", post(receive_event))
        .route("/carts/{cart}/checkout", post(checkout))
        .route("/reports", post(create_report))
        .with_state(app)
}

#[derive(Debug, Serialize)]
struct Payment {
    id: String,
    amount: NonZeroU32,
    currency: String,
    status: &'static str,
}

/// 201, where the payment is from now on, and the payment.
type CreatedPayment = (StatusCode, [(HeaderName, String); 1], Json<Payment>);

/// Charges a card, once per key.
#[idempotent(scope = "payments", ttl = "24h", key = from_header, financial)]
async fn create_payment(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    Body(charge): Body<Charge>,
) -> Result<CreatedPayment, ApiError> {
    pay(&app, &caller, &attempt, charge).await
}

/// The same, where a duplicate waits for the first answer rather than being told to come back.
#[idempotent(scope = "payments", ttl = "24h", key = from_header, financial, on_conflict = wait("5s"))]
async fn create_payment_or_wait(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    Body(charge): Body<Charge>,
) -> Result<CreatedPayment, ApiError> {
    pay(&app, &caller, &attempt, charge).await
}

async fn pay(app: &App, caller: &Caller, attempt: &Attempt, charge: Charge) -> Result<CreatedPayment, ApiError> {
    let entry = app.psp.charge(&caller.name, attempt, charge.clone()).await?;
    let location = format!("/payments/{}", entry.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(Payment::new(entry.id, &charge))))
}

#[derive(Debug, Deserialize)]
struct NewRefund {
    amount: NonZeroU32,
}

#[derive(Debug, Serialize)]
struct Refund {
    id: String,
    payment: String,
    amount: NonZeroU32,
    status: &'static str,
}

/// Gives part of a payment back, once per key.
#[idempotent(scope = "payments", ttl = "24h", key = from_header, financial)]
async fn create_refund(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    Path(payment): Path<String>,
    Body(refund): Body<NewRefund>,
) -> Result<(StatusCode, Json<Refund>), ApiError> {
    let entry = app.psp.refund(&caller.name, &attempt, &payment, refund.amount).await?;
    let refund = Refund { id: entry.id, payment, amount: refund.amount, status: "succeeded" };
    Ok((StatusCode::CREATED, Json(refund)))
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    order: OrderName,
    items: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct OrderName {
    id: String,
}

/// What the client calls the order is its key: no header is needed.
#[idempotent(scope = "orders", ttl = "24h", key = from_body("/order/id"), fingerprint = json)]
async fn create_order(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    Body(new): Body<NewOrder>,
) -> Result<(StatusCode, Json<Receipt>), ApiError> {
    let effect = Effect::Order { order: new.order.id, items: new.items.len() };
    record(&app, &caller, &attempt, "ord", effect).await.map(created)
}

/// A provider delivers an event until it gets a 2xx, so it may deliver it again; its id is the key.
#[idempotent(scope = "webhooks", ttl = "7d", key = from_header("X-Event-Id"))]
async fn receive_event(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    Body(event): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Receipt>), ApiError> {
    record(&app, &caller, &attempt, "evt", Effect::Event { event }).await.map(created)
}

/// The same cart with the same basket is the same checkout, whoever asks again and without any key from them.
#[idempotent(scope = "carts", ttl = "24h", key = derive(cart, "checkout", basket), fingerprint = json)]
async fn checkout(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
    Path(cart): Path<String>,
    Body(basket): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Receipt>), ApiError> {
    record(&app, &caller, &attempt, "chk", Effect::Checkout { cart, basket }).await.map(created)
}

#[derive(Debug, Serialize)]
struct Report {
    id: String,
    payments: usize,
}

/// No `key`: whoever sends an `Idempotency-Key` gets the guard, everybody else runs each time.
#[idempotent(scope = "reports", ttl = "24h")]
async fn create_report(
    State(app): State<App>,
    caller: Caller,
    attempt: Attempt,
) -> Result<(StatusCode, Json<Report>), ApiError> {
    let payments = charges(&app, caller.clone()).await?.len();
    let id = record(&app, &caller, &attempt, "rep", Effect::Report { payments }).await?;
    Ok((StatusCode::CREATED, Json(Report { id, payments })))
}

/// What was taken down, by its id alone: an answer that repeated what was sent could be too large to be kept.
#[derive(Debug, Serialize)]
struct Receipt {
    id: String,
}

fn created(id: String) -> (StatusCode, Json<Receipt>) {
    (StatusCode::CREATED, Json(Receipt { id }))
}

/// Takes an effect down. Its id.
async fn record(app: &App, caller: &Caller, attempt: &Attempt, kind: &str, effect: Effect) -> Result<String, ApiError> {
    let entry = Entry::new(kind, &caller.name, attempt, effect)?;
    let id = entry.id.clone();
    app.ledger.append(entry).await?;
    Ok(id)
}

/// The caller's payments, oldest first.
async fn list_payments(State(app): State<App>, caller: Caller) -> Result<Json<Vec<Payment>>, ApiError> {
    Ok(Json(charges(&app, caller).await?))
}

#[derive(Debug, Serialize)]
struct PaymentAndRefunds {
    #[serde(flatten)]
    payment: Payment,
    refundable: u64,
}

/// One of the caller's payments, and what is left of it.
async fn get_payment(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<PaymentAndRefunds>, ApiError> {
    let found = app.ledger.look(move |entries| {
        let refundable = psp::refundable(entries, &caller.name, &id)?;
        let payment = charges_of(entries, &caller).find(|payment| payment.id == id)?;
        Some(PaymentAndRefunds { payment, refundable })
    });
    found.await?.map(Json).ok_or(ApiError::NotFound)
}

async fn charges(app: &App, caller: Caller) -> Result<Vec<Payment>, ApiError> {
    Ok(app.ledger.look(move |entries| charges_of(entries, &caller).collect()).await?)
}

fn charges_of(entries: &[Entry], caller: &Caller) -> impl Iterator<Item = Payment> {
    entries.iter().filter(|entry| entry.caller == caller.name).filter_map(|entry| match &entry.effect {
        Effect::Charge(charge) => Some(Payment::new(entry.id.clone(), charge)),
        _ => None,
    })
}

impl Payment {
    fn new(id: String, charge: &Charge) -> Self {
        Self { id, amount: charge.amount, currency: charge.currency.to_string(), status: "succeeded" }
    }
}
