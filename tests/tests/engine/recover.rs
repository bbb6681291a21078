//! A recovery function under way: nobody else asks about the same key.

use std::time::Duration;

use idem_runtime::{Idempotency, OnAbandoned, OnConflict, Policy, Recover, Settlement, Unsettled};
use tests::{
    faulty_store::{FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};

use crate::support::*;

const RECOVER: Policy =
    Policy::new("recover").on_abandoned(OnAbandoned::Recover(Recover::new(|lost| Box::pin(ask(lost)))));

/// The provider's answer takes as long as the gate is closed.
async fn ask(lost: Unsettled) -> Option<Settlement> {
    lost.context::<Runs>()?.begin();
    lost.context::<Gate>()?.pass().await;
    lost.context::<Settlement>().cloned()
}

/// A runtime in which a run has ended that nobody knows the outcome of, but the provider if it says so; and how often that was asked.
async fn after_a_loss(gate: &Gate, runs: &Runs, found: Option<Settlement>) -> (FaultyStore, Idempotency, Runs) {
    let (store, asked) = (FaultyStore::new(memory()), Runs::default());
    let setup = Idempotency::builder(store.clone()).shared().context(gate.clone()).context(asked.clone());
    let setup = match found {
        Some(found) => setup.context(found),
        None => setup,
    };
    let idempotency = setup.build();
    let lost = pay_with(&idempotency, RECOVER, runs, async |attempt| {
        attempt.mark_unknown();
        Err("nobody can tell".to_owned())
    });
    assert!(lost.await.is_err());
    (store, idempotency, asked)
}

const PATIENT: Policy = RECOVER.on_conflict(OnConflict::Wait(Duration::from_secs(5)));

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_word_of_the_recovery_function_share_it_where_it_cannot_tell() {
    let (gate, runs) = (Gate::new(), Runs::default());
    let (store, idempotency, asked) = after_a_loss(&gate, &runs, None).await;
    let start = || {
        let (idempotency, runs) = (idempotency.clone(), runs.clone());
        tokio::spawn(async move { pay(&idempotency, PATIENT, &runs).await })
    };
    let mut all = vec![start()];
    gate.reached().await;
    let claims = store.calls(Step::Claim);
    all.extend((0..20).map(|_| start()));
    // One of them looks a second time, so all of them wait.
    store.called(Step::Claim, claims + 21).await;
    gate.open();
    for told in all {
        assert_refused(&told.await.unwrap(), unknown);
    }
    assert_eq!((runs.begun(), asked.begun()), (1, 1));
    // Whoever comes later asks again.
    assert_refused(&pay(&idempotency, PATIENT, &runs).await, unknown);
    assert_eq!((runs.begun(), asked.begun()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_asks_what_became_of_an_operation() {
    let (gate, runs) = (Gate::new(), Runs::default());
    let found = Settlement::returned("paid");
    let (store, idempotency, asked) = after_a_loss(&gate, &runs, Some(found)).await;
    let start = |policy: Policy| {
        let (idempotency, runs) = (idempotency.clone(), runs.clone());
        tokio::spawn(async move { pay(&idempotency, policy, &runs).await })
    };
    let first = start(RECOVER);
    gate.reached().await;
    for _ in 0..20 {
        assert_refused(&pay(&idempotency, RECOVER, &runs).await, in_flight);
    }
    let claims = store.calls(Step::Claim);
    let waiting = start(PATIENT);
    store.called(Step::Claim, claims + 2).await;
    assert_eq!(idempotency.metrics().in_flight, 1, "who does not ask holds no place");
    gate.open();
    assert_replay(&first.await.unwrap());
    assert_replay(&waiting.await.unwrap());
    assert_eq!((runs.begun(), asked.begun(), idempotency.metrics().recovered), (1, 1, 1));
}
