//! The caller is dropped, at every single await point.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
    routing::post as route,
};
use futures_util::{StreamExt, stream};
use idem_runtime::{Idempotency, IdempotencyLayer, OnConflict, Operation, Policy, Principal, idempotent};
use std::time::Duration;
use tests::{
    exchange::{post, read, send},
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::{Runs, cut_after},
};
use tower::ServiceExt;

use crate::support::*;

/// More polls than any of these takes; reaching it is a failure.
const MOST: usize = 500;

/// What the store does meanwhile.
const STORE: [fn(&FaultyStore); 5] = [
    |_| {},
    |store| store.fail_next(Step::Claim, Fault::ReplyLost),
    |store| store.fail_next(Step::Complete, Fault::ReplyLost),
    |store| store.fail(Step::Complete, Fault::Refused(idem_runtime::store::StoreErrorKind::Unreachable)),
    |store| store.fail_next(Step::Complete, Fault::TimedOut(Duration::from_secs(1))),
];

async fn effect(_: idem_runtime::Attempt) -> std::result::Result<String, String> {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok("paid".to_owned())
}

#[tokio::test(start_paused = true)]
async fn execute_is_all_or_nothing_wherever_it_is_cut() {
    for policy in BOTH {
        for prepare in STORE {
            let mut cuts = 0;
            let mut ran = 0;
            loop {
                let (store, idempotency) = faulty();
                store.yielding(2);
                prepare(&store);
                let runs = Runs::default();
                let result = cut_after(cuts, pay_with(&idempotency, policy, &runs, effect)).await;
                let done = result.is_some();
                // Alone from here on. What is left may wait for the store.
                tokio::time::sleep(Duration::from_secs(5)).await;
                assert_eq!(runs.begun(), runs.ended(), "cut at {cuts}: half an effect");
                assert_eq!(idempotency.metrics().in_flight, 0, "cut at {cuts}");
                ran += runs.begun();
                let retry = pay_with(&idempotency, policy, &runs, effect).await;
                store.heal();
                settled(&idempotency).await;
                assert_eq!((runs.begun(), runs.ended()), (1, 1), "cut at {cuts}: {retry:?}");
                assert!(retry.is_ok(), "cut at {cuts}: {retry:?}");
                assert_replay(&pay_with(&idempotency, policy, &runs, effect).await);
                if done {
                    break;
                }
                cuts += 1;
                assert!(cuts < MOST);
            }
            assert!(cuts > 10, "it has that many await points, {cuts} were tried");
            assert!(ran + 2 > cuts, "from the claim on it runs to its end: {ran} of {cuts}");
        }
    }
}

/// One who waits for another's answer is cut: nothing of its own is left, and nothing of the other's is lost.
#[tokio::test(start_paused = true)]
async fn one_who_waits_can_be_cut_anywhere() {
    let policy = RETRY.on_conflict(OnConflict::Wait(Duration::from_secs(2)));
    let mut cuts = 0;
    loop {
        let (store, idempotency) = faulty();
        store.yielding(2);
        let (runs, gate) = (Runs::default(), Gate::new());
        let first = {
            let (idempotency, runs, gate) = (idempotency.clone(), runs.clone(), gate.clone());
            let effect = async move |_| {
                gate.pass().await;
                Ok("paid".to_owned())
            };
            tokio::spawn(async move { pay_with(&idempotency, RETRY, &runs, effect).await })
        };
        gate.reached().await;
        let waiting = cut_after(cuts, pay_with(&idempotency, policy, &runs, effect)).await;
        if let Some(waited) = &waiting {
            assert_refused(waited, in_flight);
        }
        gate.open();
        assert_fresh(&first.await.unwrap());
        settled(&idempotency).await;
        assert_replay(&pay_with(&idempotency, policy, &runs, effect).await);
        assert_eq!((runs.begun(), runs.ended()), (1, 1), "cut at {cuts}");
        if waiting.is_some() {
            break;
        }
        cuts += 1;
        assert!(cuts < MOST);
    }
    assert!(cuts > 20, "{cuts}");
}

#[derive(Clone)]
struct App {
    idempotency: Idempotency,
    runs: Runs,
}

impl axum::extract::FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

#[idempotent(scope = "attribute", key = from_header, financial)]
async fn attributed(State(app): State<App>, body: Bytes) -> Response {
    charge(app, body).await
}

async fn bare(State(app): State<App>, body: Bytes) -> Response {
    charge(app, body).await
}

/// The request's body is in pieces, as is the answer's, and all of them take their time.
async fn charge(app: App, body: Bytes) -> Response {
    app.runs.begin();
    assert_eq!(body, "piece".repeat(3));
    tokio::task::yield_now().await;
    app.runs.end();
    Response::new(pieces())
}

fn pieces() -> Body {
    Body::from_stream(stream::iter(0..3).then(async |_| {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>("piece")
    }))
}

fn in_pieces() -> http::Request<Body> {
    post("/pay", "k", pieces())
}

#[tokio::test(start_paused = true)]
async fn a_request_is_all_or_nothing_wherever_it_is_cut() {
    for layered in [false, true] {
        for prepare in STORE {
            let mut cuts = 0;
            loop {
                let (store, idempotency) = faulty();
                store.yielding(2);
                prepare(&store);
                let app = App { idempotency: idempotency.clone(), runs: Runs::default() };
                let pay = match layered {
                    true => route(bare).layer(IdempotencyLayer::new(idempotency.clone(), REFUSE)),
                    false => route(attributed),
                };
                let router: Router = Router::new().route("/pay", pay).with_state(app.clone());
                let request = async {
                    let Ok(response) = router.clone().oneshot(in_pieces()).await;
                    read(response).await
                };
                let reply = cut_after(cuts, request).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                assert_eq!(app.runs.begun(), app.runs.ended(), "cut at {cuts}: half an effect");
                if let Some(reply) = &reply {
                    assert_eq!((reply.summary().as_str(), app.runs.begun()), ("200 fresh", 1));
                }
                let retry = send(&router, in_pieces()).await;
                assert_eq!(
                    (retry.text(), app.runs.begun(), app.runs.ended()),
                    ("piece".repeat(3), 1, 1),
                    "cut at {cuts}"
                );
                store.heal();
                settled(&idempotency).await;
                let last = send(&router, in_pieces()).await;
                assert_eq!((last.summary().as_str(), app.runs.begun()), ("200 replay", 1), "cut at {cuts}");
                if reply.is_some() {
                    break;
                }
                cuts += 1;
                assert!(cuts < MOST);
            }
            assert!(cuts > 12, "{cuts}");
        }
    }
}

/// What is handed over is counted, and what ends in its place is not.
#[tokio::test(start_paused = true)]
async fn runs_that_outlive_their_caller_are_counted() {
    let (_store, idempotency) = faulty();
    let runs = Runs::default();
    assert_fresh(&pay(&idempotency, RETRY, &runs).await);
    assert_eq!(idempotency.metrics().detached, 0);
    let other = Policy::new("other");
    assert!(cut_after(1, pay_with(&idempotency, other, &runs, effect)).await.is_none());
    assert_eq!((idempotency.metrics().detached, idempotency.metrics().in_flight), (1, 1));
    settled(&idempotency).await;
    assert_eq!((idempotency.metrics().executed, idempotency.metrics().in_flight), (2, 0));
}

/// On many threads, and cut from outside at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_are_aborted_at_random_cut_nothing() {
    const CALLERS: u32 = 2_000;
    let store = FaultyStore::new(idem_runtime::MemoryStore::new());
    store.yielding(2);
    let idempotency = runtime(store);
    let every: Vec<Runs> = (0..CALLERS).map(|_| Runs::default()).collect();
    // The first one is cut in its handler for sure, however few of the others a busy machine lets begin.
    let first = Gate::new();
    let call = |number: u32| {
        let (idempotency, runs, first) = (idempotency.clone(), every[number as usize].clone(), first.clone());
        async move {
            let operation = Operation::new(REFUSE, Principal::SHARED, number.to_string()).any_input();
            let effect = async move |_: idem_runtime::Attempt| {
                runs.begin();
                if number == 0 {
                    first.pass().await;
                }
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                runs.end();
                Ok::<_, String>("paid".to_owned())
            };
            idempotency.execute(operation, effect).await
        }
    };
    for number in 0..CALLERS {
        let caller = tokio::spawn(call(number));
        if number == 0 {
            first.reached().await;
        }
        for _ in 0..number % 40 {
            tokio::task::yield_now().await;
        }
        caller.abort();
        drop(caller.await);
    }
    first.open();
    settled(&idempotency).await;
    let cut = every.iter().filter(|runs| runs.begun() == 0).count();
    assert!(idempotency.metrics().detached > 0);
    for number in 0..CALLERS {
        let retry = call(number).await;
        assert!(matches!(&retry, Ok(executed) if executed.value == "paid"), "{retry:?}");
        let runs = &every[number as usize];
        assert_eq!((runs.begun(), runs.ended()), (1, 1), "caller {number}; {cut} had not begun");
    }
}
