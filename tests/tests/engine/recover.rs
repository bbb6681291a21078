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
    Some(Settlement::returned("paid"))
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_asks_what_became_of_an_operation() {
    let (gate, runs, asked) = (Gate::new(), Runs::default(), Runs::default());
    let store = FaultyStore::new(memory());
    let idempotency = Idempotency::builder(store.clone()).shared().context(gate.clone()).context(asked.clone()).build();
    let lost = pay_with(&idempotency, RECOVER, &runs, async |attempt| {
        attempt.mark_unknown();
        Err("nobody can tell".to_owned())
    });
    assert!(lost.await.is_err());
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
    let waiting = start(RECOVER.on_conflict(OnConflict::Wait(Duration::from_secs(5))));
    store.called(Step::Claim, claims + 2).await;
    assert_eq!(idempotency.metrics().in_flight, 1, "who does not ask holds no place");
    gate.open();
    assert_replay(&first.await.unwrap());
    assert_replay(&waiting.await.unwrap());
    assert_eq!((runs.begun(), asked.begun(), idempotency.metrics().recovered), (1, 1, 1));
}
