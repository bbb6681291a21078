//! `on_abandoned = recover(f)`: somebody is asked what became of a run that was lost.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, response::Response, routing::post};
use futures_util::future::join_all;
use idem_runtime::{
    Attempt, Disposition, ExecuteError, Idempotency, IdempotencyBuilder, IdempotencySetup, KeySource, OnAbandoned,
    Operation, Policy, Principal, Recover, Refusal, Settlement, Unsettled, idempotent,
};
use tests::{
    backend::Backend,
    client::Reply,
    service::{App, Call, Script, Service},
};

tests::on_every_store!(
    a_run_that_was_lost_and_took_effect_is_answered_as_it_is_told,
    a_run_that_was_lost_without_effect_runs_again,
    an_outcome_that_nobody_can_tell_stays_unknown_until_somebody_can,
    an_effect_whose_answer_nobody_knows_is_not_run_again,
    a_function_that_panics_or_takes_for_ever_leaves_the_outcome_unknown,
    an_outcome_that_was_unknown_before_is_asked_about,
    requests_at_once_run_once_after_the_word,
    requests_at_once_get_the_answer_that_is_told,
    a_layer_asks_too,
    an_execution_asks_too,
);

const LEASE: Duration = Duration::from_millis(400);

/// Tells as the test says, and keeps what it was asked.
#[derive(Debug, Clone, Default)]
struct Provider(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    word: Word,
    asked: Vec<(u32, u64, String)>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Word {
    #[default]
    NobodyKnows,
    Charged,
    ChargedWithoutReceipt,
    Returned(usize),
    NotCharged,
    Panic,
    Never,
}

impl Provider {
    fn says(&self, word: Word) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).word = word;
    }

    fn asked(&self) -> Vec<(u32, u64, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    fn answer(&self, asked: (u32, u64, String)) -> Word {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.asked.push(asked);
        told.word
    }

    fn runtime(&self) -> impl Fn(IdempotencyBuilder) -> IdempotencySetup + 'static {
        let provider = self.clone();
        move |builder| {
            let setup = builder.principal_from_header("x-account").context(provider.clone()).context("another type");
            setup.recovery_deadline(Duration::from_millis(300))
        }
    }
}

async fn ask(lost: Unsettled) -> Option<Settlement> {
    let provider = lost.context::<Provider>().expect("what the runtime was built with");
    assert!(lost.context::<String>().is_none());
    let attempt = lost.attempt();
    match provider.answer((attempt.number(), attempt.fence().get(), attempt.downstream_key("charge"))) {
        Word::NobodyKnows => None,
        Word::Charged => {
            let response = http::Response::builder().status(201).header("x-receipt", "7").body("the receipt".into());
            Some(Settlement::responded(response.expect("a response")))
        }
        Word::ChargedWithoutReceipt => Some(Settlement::executed()),
        Word::Returned(value) => Some(Settlement::returned(&value)),
        Word::NotCharged => Some(Settlement::not_executed()),
        Word::Panic => panic!("the function panics, as it is told to"),
        Word::Never => std::future::pending().await,
    }
}

#[idempotent(
    scope = "payments",
    key = from_header,
    financial,
    lease = "400ms",
    on_abandoned = recover(ask),
)]
async fn pay(State(app): State<App>, attempt: Attempt, call: Call) -> Response {
    let mut answer = app.run(call).await;
    let told = format!("{} {} {}", attempt.number(), attempt.fence(), attempt.downstream_key("charge"));
    answer.headers_mut().insert("x-attempt", told.parse().expect("a header's value"));
    answer
}

const POLICY: Policy = Policy::new("payments")
    .key(&[KeySource::DEFAULT])
    .lease(LEASE)
    .on_abandoned(OnAbandoned::Recover(Recover::new(|lost| Box::pin(ask(lost)))))
    .validate();

async fn pay_unguarded(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

/// A service, and a run of its handler that was lost in the middle, as with its process.
async fn lost(backend: &Backend, provider: &Provider) -> Service {
    let (doomed, begun) = (doomed(), Script::new());
    begun.hold();
    let (elsewhere, script, runtime, handle) =
        (backend.clone(), begun.clone(), provider.runtime(), doomed.handle().clone());
    let service = tokio::task::spawn_blocking(move || {
        handle.block_on(Service::of(&elsewhere, routes()).script(&script).runtime(runtime).start())
    });
    let service = service.await.expect("a service");
    let asked = tokio::spawn(service.post("/pay").key("k").body("1").try_send());
    begun.begun(1).await;
    doomed.shutdown_background();
    assert!(asked.await.expect("no panic").is_err(), "nobody answers");
    drop(service);
    backend.pass(LEASE * 2).await;
    Service::of(backend, routes()).runtime(provider.runtime()).replicas(2).start().await
}

pub(crate) fn doomed() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn pay_at(service: &Service) -> Reply {
    service.post("/pay").key("k").body("1").send().await
}

async fn a_run_that_was_lost_and_took_effect_is_answered_as_it_is_told(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    provider.says(Word::Charged);
    let told = pay_at(&service).await;
    assert!(told.is_replay(), "{told}");
    assert_eq!(
        (told.status.as_u16(), told.text().as_str(), told.header("x-receipt").as_deref()),
        (201, "the receipt", Some("7"))
    );
    pay_at(&service).await.assert_replay_of(&told);
    let asked = provider.asked();
    assert_eq!((asked.len(), asked[0].0, service.runs()), (1, 1, 0));
    assert_eq!((service.idempotency().metrics().recovered, backend.records().await), (1, 1));
    // Another body is no retry of it, and nobody is asked.
    service.post("/pay").key("k").body("2").send().await.assert_problem(422, "key-reused");
}

async fn a_run_that_was_lost_without_effect_runs_again(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    provider.says(Word::NotCharged);
    let first = pay_at(&service).await;
    first.assert_fresh(201);
    pay_at(&service).await.assert_replay_of(&first);
    let asked = provider.asked();
    let [(number, fence, downstream)] = &asked[..] else { panic!("asked once: {asked:?}") };
    let attempt = first.header("x-attempt").expect("its attempt");
    let attempt: Vec<_> = attempt.split(' ').collect();
    assert_eq!((*number, attempt[0], attempt[2]), (1, "1", downstream.as_str()), "the same name elsewhere");
    assert!(attempt[1].parse::<u64>().expect("a number") > *fence, "{attempt:?} after {fence}");
    assert_eq!(service.runs(), 1);
}

async fn an_outcome_that_nobody_can_tell_stays_unknown_until_somebody_can(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    for asked in 1..=3 {
        pay_at(&service).await.assert_problem_for_now(409, "outcome-unknown");
        assert_eq!((provider.asked().len(), service.runs()), (asked, 0));
    }
    provider.says(Word::Charged);
    assert!(pay_at(&service).await.is_replay());
}

async fn an_effect_whose_answer_nobody_knows_is_not_run_again(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    provider.says(Word::ChargedWithoutReceipt);
    for _ in 0..2 {
        pay_at(&service).await.assert_problem(409, "response-not-kept");
    }
    assert_eq!((provider.asked().len(), service.runs()), (1, 0));
}

async fn a_function_that_panics_or_takes_for_ever_leaves_the_outcome_unknown(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    for word in [Word::Panic, Word::Never] {
        provider.says(word);
        pay_at(&service).await.assert_problem_for_now(409, "outcome-unknown");
    }
    assert_eq!((provider.asked().len(), service.runs(), service.idempotency().metrics().in_flight), (2, 0, 0));
    provider.says(Word::NotCharged);
    pay_at(&service).await.assert_fresh(201);
}

async fn an_outcome_that_was_unknown_before_is_asked_about(backend: Backend) {
    let provider = Provider::default();
    let service = Service::of(&backend, routes()).runtime(provider.runtime()).start().await;
    service.script().answer(|run, _| match run {
        1 => panic!("the handler panics, as it is told to"),
        2 => axum::response::IntoResponse::into_response((Disposition::Unknown, "who knows")),
        _ => axum::response::IntoResponse::into_response("paid"),
    });
    pay_at(&service).await.assert_problem_for_now(500, "panicked");
    provider.says(Word::NotCharged);
    pay_at(&service).await.assert_fresh(200);
    let paid = pay_at(&service).await;
    assert_eq!((paid.text().as_str(), paid.is_replay(), service.runs()), ("paid", false, 3));
    assert_eq!((provider.asked().len(), service.idempotency().metrics().recovered), (2, 2));
}

async fn requests_at_once_run_once_after_the_word(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    provider.says(Word::NotCharged);
    let asks = (0..20).map(|number| service.replica(number % 2).post("/pay").key("k").body("1").send());
    let replies = join_all(asks).await;
    let fresh = replies.iter().filter(|reply| reply.status == 201 && !reply.is_replay()).count();
    assert_eq!((fresh, service.runs()), (1, 1));
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.assert_problem(409, "in-flight");
    }
    let recovered: u64 = (0..2).map(|replica| service.replica(replica).idempotency().metrics().recovered).sum();
    assert_eq!(recovered, 1, "one word is applied");
}

async fn requests_at_once_get_the_answer_that_is_told(backend: Backend) {
    let provider = Provider::default();
    let service = lost(&backend, &provider).await;
    provider.says(Word::Charged);
    let asks = (0..20).map(|number| service.replica(number % 2).post("/pay").key("k").body("1").send());
    let replies = join_all(asks).await;
    let (told, busy): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.is_replay());
    assert!(!told.is_empty());
    for reply in told {
        assert_eq!(reply.text(), "the receipt", "{reply}");
    }
    for reply in busy {
        reply.assert_problem(409, "in-flight");
    }
    assert_eq!(service.runs(), 0);
}

async fn a_layer_asks_too(backend: Backend) {
    let provider = Provider::default();
    let routes = Router::new().route("/pay", post(pay_unguarded));
    let service = Service::layered(&backend, POLICY, routes).runtime(provider.runtime()).start().await;
    service.script().answer(|_, _| panic!("the handler panics, as it is told to"));
    pay_at(&service).await.assert_problem_for_now(500, "panicked");
    pay_at(&service).await.assert_problem_for_now(409, "outcome-unknown");
    provider.says(Word::Charged);
    assert!(pay_at(&service).await.is_replay());
    assert_eq!(service.runs(), 1);
}

async fn an_execution_asks_too(backend: Backend) {
    let provider = Provider::default();
    let store = backend.connect().await;
    let runtime: Idempotency = provider.runtime()(Idempotency::builder_shared(store)).build();
    let operation = |key: &str| Operation::new(POLICY, Principal::new("acct_1"), key);
    for key in ["k", "k2"] {
        let broken = runtime.execute(operation(key), |_| async { panic!("the effect panics, as it is told to") }).await;
        let _: Result<_, ExecuteError<()>> = broken.map(|_: idem_runtime::Executed<usize>| ());
    }
    let execute = async |key: &str| runtime.execute(operation(key), |_| async { Ok::<usize, ()>(1) }).await;
    assert!(matches!(execute("k").await, Err(ExecuteError::Refused(Refusal::Unknown))));
    provider.says(Word::Returned(7));
    let told = execute("k").await.expect("a value");
    assert_eq!((told.value, told.replayed), (7, true));
    provider.says(Word::NotCharged);
    let ran = execute("k2").await.expect("a value");
    assert_eq!((ran.value, ran.replayed), (1, false));
}
