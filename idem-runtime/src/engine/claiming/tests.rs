use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake},
    time::Duration,
};

use super::*;
use crate::{
    MemoryStore, Policy,
    engine::{Recording, Recovery, Terms},
    fingerprint::Fingerprint,
    http::PrincipalSource,
    key::StorageKey,
    recovery::Context as RecoveryContext,
    runtime::Settings,
};

/// One who waits for the operation, and looks at the very moment it is woken.
struct Looks {
    engine: Engine,
    key: StorageKey,
    /// How often it was woken, and how often it found the operation running.
    woken: AtomicUsize,
    found: AtomicUsize,
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        if self.engine.0.leases.other_owner(&self.key, Token::fresh()).is_some() {
            self.found.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_woken_once_nothing_runs_any_more() {
    let recovery = Recovery { context: RecoveryContext::default(), deadline: Duration::ZERO };
    let engine = Engine::new(Arc::new(MemoryStore::new()), 1, recovery, Settings::new(PrincipalSource::Shared));
    let operation = Operation {
        key: StorageKey::from_bytes([1; 32]),
        fingerprint: Fingerprint::from_bytes([2; 32]),
        terms: Terms::of(&Policy::new("wakes")),
    };
    for (number, recording) in (1..).zip([Recording::Tombstone, Recording::Unknown, Recording::Release]) {
        let operation = Operation { key: StorageKey::from_bytes([number; 32]), ..operation };
        let looks = Arc::new(Looks {
            engine: engine.clone(),
            key: operation.key,
            woken: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
        });
        let waker = looks.clone().into();
        let mut waiting = engine.0.waiters.join(operation.key).unwrap();
        waiting.listen();
        let mut pause = pin!(waiting.pause(Instant::now() + Duration::from_secs(60)));
        assert_eq!(pause.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        let kept = recording.clone();
        let effect = move |_: Granted<'_>| async move { Settled { value: Ok::<_, Infallible>(()), recording: kept } };
        assert!(matches!(engine.run(&operation, effect).await, Ok(Ran::Fresh(_))));
        assert_eq!((looks.woken.load(Ordering::SeqCst), looks.found.load(Ordering::SeqCst)), (1, 0), "{recording:?}");
    }
}
