use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::*;
use crate::{
    MemoryStore, Policy,
    engine::{Engine, Granted, Operation, Recording, Recovery, Settled, Terms},
    fingerprint::Fingerprint,
    http::PrincipalSource,
    key::StorageKey,
    recovery::Context as RecoveryContext,
    runtime::Settings,
};

/// The largest block that glibc hands out from a list of the thread's own; for a larger one it searches.
const QUICK: usize = 1032;

#[test]
fn an_operation_is_a_block_that_is_handed_out_quickly() {
    let engine = engine();
    let operation = Operation {
        key: StorageKey::from_bytes([1; 32]),
        fingerprint: Fingerprint::from_bytes([2; 32]),
        terms: Terms::of(&Policy::new("blocks")),
    };
    let arguments = [0_u64; 8];
    let effect = move |_: Granted<'_>| async move {
        tokio::task::yield_now().await;
        let value = Ok::<_, Infallible>(Response::new(Body::from(format!("{arguments:?}"))));
        Settled { value, recording: Recording::Tombstone }
    };
    let size = block(&engine.turn(&operation, effect));
    assert!(size <= QUICK, "{size} bytes");
}

fn engine() -> Engine {
    let recovery = Recovery { context: RecoveryContext::default(), deadline: Duration::ZERO };
    Engine::new(Arc::new(MemoryStore::new()), 1, recovery, Settings::new(PrincipalSource::Shared))
}

/// Begins an effect that waits to be told `go`, and holds no lease. Dropped on a thread outside of every runtime.
async fn begins_and_is_dropped_outside(engine: &Engine, go: oneshot::Receiver<()>, done: oneshot::Sender<()>) {
    let engine = engine.clone();
    let run = async move {
        engine
            .run_unclaimed(|_| async move {
                assert_eq!(go.await, Ok(()));
                done.send(())
            })
            .await
    };
    let mut run = Box::pin(run);
    assert!((&mut run).now_or_never().is_none());
    std::thread::scope(|scope| scope.spawn(move || drop(run)).join()).unwrap();
}

#[tokio::test]
async fn what_is_dropped_outside_of_every_runtime_runs_to_its_end_though_it_never_held_a_lease() {
    let engine = engine();
    let ((go, told), (tell, done)) = (oneshot::channel(), oneshot::channel());
    begins_and_is_dropped_outside(&engine, told, tell).await;
    go.send(()).expect("it still runs");
    done.await.expect("it runs to its end");
    assert_eq!(engine.metrics().detached, 1);
}

#[test]
fn what_is_left_to_a_runtime_that_has_ended_is_not_counted_as_going_on() {
    let engine = engine();
    let ended = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (_go, told) = oneshot::channel();
    let (tell, mut done) = oneshot::channel::<()>();
    let mut run = Box::pin(engine.run_unclaimed(|_| async move {
        let _: Result<(), _> = told.await;
        tell.send(())
    }));
    ended.block_on(async { assert!((&mut run).now_or_never().is_none()) });
    drop(ended);
    drop(run);
    assert!(done.try_recv().is_err());
    assert_eq!(engine.metrics().detached, 0);
}

const fn block<F: Future<Output: Send> + Send + 'static>(_: &Detached<'_, F>) -> usize {
    size_of::<F>()
}
