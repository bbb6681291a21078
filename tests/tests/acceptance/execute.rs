//! Operations without HTTP, what a run knows of itself, and outcomes that somebody settles.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{post, put},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use idem_runtime::{
    Attempt, Disposition, ExecuteError, Executed, Fingerprint, Idempotency, KeySource, KeySpace, OnConflict, Operation,
    Policy, Principal, Refusal, Settlement, idempotent, store::Resolved,
};
use serde::{Deserialize, Serialize};
use tests::{
    backend::Backend,
    service::{App, Call, Service},
};
use tokio::sync::Semaphore;

tests::on_every_store!(
    an_effect_runs_once_and_its_value_is_replayed,
    an_effect_that_fails_frees_the_key,
    an_effect_that_panics_frees_the_key,
    an_effect_that_panics_where_money_moves_is_unknown,
    an_error_that_leaves_open_what_happened_is_unknown,
    an_answer_that_leaves_open_what_happened_is_unknown,
    a_value_of_another_type_than_is_kept_is_not_run_again,
    a_value_over_the_cap_is_not_kept_and_not_run_again,
    another_use_of_the_key_is_refused,
    effects_at_once_run_once,
    effects_at_once_wait_for_the_first,
    an_effect_whose_caller_is_gone_runs_to_its_end,
    an_effect_knows_its_attempt,
    operations_of_other_scopes_principals_and_keys_run,
    a_handler_knows_its_attempt,
    a_downstream_key_is_of_one_operation_and_one_step,
    a_later_attempt_has_a_larger_fence,
    a_handler_that_runs_without_a_key_has_an_attempt_all_the_same,
    an_unknown_outcome_that_did_not_happen_runs_again,
    an_unknown_outcome_that_happened_is_not_run_again,
    an_unknown_outcome_is_answered_as_it_was_settled,
    only_an_unknown_outcome_can_be_settled,
);

const INVOICES: Policy = Policy::new("invoices").validate();
const PATIENT: Policy = Policy::new("invoices").on_conflict(OnConflict::Wait(Duration::from_secs(50))).validate();
const FINANCIAL: Policy = Policy::new("payments").key(&[KeySource::DEFAULT]).financial().validate();

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Invoice {
    number: usize,
    text: String,
    amounts: Vec<Option<i64>>,
}

#[idempotent(scope = "payments", key = from_header, financial)]
async fn pay(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "attempts", key = from_header)]
async fn attempted(State(_): State<App>, attempt: Attempt, _: Call) -> Result<Response, StatusCode> {
    let owner = attempt.still_owner().await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::OK, told(&attempt, owner)).into_response())
}

/// As a handler answers whose provider hung up.
#[idempotent(scope = "attempts", key = from_header)]
async fn attempted_in_the_dark(State(app): State<App>, attempt: Attempt, call: Call) -> Response {
    attempt.mark_unknown();
    app.run(call).await
}

#[idempotent(scope = "attempts", key = from_header, store = definitive)]
async fn attempted_in_vain(attempt: Attempt, _: Call) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, told(&attempt, true))
}

#[idempotent(scope = "attempts")]
async fn attempted_without_a_key(attempt: Attempt) -> String {
    told(&attempt, true)
}

fn told(attempt: &Attempt, owner: bool) -> String {
    let (charge, mail) = (attempt.downstream_key("charge"), attempt.downstream_key("mail"));
    format!("{} {} {owner} {charge} {mail}", attempt.number(), attempt.fence())
}

/// What [`told`] says.
struct Told {
    number: u32,
    fence: u64,
    owner: bool,
    charge: String,
    mail: String,
}

impl Told {
    fn of(text: &str) -> Self {
        let parts: Vec<_> = text.split(' ').collect();
        let [number, fence, owner, charge, mail] = &parts[..] else { panic!("five parts: {text}") };
        Self {
            number: number.parse().expect("a number"),
            fence: fence.parse().expect("a number"),
            owner: owner.parse().expect("a boolean"),
            charge: (*charge).to_owned(),
            mail: (*mail).to_owned(),
        }
    }
}

async fn service(backend: &Backend) -> Service {
    let routes = Router::new()
        .route("/pay", post(pay))
        .route("/attempted", post(attempted).put(attempted))
        .route("/attempted/{id}", put(attempted))
        .route("/in-the-dark", post(attempted_in_the_dark))
        .route("/in-vain", post(attempted_in_vain))
        .route("/without-a-key", post(attempted_without_a_key));
    Service::start(backend, routes).await
}

async fn runtime(backend: &Backend) -> Idempotency {
    Idempotency::builder_shared(backend.connect().await).shared().build()
}

fn operation(key: &str) -> Operation {
    Operation::new(INVOICES, Principal::new("acct_1"), key)
}

/// Executes an effect that counts its runs and returns their number.
async fn execute(
    runtime: &Idempotency,
    operation: Operation,
    runs: &Arc<AtomicUsize>,
) -> Result<Executed<usize>, ExecuteError<()>> {
    let runs = runs.clone();
    runtime.execute(operation, move |_| async move { Ok(runs.fetch_add(1, SeqCst) + 1) }).await
}

#[track_caller]
fn value(executed: Result<Executed<usize>, ExecuteError<()>>, value: usize, replayed: bool) {
    let executed = executed.expect("a value");
    assert_eq!((executed.value, executed.replayed), (value, replayed));
}

#[track_caller]
fn refused<T: std::fmt::Debug, E: std::fmt::Debug>(executed: Result<Executed<T>, ExecuteError<E>>, refusal: Refusal) {
    match executed {
        Err(ExecuteError::Refused(refused)) => assert_eq!(refused, refusal),
        other => panic!("not refused: {other:?}"),
    }
}

async fn an_effect_runs_once_and_its_value_is_replayed(backend: Backend) {
    let (one, two) = (runtime(&backend).await, runtime(&backend).await);
    let invoice = Invoice { number: 7, text: "\u{1F600} \"\\\0".into(), amounts: vec![Some(i64::MIN), None] };
    let made = invoice.clone();
    let first = one.execute(operation("k"), |_| async move { Ok::<_, ()>(made) }).await.expect("a value");
    assert_eq!((&first.value, first.replayed), (&invoice, false));
    for runtime in [&two, &one] {
        let run = runtime.execute(operation("k"), |_| async { Err::<Invoice, _>("ran again") }).await.expect("a value");
        assert_eq!((&run.value, run.replayed), (&invoice, true));
    }
    let nothing = one.execute(operation("unit"), |_| async { Ok::<_, ()>(()) }).await.expect("a value");
    assert!(!nothing.replayed);
    assert!(one.execute(operation("unit"), |_| async { Ok::<_, ()>(()) }).await.expect("a value").replayed);
}

async fn an_effect_that_fails_frees_the_key(backend: Backend) {
    let runtime = runtime(&backend).await;
    let failed = runtime.execute(operation("k"), |_| async { Err::<usize, _>("declined") }).await;
    assert!(matches!(failed, Err(ExecuteError::Effect("declined"))), "{failed:?}");
    assert_eq!(backend.records().await, 0);
    let runs = Arc::default();
    value(execute(&runtime, operation("k"), &runs).await, 1, false);
    value(execute(&runtime, operation("k"), &runs).await, 1, true);
}

async fn an_effect_that_panics_frees_the_key(backend: Backend) {
    let runtime = runtime(&backend).await;
    let panics = runtime.execute(operation("k"), |_| async { panic!("the effect panics, as it is told to") }).await;
    refused::<(), ()>(panics, Refusal::Panicked);
    value(execute(&runtime, operation("k"), &Arc::default()).await, 1, false);
}

async fn an_effect_that_panics_where_money_moves_is_unknown(backend: Backend) {
    let runtime = runtime(&backend).await;
    let operation = Operation::new(FINANCIAL, Principal::new("acct_1"), "k").any_input();
    let panics = runtime.execute(operation.clone(), |_| async { panic!("the effect panics, as it is told to") }).await;
    refused::<(), ()>(panics, Refusal::Panicked);
    let runs = Arc::default();
    refused(execute(&runtime, operation.clone(), &runs).await, Refusal::Unknown);
    assert_eq!(runtime.resolve(&operation, Settlement::not_executed()).await.expect("an answer"), Resolved::Applied);
    value(execute(&runtime, operation, &runs).await, 1, false);
}

async fn an_error_that_leaves_open_what_happened_is_unknown(backend: Backend) {
    let runtime = runtime(&backend).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let run = async |fails: bool| {
        let counted = runs.clone();
        let effect = move |attempt: Attempt| async move {
            attempt.mark_unknown();
            let run = counted.fetch_add(1, SeqCst) + 1;
            if fails { Err("the connection broke behind the charge") } else { Ok(run) }
        };
        runtime.execute(operation("k"), effect).await
    };
    assert!(matches!(run(true).await, Err(ExecuteError::Effect(_))));
    for _ in 0..2 {
        assert!(matches!(run(true).await, Err(ExecuteError::Refused(Refusal::Unknown))));
    }
    assert_eq!(runs.load(SeqCst), 1);
    let resolved = runtime.resolve(&operation("k"), Settlement::not_executed()).await.expect("an answer");
    assert_eq!(resolved, Resolved::Applied);
    // What is returned counts, whatever the effect said before.
    assert!(run(false).await.is_ok_and(|done| done.value == 2 && !done.replayed));
    assert!(run(false).await.is_ok_and(|done| done.value == 2 && done.replayed));
}

async fn an_answer_that_leaves_open_what_happened_is_unknown(backend: Backend) {
    let service = service(&backend).await;
    service.script().statuses(&[502]);
    service.post("/in-the-dark").key("k").send().await.assert_fresh(502);
    service.post("/in-the-dark").key("k").send().await.assert_problem(409, "outcome-unknown");
    // An answer that is kept says what happened, and so does the handler's own word.
    service.script().statuses(&[201]);
    let first = service.post("/in-the-dark").key("kept").send().await;
    first.assert_fresh(201);
    service.post("/in-the-dark").key("kept").send().await.assert_replay_of(&first);
    service.script().answer(|_, _| (StatusCode::BAD_GATEWAY, Disposition::Release).into_response());
    for _ in 0..2 {
        service.post("/in-the-dark").key("word").send().await.assert_fresh(502);
    }
}

/// The next version of a service asks for another type; what ran, ran.
async fn a_value_of_another_type_than_is_kept_is_not_run_again(backend: Backend) {
    let runtime = runtime(&backend).await;
    let number = runtime.execute(operation("k"), |_| async { Ok::<_, ()>(7_u32) }).await;
    assert!(number.is_ok_and(|done| done.value == 7));
    let text = runtime.execute(operation("k"), |_| async { Ok::<_, ()>("seven".to_owned()) }).await;
    assert!(matches!(text, Err(ExecuteError::Refused(Refusal::NotKept))), "{text:?}");
    let number = runtime.execute(operation("k"), |_| async { Ok::<_, ()>(8_u32) }).await;
    assert!(number.is_ok_and(|done| done.value == 7 && done.replayed));
    let metrics = runtime.metrics();
    assert_eq!((metrics.executed, metrics.replayed, metrics.not_kept), (1, 1, 1));
}

async fn a_value_over_the_cap_is_not_kept_and_not_run_again(backend: Backend) {
    let runtime = Idempotency::builder_shared(backend.connect().await).shared().max_answer_bytes(100).build();
    let large = "x".repeat(99);
    let made = large.clone();
    let first = runtime.execute(operation("k"), |_| async move { Ok::<_, ()>(made) }).await.expect("a value");
    assert_eq!((first.value, first.replayed), (large, false));
    refused(execute(&runtime, operation("k"), &Arc::default()).await, Refusal::NotKept);
    // Two quotes make it a hundred.
    let made = "x".repeat(98);
    assert!(!runtime.execute(operation("k2"), |_| async move { Ok::<_, ()>(made) }).await.expect("a value").replayed);
    assert!(runtime.execute(operation("k2"), |_| async { Err::<String, _>(()) }).await.expect("a value").replayed);
}

async fn another_use_of_the_key_is_refused(backend: Backend) {
    let runtime = runtime(&backend).await;
    let runs = Arc::default();
    let of = |amount: u64| {
        let fingerprint = Fingerprint::of_json(&serde_json::json!({ "amount": amount })).expect("a fingerprint");
        operation("k").fingerprint(fingerprint)
    };
    value(execute(&runtime, of(1), &runs).await, 1, false);
    refused(execute(&runtime, of(2), &runs).await, Refusal::Mismatch);
    refused(execute(&runtime, operation("k"), &runs).await, Refusal::Mismatch);
    value(execute(&runtime, of(1), &runs).await, 1, true);
}

async fn effects_at_once_run_once(backend: Backend) {
    let runtimes = [runtime(&backend).await, runtime(&backend).await, runtime(&backend).await];
    let runs = Arc::new(AtomicUsize::new(0));
    for round in 1..=20 {
        let key = round.to_string();
        let all = join_all((0..30).map(|number| execute(&runtimes[number % 3], operation(&key), &runs))).await;
        for executed in all {
            match executed {
                Ok(Executed { value, .. }) => assert_eq!(value, round),
                Err(error) => assert!(matches!(error, ExecuteError::Refused(Refusal::InFlight { .. })), "{error:?}"),
            }
        }
        assert_eq!(runs.load(SeqCst), round);
    }
}

async fn effects_at_once_wait_for_the_first(backend: Backend) {
    let runtimes = [runtime(&backend).await, runtime(&backend).await];
    let runs = Arc::new(AtomicUsize::new(0));
    let patient = Operation::new(PATIENT, Principal::new("acct_1"), "k");
    let all = join_all((0..20).map(|number| execute(&runtimes[number % 2], patient.clone(), &runs))).await;
    let fresh =
        all.into_iter().map(|executed| executed.expect("a value")).filter(|executed| !executed.replayed).count();
    assert_eq!((fresh, runs.load(SeqCst)), (1, 1));
}

async fn an_effect_whose_caller_is_gone_runs_to_its_end(backend: Backend) {
    let runtime = runtime(&backend).await;
    let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let caller = {
        let (runtime, begun, go_on) = (runtime.clone(), begun.clone(), go_on.clone());
        tokio::spawn(async move {
            let effect = |_| async move {
                begun.add_permits(1);
                drop(go_on.acquire().await);
                Ok::<_, ()>(42)
            };
            runtime.execute(operation("k"), effect).await
        })
    };
    drop(begun.acquire().await.expect("begun"));
    caller.abort();
    assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    let beside = execute(&runtime, operation("k"), &Arc::default()).await;
    assert!(matches!(beside, Err(ExecuteError::Refused(Refusal::InFlight { .. }))), "{beside:?}");
    assert!(!runtime.drain(Duration::ZERO).await.finished);
    go_on.add_permits(1);
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    value(execute(&runtime, operation("k"), &Arc::default()).await, 42, true);
    assert_eq!(runtime.metrics().detached, 1);
}

async fn an_effect_knows_its_attempt(backend: Backend) {
    let runtime = runtime(&backend).await;
    let effect = |attempt: Attempt| async move {
        let owner = attempt.still_owner().await.expect("an answer");
        Ok::<_, ()>((attempt.number(), attempt.fence().get(), owner, attempt.downstream_key("charge")))
    };
    let (number, fence, owner, key) = runtime.execute(operation("k"), effect).await.expect("a value").value;
    assert_eq!((number, owner), (1, true));
    assert!(fence > 0);
    assert_eq!(key.len(), 64);
}

async fn operations_of_other_scopes_principals_and_keys_run(backend: Backend) {
    let runtime = runtime(&backend).await;
    let runs = Arc::default();
    let one_space = INVOICES.key_space(KeySpace::Scope);
    let operations = [
        operation("k"),
        operation("K"),
        operation(" "),
        Operation::new(Policy::new("refunds").validate(), Principal::new("acct_1"), "k"),
        Operation::new(INVOICES, Principal::new("acct_2"), "k"),
        Operation::new(INVOICES, Principal::new("k"), "k"),
        Operation::new(INVOICES, Principal::SHARED, "k"),
        Operation::new(one_space, Principal::new("acct_3"), "k"),
        operation("k").endpoint(&Method::POST, "/a"),
        operation("k").endpoint(&Method::PUT, "/a"),
        operation("k").endpoint(&Method::POST, "/b"),
    ];
    for (number, operation) in operations.iter().enumerate() {
        value(execute(&runtime, operation.clone(), &runs).await, number + 1, false);
    }
    for (number, operation) in operations.iter().enumerate() {
        value(execute(&runtime, operation.clone(), &runs).await, number + 1, true);
    }
}

async fn a_handler_knows_its_attempt(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/attempted").key("k").send().await;
    first.assert_fresh(200);
    let told = Told::of(&first.text());
    assert_eq!((told.number, told.owner), (1, true));
    assert!(told.fence > 0);
    for key in [&told.charge, &told.mail] {
        assert!(key.len() == 64 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{key}");
    }
    service.post("/attempted").key("k").send().await.assert_replay_of(&first);
}

async fn a_downstream_key_is_of_one_operation_and_one_step(backend: Backend) {
    let service = service(&backend).await;
    let asks = [
        service.post("/attempted").key("k"),
        service.post("/attempted").key("k2"),
        service.post("/attempted").key("k").account("acct_2"),
        service.ask(Method::PUT, "/attempted").key("k"),
        service.ask(Method::PUT, "/attempted/1").key("k"),
        service.ask(Method::PUT, "/attempted/2").key("k"),
    ];
    let mut keys = std::collections::HashSet::new();
    for (number, ask) in asks.into_iter().enumerate() {
        let told = Told::of(&ask.send().await.text());
        keys.extend([told.charge, told.mail]);
        assert_eq!(keys.len(), 2 * (number + 1));
    }
}

async fn a_later_attempt_has_a_larger_fence(backend: Backend) {
    let service = service(&backend).await;
    let mut last: Option<Told> = None;
    for _ in 0..5 {
        // The memory store's clock stands still unless it is moved.
        backend.pass(Duration::from_millis(1)).await;
        let reply = service.post("/in-vain").key("k").send().await;
        reply.assert_fresh(503);
        let told = Told::of(&reply.text());
        // It was released: the next one begins anew, under the same name elsewhere.
        assert_eq!(told.number, 1);
        if let Some(last) = last {
            assert!(told.fence > last.fence, "{} after {}", told.fence, last.fence);
            assert_eq!((told.charge.as_str(), told.mail.as_str()), (last.charge.as_str(), last.mail.as_str()));
        }
        last = Some(told);
    }
}

async fn a_handler_that_runs_without_a_key_has_an_attempt_all_the_same(backend: Backend) {
    let service = service(&backend).await;
    let first = Told::of(&service.post("/without-a-key").send().await.text());
    let second = Told::of(&service.post("/without-a-key").send().await.text());
    assert_eq!((first.number, second.number), (1, 1));
    // Nobody can repeat them, so they have nothing in common elsewhere.
    assert_ne!(first.charge, second.charge);
    assert_eq!(backend.records().await, 0);
}

/// A payment whose outcome is unknown, and the operation by which an operator names it.
async fn unknown(service: &Service) -> Operation {
    service.script().answer(|run, _| {
        let word = if run == 1 { Disposition::Unknown } else { Disposition::Store };
        (StatusCode::CREATED, word, run.to_string()).into_response()
    });
    service.post("/pay").key("k").send().await.assert_fresh(201);
    service.post("/pay").key("k").send().await.assert_problem(409, "outcome-unknown");
    Operation::new(FINANCIAL, Principal::new("acct_1"), "k").endpoint(&Method::POST, "/pay")
}

async fn an_unknown_outcome_that_did_not_happen_runs_again(backend: Backend) {
    let service = service(&backend).await;
    let operation = unknown(&service).await;
    let resolved = service.idempotency().resolve(&operation, Settlement::not_executed()).await.expect("an answer");
    assert_eq!(resolved, Resolved::Applied);
    let second = service.post("/pay").key("k").send().await;
    second.assert_fresh(201);
    service.post("/pay").key("k").send().await.assert_replay_of(&second);
    assert_eq!(service.runs(), 2);
}

async fn an_unknown_outcome_that_happened_is_not_run_again(backend: Backend) {
    let service = service(&backend).await;
    let operation = unknown(&service).await;
    let resolved = service.idempotency().resolve(&operation, Settlement::executed()).await.expect("an answer");
    assert_eq!(resolved, Resolved::Applied);
    service.post("/pay").key("k").send().await.assert_problem(409, "response-not-kept");
    service.post("/pay").key("k").body("other").send().await.assert_problem(422, "key-reused");
    assert_eq!(service.runs(), 1);
}

async fn an_unknown_outcome_is_answered_as_it_was_settled(backend: Backend) {
    let service = service(&backend).await;
    let operation = unknown(&service).await;
    let response = http::Response::builder()
        .status(201)
        .header("location", "/payments/1")
        .header("content-type", "text/plain")
        .body(Bytes::from("found it"))
        .expect("a response");
    let resolved = service.idempotency().resolve(&operation, Settlement::responded(response)).await.expect("an answer");
    assert_eq!(resolved, Resolved::Applied);
    let replay = service.post("/pay").key("k").send().await;
    assert!(replay.is_replay(), "{replay}");
    assert_eq!((replay.status.as_u16(), replay.text().as_str()), (201, "found it"));
    assert_eq!(replay.header("location").as_deref(), Some("/payments/1"));
    assert_eq!(replay.header("content-length").as_deref(), Some("8"));
    assert_eq!(service.runs(), 1);
}

async fn only_an_unknown_outcome_can_be_settled(backend: Backend) {
    let service = service(&backend).await;
    let operation = Operation::new(FINANCIAL, Principal::new("acct_1"), "k").endpoint(&Method::POST, "/pay");
    let settle = async |settlement| service.idempotency().resolve(&operation, settlement).await.expect("an answer");
    assert_eq!(settle(Settlement::not_executed()).await, Resolved::NotUnknown, "there is nothing");
    service.script().hold();
    let first = tokio::spawn(service.post("/pay").key("k").send());
    service.script().begun(1).await;
    assert_eq!(settle(Settlement::not_executed()).await, Resolved::NotUnknown, "it runs");
    service.script().release();
    let first = first.await.expect("a reply");
    assert_eq!(settle(Settlement::not_executed()).await, Resolved::NotUnknown, "it is done");
    assert_eq!(settle(Settlement::executed()).await, Resolved::NotUnknown, "it is done");
    service.post("/pay").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}
