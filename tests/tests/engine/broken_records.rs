//! Records that are damaged, or of a version that is not out yet: refused, never taken for absent.

use axum::{
    Router,
    extract::{FromRef, State},
    routing::post as route,
};
use idem_runtime::{ExecuteError, Idempotency, IdempotencyLayer, Refusal, idempotent};
use tests::{
    exchange::{post, send},
    faulty_store::{Fault, Step},
    probe::Runs,
};

use crate::support::*;

type Damage = fn(&mut Vec<u8>);

#[derive(Clone)]
struct App(Idempotency, Runs);

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.0.clone()
    }
}

async fn plain(State(App(_, runs)): State<App>) -> &'static str {
    runs.begin();
    "paid"
}

#[idempotent(scope = "attribute", key = from_header)]
async fn guarded(State(App(_, runs)): State<App>) -> &'static str {
    runs.begin();
    "paid"
}

const DAMAGE: [(&str, Damage); 10] = [
    ("nothing is left", |bytes| bytes.clear()),
    ("a byte is left", |bytes| bytes.truncate(1)),
    ("cut in the checksum", |bytes| bytes.truncate(4)),
    ("the content is gone", |bytes| bytes.truncate(6)),
    ("the last byte is gone", |bytes| bytes.truncate(bytes.len() - 1)),
    ("a byte too many", |bytes| bytes.push(0)),
    ("a newer format", |bytes| bytes[0] += 1),
    ("another kind", |bytes| bytes[1] ^= 3),
    ("a letter of what was answered is another", |bytes| {
        // In both, `paid` ends or begins there: only a checksum can tell.
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
    }),
    ("a bit of the end has flipped", |bytes| {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
    }),
];

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_read_is_refused() {
    for (what, damage) in DAMAGE {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        let counted = runs.clone();
        let handler = async move || {
            counted.begin();
            "paid"
        };
        let app = Router::new().route("/pay", route(handler)).layer(IdempotencyLayer::new(idempotency.clone(), RETRY));
        assert_eq!(send(&app, post("/pay", "k", "")).await.summary(), "200 fresh");
        store.fail(Step::Claim, Fault::Mangled(damage));
        for _ in 0..2 {
            assert_eq!(send(&app, post("/pay", "k", "")).await.summary(), "409 outcome-unknown", "{what}");
        }
        assert_eq!(runs.begun(), 1, "{what}");
        assert_eq!((idempotency.metrics().unknown, idempotency.metrics().replayed), (2, 0), "{what}");
        store.heal();
        assert_eq!(send(&app, post("/pay", "k", "")).await.summary(), "200 replay");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_read_is_refused() {
    for (what, damage) in DAMAGE {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        assert_fresh(&pay(&idempotency, RETRY, &runs).await);
        store.fail(Step::Claim, Fault::Mangled(damage));
        let retry = pay(&idempotency, RETRY, &runs).await;
        assert!(matches!(retry, Err(ExecuteError::Refused(Refusal::Unreadable))), "{what}: {retry:?}");
        assert_eq!(runs.begun(), 1, "{what}");
        assert_eq!((idempotency.metrics().unknown, idempotency.metrics().replayed), (1, 0), "{what}");
    }
}

/// Whatever its record says, it is there: a store that cannot read it has not said that the key is free.
#[tokio::test(start_paused = true)]
async fn a_record_that_the_store_cannot_read_is_refused_and_nothing_runs() {
    for policy in BOTH {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        let app = Router::new()
            .route("/by-layer", route(plain))
            .layer(IdempotencyLayer::new(idempotency.clone(), policy))
            .route("/by-attribute", route(guarded))
            .with_state(App(idempotency.clone(), runs.clone()));
        store.fail(Step::Claim, Fault::Unreadable);
        for path in ["/by-layer", "/by-attribute"] {
            for _ in 0..2 {
                assert_eq!(send(&app, post(path, "k", "")).await.summary(), "409 outcome-unknown", "{path}");
            }
        }
        for _ in 0..2 {
            let refused = pay(&idempotency, policy, &runs).await;
            assert_refused(&refused, |refusal| *refusal == Refusal::Unreadable);
        }
        let metrics = idempotency.metrics();
        assert_eq!((runs.begun(), metrics.unknown, metrics.executed, metrics.not_kept), (0, 6, 0, 0));
        store.heal();
        for path in ["/by-layer", "/by-attribute"] {
            assert_eq!(send(&app, post(path, "k", "")).await.summary(), "200 fresh", "{path}");
        }
        assert_fresh(&pay(&idempotency, policy, &runs).await);
    }
}

/// A value of another type than the program asks for now: it ran, so it is refused as well.
#[tokio::test(start_paused = true)]
async fn a_value_of_another_type_is_not_kept_and_not_run_again() {
    let (_store, idempotency) = faulty();
    let runs = Runs::default();
    assert_fresh(&pay(&idempotency, RETRY, &runs).await);
    let counted = runs.clone();
    let number = async move |_| {
        counted.begin();
        Ok::<u64, String>(1)
    };
    let retry = idempotency.execute(operation(RETRY), number).await;
    assert!(matches!(retry, Err(ExecuteError::Refused(Refusal::NotKept))), "{retry:?}");
    assert_eq!(runs.begun(), 1);
}
