use std::{sync::atomic::AtomicUsize, time::Duration};

use super::*;
use crate::{
    FakeClock, MemoryStore,
    fingerprint::Fingerprint,
    key::StorageKey,
    store::{Claim, Claimed, Token},
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
    assert!(!*leases.0.renewing(), "the next lease starts another");
}

#[tokio::test(start_paused = true)]
async fn leases_that_many_threads_hold_are_renewed_by_one_task() {
    let clock = FakeClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let leases = Leases::new(store.clone(), Counters::default());
    let claim =
        |key| Claim::new(StorageKey::from_bytes([key; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
    let mut held = Vec::new();
    for key in 0..8 {
        let (claim, runtime) = (claim(key), tokio::runtime::Handle::current());
        store.claim(claim).await.unwrap();
        let hold = || {
            let _runtime = runtime.enter();
            leases.hold(Renew::of(&claim), Instant::now())
        };
        held.push(std::thread::scope(|scope| scope.spawn(hold).join().unwrap()));
    }
    clock.advance(LEASE * 3 / 4);
    tokio::time::sleep(LEASE / 2).await;
    clock.advance(LEASE * 3 / 4);
    for key in 0..8 {
        assert!(matches!(store.claim(claim(key)).await.unwrap(), Claimed::Busy { .. }), "{key} was renewed");
    }
}

/// What is told of all tables is found while leases come and go, and none may be overlooked for good.
#[tokio::test]
async fn a_lease_that_begins_during_a_look_is_not_overlooked() {
    const ROUNDS: usize = 50_000;
    let leases = Leases::new(Arc::new(MemoryStore::new()), Counters::default());
    // Both go on within nanoseconds, which a `Barrier` cannot see to.
    let met = AtomicUsize::new(0);
    let meet = |times: usize| {
        met.fetch_add(1, Ordering::AcqRel);
        while met.load(Ordering::Acquire) < 2 * times {
            std::thread::yield_now();
        }
    };
    let runtime = tokio::runtime::Handle::current();
    let claim =
        |lease| Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), lease);
    // So that one meets each part of the other.
    let pause = |spins| (0..spins).for_each(|_| std::hint::spin_loop());
    let hold = |lease| leases.hold(Renew::of(&claim(lease)), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _runtime = runtime.enter();
            for round in 0..ROUNDS {
                let short = hold(Duration::from_nanos(1));
                meet(2 * round + 1);
                pause(round % 16);
                leases.0.look_for_ends(Instant::now());
                drop(short);
                leases.0.take_due(Instant::now());
                meet(2 * round + 2);
            }
        });
        let _runtime = runtime.enter();
        // Told at the end: the other thread must not be left at the barrier.
        let mut overlooked = (0, 0);
        for round in 0..ROUNDS {
            meet(2 * round + 1);
            pause(round / 16 % 128);
            let lease = hold(LEASE);
            meet(2 * round + 2);
            let (due, end) = lease.times();
            overlooked.0 += usize::from(leases.0.next_look.load(Ordering::Acquire) > leases.0.micros(due));
            overlooked.1 += usize::from(leases.0.sure_until.load(Ordering::Acquire) > leases.0.micros(end));
        }
        assert_eq!(overlooked, (0, 0), "to be renewed, and to be doubted");
    });
}
