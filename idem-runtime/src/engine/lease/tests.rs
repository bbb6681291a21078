use std::time::Duration;

use super::*;
use crate::{
    MemoryStore,
    fingerprint::Fingerprint,
    key::StorageKey,
    store::{Claim, Token},
};

const LEASE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn one_task_serves_the_leases_of_many_short_operations() {
    let group = Group::new(Arc::new(MemoryStore::new()), Counters::default(), Arc::default());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..3 {
        let claim =
            Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
        drop(group.hold(Renew::of(&claim), Instant::now()));
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 1, "the task stays until its first look");
    }
}

#[tokio::test]
async fn the_task_ends_when_nothing_is_held() {
    let group = Group::new(Arc::new(MemoryStore::new()), Counters::default(), Arc::default());
    let claim = Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
    drop(group.hold(Renew::of(&claim), Instant::now()));
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the task ends at its first look");
    assert!(group.table().next_look.is_none(), "the next lease starts another");
}

/// Each thread keeps its own, and any may be asked for a key that another runs.
#[tokio::test]
async fn a_lease_that_another_thread_is_unsure_of_is_known_to_all() {
    let leases = Arc::new(Leases::new(&(Arc::new(MemoryStore::new()) as Arc<dyn Store>), &Counters::default()));
    let claim = Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
    let held = {
        let (leases, runtime) = (leases.clone(), tokio::runtime::Handle::current());
        std::thread::spawn(move || {
            let _runtime = runtime.enter();
            let held = leases.hold(Renew::of(&claim), Instant::now());
            let mut table = held.group.table();
            held.group.0.note(table.slots.first_mut().and_then(|slot| slot.lease.as_mut()), true);
            drop(table);
            held
        })
    };
    let held = held.join().unwrap();
    assert!(!Arc::ptr_eq(&held.group.0, &leases.groups.here().0), "threads have groups of their own");
    assert!(leases.is_unsure_of(&claim.key));
    assert!(!leases.is_unsure_of(&StorageKey::from_bytes([3; 32])));
    drop(held);
    assert!(!leases.is_unsure_of(&claim.key));
}
