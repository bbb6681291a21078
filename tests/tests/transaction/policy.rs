//! Policies that contradict themselves. In a constant these are compile errors.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, OnAbandoned, OnStoreError, Policy};

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
        (transfers.on_abandoned(OnAbandoned::Retry), "`on_abandoned`"),
        (transfers.on_store_error(OnStoreError::Run), "the store"),
    ] {
        let complaint = complaint(|| assert!(size_of_val(&policy.validate()) > 0));
        assert!(complaint.contains("`transaction`") && complaint.contains(option), "{complaint}");
    }
}

#[test]
fn a_layer_holds_no_transaction() {
    let runtime = Idempotency::builder(MemoryStore::new()).shared().build();
    let complaint = complaint(|| drop(IdempotencyLayer::new(runtime, Policy::new("transfers").transaction())));
    assert!(complaint.contains("`transaction`"), "{complaint}");
}
