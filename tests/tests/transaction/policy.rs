//! Policies that contradict themselves. In a constant these are compile errors.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use idem_runtime::{
    ExecuteError, Executed, Idempotency, IdempotencyLayer, MemoryStore, Missing, OnAbandoned, OnStoreError, Operation,
    Policy, Principal, Refusal, Rejection,
    consumer::{ConsumeError, Delivery, Event, ProcessError},
};

fn complaint(make: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(make)).expect_err("a complaint");
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref().cloned())
        .expect("a text")
}

#[test]
fn a_transaction_has_no_use_for_some_options() {
    let transfers = Policy::new("transfers").transaction();
    let _ = transfers.validate();
    for (policy, option) in [
        (transfers.lease(Duration::from_secs(30)), "`lease`"),
        (transfers.renew_for(Duration::from_secs(600)), "`renew_for`"),
        (transfers.on_abandoned(OnAbandoned::Retry), "`on_abandoned`"),
        (transfers.on_store_error(OnStoreError::Run), "the store"),
    ] {
        let complaint = complaint(|| assert!(size_of_val(&policy.validate()) > 0));
        assert!(complaint.contains("`transaction`") && complaint.contains(option), "{complaint}");
    }
}

/// A lease does not keep what the policy promises.
#[tokio::test]
async fn calls_and_events_under_a_lease_hold_no_transaction() {
    const TRANSFERS: Policy = Policy::new("transfers").transaction();
    let runtime = Idempotency::builder(MemoryStore::new()).shared().build();
    let operation = Operation::new(TRANSFERS, Principal::SHARED, "k");
    let called: Result<Executed<u8>, ExecuteError<&str>> = runtime.execute(operation, async |_| Ok(7)).await;
    let Err(ExecuteError::Refused(refusal)) = called else { panic!("{called:?}") };
    assert_eq!(refusal, Refusal::NoTransaction);
    assert!(refusal.to_string().contains("`execute_in`"), "{refusal}");
    assert_eq!(Rejection::from(refusal).code().as_str(), "transaction-missing");

    let consumer = runtime.consumer(TRANSFERS.missing(Missing::Run));
    for event in [Event::new("evt_1", "{}"), Event::without_id("{}")] {
        let one = consumer.process(event.clone(), async |_| Ok::<_, &str>(7)).await;
        let many = consumer.process_many(vec![event], async |_, _| Ok::<_, &str>(7)).await;
        for processed in many.into_iter().chain([one]) {
            let Err(ProcessError::Refused(error)) = processed else { panic!("{processed:?}") };
            assert_eq!(error, ConsumeError::NoTransaction);
            assert!(error.to_string().contains("`process_in`"), "{error}");
            assert!(matches!(error.delivery(), Delivery::Retry { .. }), "it must not be lost");
        }
    }
    assert_eq!(runtime.metrics().executed, 0);
}

#[test]
fn a_layer_holds_no_transaction() {
    let runtime = Idempotency::builder(MemoryStore::new()).shared().build();
    let complaint = complaint(|| drop(IdempotencyLayer::new(runtime, Policy::new("transfers").transaction())));
    assert!(complaint.contains("`transaction`"), "{complaint}");
}
