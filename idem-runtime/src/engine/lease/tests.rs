use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize},
        mpsc,
    },
    time::Duration,
};

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
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for _ in 0..3 {
        let claim =
            Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
        drop(leases.hold(Renew::of(&claim), Instant::now(), None));
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 1, "the task stays until its first look");
    }
}

#[tokio::test]
async fn the_task_ends_when_nothing_is_held() {
    let leases = Leases::new(Arc::new(MemoryStore::new()), Counters::default());
    let claim = Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
    drop(leases.hold(Renew::of(&claim), Instant::now(), None));
    let ended = async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the task ends at its first look");
    assert_eq!(*leases.0.renewing(), Renewal::Ended, "the next lease starts another");
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
        let (claim, runtime) = (claim(key), Handle::current());
        store.claim(claim).await.unwrap();
        let hold = || {
            let _runtime = runtime.enter();
            leases.hold(Renew::of(&claim), Instant::now(), None)
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

#[tokio::test]
async fn one_that_is_held_outside_of_every_runtime_ends_the_renewal_of_no_other() {
    let leases = Leases::new(Arc::new(MemoryStore::new()), Counters::default());
    let hold = || {
        let claim =
            Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), LEASE);
        leases.hold(Renew::of(&claim), Instant::now(), None)
    };
    let outside = std::thread::scope(|scope| scope.spawn(|| drop(hold())).join());
    assert!(outside.is_err(), "there is nothing to renew it");
    let lease = hold();
    tokio::task::yield_now().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1, "the renewing task");
    drop(lease);
}

/// A look that came a nanosecond early would find nothing due, and under a clock that stands still look for ever: on a thread that
/// need not come to an end.
#[test]
fn a_lease_that_is_due_between_two_microseconds_is_renewed_in_time() {
    let renewed = async {
        let clock = FakeClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let leases = Leases::new(Arc::new(store.clone()), Counters::default());
        let lease = Duration::from_nanos(300_000_012);
        let claim =
            Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), lease);
        store.claim(claim).await.unwrap();
        let held = leases.hold(Renew::of(&claim), Instant::now(), None);
        for _ in 0..10 {
            tokio::time::sleep(lease / 2).await;
            clock.advance(lease / 2);
        }
        (store.renew(Renew::of(&claim)).await.unwrap(), held.is_sure(Instant::now()))
    };
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        tell.send(runtime.block_on(renewed)).unwrap();
    });
    let ended = told.recv_timeout(Duration::from_secs(60)).expect("the renewing task sleeps between its looks");
    assert_eq!(ended, (Ownership::Held, true));
}

/// What is told of all tables is found while leases come and go, and none may be overlooked for good.
#[tokio::test]
async fn a_lease_that_begins_during_a_look_is_not_overlooked() {
    // As many rounds as a slow machine has time for.
    const ROUNDS: usize = 50_000;
    const LONGEST: Duration = Duration::from_secs(2);
    let leases = Leases::new(Arc::new(MemoryStore::new()), Counters::default());
    let meeting = Meeting::default();
    let runtime = Handle::current();
    let hold = |lease| {
        let claim =
            Claim::new(StorageKey::from_bytes([1; 32]), Token::fresh(), Fingerprint::from_bytes([2; 32]), lease);
        leases.hold(Renew::of(&claim), Instant::now(), None)
    };
    // So that each meets every part of the other.
    let pause = |spins| (0..spins).for_each(|_| std::hint::spin_loop());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _runtime = runtime.enter();
            let _left = meeting.leaves_at_the_end();
            for round in 0.. {
                let short = hold(Duration::from_nanos(1));
                meeting.meet(2 * round);
                if meeting.over.load(Ordering::Acquire) {
                    break;
                }
                pause(round % 16);
                leases.0.look_for_ends(Instant::now());
                drop(short);
                leases.0.take_due(Instant::now());
                meeting.meet(2 * round + 1);
            }
        });
        let _runtime = runtime.enter();
        let _left = meeting.leaves_at_the_end();
        let began = std::time::Instant::now();
        for round in 0.. {
            meeting.over.store(round == ROUNDS || began.elapsed() > LONGEST, Ordering::Release);
            meeting.meet(2 * round);
            if meeting.over.load(Ordering::Acquire) {
                break;
            }
            pause(round / 16 % 128);
            let lease = hold(Duration::from_secs(60 * 60));
            meeting.meet(2 * round + 1);
            let (due, end) = lease.times();
            assert!(leases.0.next_look.load(Ordering::Acquire) <= leases.0.micros(due), "not to be renewed: {round}");
            assert_eq!(*leases.0.renewing(), Renewal::Sleeps, "nobody to renew it: {round}");
            assert!(leases.0.sure_until.load(Ordering::Acquire) <= leases.0.micros(end), "not to be doubted: {round}");
        }
    });
}

/// Where two threads meet and go on within nanoseconds, which a `Barrier` cannot see to.
#[derive(Default)]
struct Meeting {
    met: AtomicUsize,
    over: AtomicBool,
}

struct Leaving<'a>(&'a Meeting);

impl Meeting {
    /// Numbered from 0.
    fn meet(&self, number: usize) {
        self.met.fetch_add(1, Ordering::AcqRel);
        let both = 2 * (number + 1);
        for spins in 0.. {
            if self.met.load(Ordering::Acquire) >= both {
                return;
            }
            // The other may need this core.
            if spins > 1_000 {
                std::thread::yield_now();
            }
        }
    }

    /// One that panics must not leave the other waiting.
    fn leaves_at_the_end(&self) -> Leaving<'_> {
        Leaving(self)
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.0.met.fetch_add(usize::MAX / 4, Ordering::AcqRel);
    }
}
