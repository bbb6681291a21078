//! The handler panics.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
    routing::post as route,
};
use http_body::{Frame, SizeHint};
use idem_runtime::{Idempotency, IdempotencyLayer, OnConflict, Policy, Refusal, idempotent};
use tests::{
    exchange::{post, send},
    gate::Gate,
    probe::Runs,
};
use tokio::time::Instant;

use crate::support::*;

/// Where it panics.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// While the future is made.
    Making,
    /// At its first poll.
    First,
    /// After it has waited.
    Later,
}

const PLACES: [Place; 3] = [Place::Making, Place::First, Place::Later];

async fn panic_at(place: Place, idempotency: &Idempotency, policy: Policy, runs: &Runs) -> Result {
    let counted = runs.clone();
    let effect = move |_| {
        counted.begin();
        assert!(place != Place::Making, "panics at {place:?}");
        async move {
            if place == Place::Later {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            panic!("panics at {place:?}")
        }
    };
    idempotency.execute(operation(policy), effect).await
}

#[tokio::test(start_paused = true)]
async fn a_panic_frees_the_key_or_leaves_it_unknown() {
    for place in PLACES {
        for (policy, refuses) in [(RETRY, false), (REFUSE, true)] {
            let (_store, idempotency) = faulty();
            let runs = Runs::default();
            assert_refused(&panic_at(place, &idempotency, policy, &runs).await, |refusal| {
                *refusal == Refusal::Panicked
            });
            assert_eq!((idempotency.metrics().panics, runs.begun()), (1, 1));
            let retry = pay(&idempotency, policy, &runs).await;
            if refuses {
                assert_refused(&retry, unknown);
                assert_eq!(runs.begun(), 1);
            } else {
                assert_fresh(&retry);
                assert_replay(&pay(&idempotency, policy, &runs).await);
                assert_eq!(runs.begun(), 2);
            }
            assert_eq!(idempotency.metrics().in_flight, 0);
        }
    }
}

/// Those who wait in this process learn of it at once, and exactly one of them takes over where that is allowed.
#[tokio::test(start_paused = true)]
async fn a_panic_wakes_those_who_wait() {
    for (policy, refuses) in [(RETRY, false), (REFUSE, true)] {
        let policy = policy.on_conflict(OnConflict::Wait(Duration::from_secs(5)));
        let (_store, idempotency) = faulty();
        let (runs, gate) = (Runs::default(), Gate::new());
        let first = {
            let (idempotency, runs, gate) = (idempotency.clone(), runs.clone(), gate.clone());
            let effect = async move |_| {
                gate.pass().await;
                panic!("while others wait")
            };
            tokio::spawn(async move { pay_with(&idempotency, policy, &runs, effect).await })
        };
        gate.reached().await;
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let (idempotency, runs) = (idempotency.clone(), runs.clone());
                tokio::spawn(async move { pay(&idempotency, policy, &runs).await })
            })
            .collect();
        // The longest pause between two looks of one who waits is a quarter of a second.
        tokio::time::sleep(Duration::from_millis(1_990)).await;
        let began = Instant::now();
        gate.open();
        assert_refused(&first.await.unwrap(), |refusal| *refusal == Refusal::Panicked);
        let mut fresh = 0;
        for waiter in waiting {
            match waiter.await.unwrap() {
                result if refuses => assert_refused(&result, unknown),
                Ok(executed) => fresh += usize::from(!executed.replayed),
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "woken, not polled");
        assert_eq!((fresh, runs.begun()), if refuses { (0, 1) } else { (1, 2) });
    }
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

#[idempotent(scope = "attribute", key = from_header)]
async fn retry(State(app): State<App>, body: String) -> String {
    charge(&app, &body).await
}

#[idempotent(scope = "attribute", key = from_header, financial)]
async fn refuse(State(app): State<App>, body: String) -> String {
    charge(&app, &body).await
}

async fn bare(State(app): State<App>, body: String) -> String {
    charge(&app, &body).await
}

async fn charge(app: &App, body: &str) -> String {
    app.runs.begin();
    assert!(body != "sync" || app.runs.begun() > 1, "before it waits");
    tokio::task::yield_now().await;
    assert!(body != "async" || app.runs.begun() > 1, "after it waited");
    "paid".to_owned()
}

/// Attribute and layer answer a panic alike, and the process lives.
#[tokio::test(start_paused = true)]
async fn a_panic_is_a_500() {
    for body in ["sync", "async"] {
        for (path, second, runs_in_all) in [
            ("/attribute/retry", "200 fresh", 2),
            ("/attribute/refuse", "409 outcome-unknown", 1),
            ("/layer/retry", "200 fresh", 2),
            ("/layer/refuse", "409 outcome-unknown", 1),
        ] {
            let (_store, idempotency) = faulty();
            let app = App { idempotency: idempotency.clone(), runs: Runs::default() };
            let layered = |policy| route(bare).layer(IdempotencyLayer::new(idempotency.clone(), policy));
            let router = Router::new()
                .route("/attribute/retry", route(retry))
                .route("/attribute/refuse", route(refuse))
                .route("/layer/retry", layered(RETRY))
                .route("/layer/refuse", layered(REFUSE))
                .with_state(app.clone());
            let panicked = send(&router, post(path, "k", body)).await;
            assert_eq!(panicked.summary(), "500 panicked", "{path} {body}");
            let runs_again = runs_in_all == 2;
            assert!(panicked.text().ends_with(&format!(r#""retryable":{runs_again}}}"#)), "{}", panicked.text());
            assert_eq!(panicked.headers.contains_key("retry-after"), runs_again, "{path} {body}");
            assert_eq!(send(&router, post(path, "k", body)).await.summary(), second, "{path} {body}");
            assert_eq!(app.runs.begun(), runs_in_all, "{path} {body}");
            assert_eq!(send(&router, post(path, "another", "")).await.summary(), "200 fresh");
        }
    }
}

/// The answer was on its way when its body panicked or broke: the effect is a fact, its answer is not kept.
#[tokio::test(start_paused = true)]
async fn a_body_that_panics_or_breaks_is_not_replayed_and_not_run_again() {
    for policy in BOTH {
        for ending in [Ending::Panics, Ending::Breaks, Ending::PanicsAtOnce] {
            let few = if matches!(ending, Ending::PanicsAtOnce) { &[0][..] } else { &[0, 1, 3] };
            for &pieces in few {
                let (_store, idempotency) = faulty();
                let runs = Runs::default();
                let counted = runs.clone();
                let handler = async move || {
                    counted.begin();
                    Response::new(Body::new(Pieces { left: pieces, ending }))
                };
                let app = Router::new().route("/pay", route(handler)).layer(IdempotencyLayer::new(idempotency, policy));
                let first = send(&app, post("/pay", "k", "")).await;
                assert_eq!((first.summary().as_str(), first.broke), ("200 fresh", true), "{ending:?}");
                assert_eq!(first.text(), "piece".repeat(pieces));
                for _ in 0..2 {
                    let retry = send(&app, post("/pay", "k", "")).await;
                    assert_eq!(retry.summary(), "409 response-not-kept");
                }
                assert_eq!(runs.begun(), 1);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Panics,
    Breaks,
    /// When it is asked how long it is.
    PanicsAtOnce,
}

struct Pieces {
    left: usize,
    ending: Ending,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, &'static str>>> {
        match (self.left, self.ending) {
            (0, Ending::Panics | Ending::PanicsAtOnce) => panic!("in the body"),
            (0, Ending::Breaks) => Poll::Ready(Some(Err("broken"))),
            _ => {
                self.left -= 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        assert!(!matches!(self.ending, Ending::PanicsAtOnce), "in the body");
        SizeHint::default()
    }
}

/// A panic of one who holds the effect's result, outside of the guard, is no panic of the effect.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_caller_cuts_nothing() {
    let (_store, idempotency) = faulty();
    let (runs, gate) = (Runs::default(), Gate::new());
    let caller = {
        let (idempotency, runs, gate) = (idempotency.clone(), runs.clone(), gate.clone());
        let effect = {
            let gate = gate.clone();
            async move |_| {
                gate.pass().await;
                Ok("paid".to_owned())
            }
        };
        tokio::spawn(async move {
            let panicking = async {
                gate.reached().await;
                panic!("the caller")
            };
            tokio::select! {
                biased;
                result = pay_with(&idempotency, REFUSE, &runs, effect) => result,
                () = panicking => unreachable!(),
            }
        })
    };
    assert!(caller.await.unwrap_err().is_panic());
    assert_eq!((runs.begun(), runs.ended()), (1, 0));
    gate.open();
    settled(&idempotency).await;
    assert_eq!(runs.ended(), 1);
    assert_replay(&pay(&idempotency, REFUSE, &runs).await);
}

/// What a handler panics with, and which panics once more as it is dropped.
struct Spiteful;

impl Drop for Spiteful {
    fn drop(&mut self) {
        panic!("as it is dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_too_is_settled() {
    for (policy, refuses) in [(RETRY, false), (REFUSE, true)] {
        let (_store, idempotency) = faulty();
        let runs = Runs::default();
        let panicked = pay_with(&idempotency, policy, &runs, async |_| std::panic::panic_any(Spiteful)).await;
        assert_refused(&panicked, |refusal| *refusal == Refusal::Panicked);
        let retry = pay(&idempotency, policy, &runs).await;
        if refuses {
            assert_refused(&retry, unknown);
        } else {
            assert_fresh(&retry);
        }
        assert_eq!(idempotency.metrics().panics, 1);
    }
}
