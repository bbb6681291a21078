//! Whoever waits for the answer of another is told in time that there is none.

use std::time::Duration;

use idem_runtime::{OnConflict, Policy};
use tests::{gate::Gate, probe::Runs};
use tokio::time::Instant;

use crate::support::*;

/// By a process that is woken when the first run ends, and by one that can only ask again and again.
#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_is_refused_at_once() {
    const WAIT: Duration = Duration::from_millis(200);
    const PATIENT: Policy = RETRY.on_conflict(OnConflict::Wait(WAIT)).validate();
    let shared = memory();
    let (here, elsewhere) = (runtime(shared.clone()), runtime(shared));
    let (runs, gate) = (Runs::default(), Gate::new());
    let first = {
        let (here, runs, gate) = (here.clone(), runs.clone(), gate.clone());
        let effect = async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        };
        tokio::spawn(async move { pay_with(&here, PATIENT, &runs, effect).await })
    };
    gate.reached().await;
    for idempotency in [&here, &elsewhere] {
        // The pauses between two questions are drawn by lot.
        for _ in 0..20 {
            let began = Instant::now();
            assert_refused(&pay(idempotency, PATIENT, &runs).await, in_flight);
            let waited = began.elapsed();
            assert!((WAIT..=WAIT + Duration::from_millis(50)).contains(&waited), "{waited:?}");
        }
    }
    gate.open();
    assert_fresh(&first.await.unwrap());
    for idempotency in [&here, &elsewhere] {
        assert_replay(&pay(idempotency, PATIENT, &runs).await);
    }
    assert_eq!((runs.begun(), runs.ended()), (1, 1));
}
