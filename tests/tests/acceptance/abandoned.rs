//! What an owner leaves that vanished in the middle: its own policy says what becomes of it, whoever asks, and an operator can settle it
//! though nobody does.

use std::{future::pending, time::Duration};

use idem_runtime::{
    ExecuteError, Fingerprint, Idempotency, OnAbandoned, Operation, Policy, Principal, Refusal, Settlement,
    store::{Forgotten, Resolved},
};
use tests::backend::Backend;
use tokio::sync::oneshot;

use crate::recover::doomed;

tests::on_every_store!(
    who_vanished_says_what_becomes_of_it_and_not_who_asks,
    an_operator_settles_what_nobody_asks_for_with_its_own_request,
    what_runs_is_settled_by_nobody_else,
);

const LEASE: Duration = Duration::from_millis(400);
const CAREFUL: Policy = Policy::new("payments").lease(LEASE).on_abandoned(OnAbandoned::Refuse).validate();
/// As a version before it was.
const CARELESS: Policy = Policy::new("payments").lease(LEASE).validate();

fn paying(policy: Policy, amount: &str) -> Operation {
    Operation::new(policy, Principal::new("acct_1"), "k").fingerprint(Fingerprint::of_bytes(amount.as_bytes()))
}

async fn runtime(backend: &Backend) -> Idempotency {
    Idempotency::builder_shared(backend.connect().await).shared().build()
}

/// A replica, beside one that vanished in the middle of a payment.
async fn after_a_loss(backend: &Backend) -> Idempotency {
    let (doomed, elsewhere, (begun, began)) = (doomed(), backend.clone(), oneshot::channel());
    doomed.spawn(async move {
        let pay = move |_| async move {
            begun.send(()).unwrap();
            pending::<Result<u32, String>>().await
        };
        runtime(&elsewhere).await.execute(paying(CAREFUL, "1"), pay).await.map(|paid| paid.value)
    });
    began.await.unwrap();
    doomed.shutdown_background();
    backend.pass(LEASE * 2).await;
    runtime(backend).await
}

async fn pay(runtime: &Idempotency, policy: Policy, amount: &str) -> Result<u32, Refusal> {
    match runtime.execute(paying(policy, amount), |attempt| async move { Ok::<_, String>(attempt.number()) }).await {
        Ok(paid) => Ok(paid.value),
        Err(ExecuteError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("nothing fails here: {error}"),
    }
}

/// In the middle of a deployment the one who asks may be a version that would run it again.
async fn who_vanished_says_what_becomes_of_it_and_not_who_asks(backend: Backend) {
    let replica = after_a_loss(&backend).await;
    assert_eq!(pay(&replica, CARELESS, "1").await, Err(Refusal::Unknown));
    assert_eq!(pay(&replica, CAREFUL, "1").await, Err(Refusal::Unknown));
    let settled = replica.resolve(&paying(CARELESS, "1"), Settlement::not_executed()).await;
    assert_eq!(settled.unwrap(), Resolved::Applied);
    assert_eq!(pay(&replica, CARELESS, "1").await, Ok(1));
}

/// Another version makes another fingerprint of the same request, and a client may never come back.
async fn an_operator_settles_what_nobody_asks_for_with_its_own_request(backend: Backend) {
    for (settlement, then) in [(Settlement::not_executed(), Ok(1)), (Settlement::executed(), Err(Refusal::NotKept))] {
        let replica = after_a_loss(&backend).await;
        assert_eq!(pay(&replica, CAREFUL, "2").await, Err(Refusal::Mismatch));
        let operation = paying(CAREFUL, "2");
        assert_eq!(replica.forget(&operation).await.unwrap(), Forgotten::Unknown);
        assert_eq!(replica.resolve(&operation, settlement).await.unwrap(), Resolved::Applied);
        assert_eq!(pay(&replica, CAREFUL, "1").await, then);
        assert_eq!(replica.forget(&operation).await.unwrap(), Forgotten::Done);
    }
}

async fn what_runs_is_settled_by_nobody_else(backend: Backend) {
    let (running, elsewhere, (begun, began), (end, ends)) =
        (runtime(&backend).await, runtime(&backend).await, oneshot::channel(), oneshot::channel());
    let run = running.clone();
    let first = tokio::spawn(async move {
        let pay = move |_| async move {
            begun.send(()).unwrap();
            Ok::<u32, String>(ends.await.unwrap())
        };
        run.execute(paying(CAREFUL, "1"), pay).await.map(|paid| paid.value)
    });
    began.await.unwrap();
    for replica in [&running, &elsewhere] {
        let settled = replica.resolve(&paying(CAREFUL, "1"), Settlement::not_executed()).await;
        assert_eq!(settled.unwrap(), Resolved::NotUnknown);
        assert!(matches!(pay(replica, CAREFUL, "1").await, Err(Refusal::InFlight { .. })));
    }
    end.send(7).unwrap();
    assert!(matches!(first.await.unwrap(), Ok(7)));
    assert_eq!(pay(&elsewhere, CAREFUL, "1").await, Ok(7));
}
