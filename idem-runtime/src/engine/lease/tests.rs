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
    let leases = Leases::new(Arc::new(MemoryStore::new()), Counters::default());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..3 {
        let claim =
            Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
        drop(leases.hold(Renew::of(&claim), Instant::now()));
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 1, "the task stays until its first look");
    }
}

#[tokio::test]
async fn the_task_ends_when_nothing_is_held() {
    let leases = Leases::new(Arc::new(MemoryStore::new()), Counters::default());
    let claim = Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
    drop(leases.hold(Renew::of(&claim), Instant::now()));
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the task ends at its first look");
    assert!(leases.table().next_look.is_none(), "the next lease starts another");
}
