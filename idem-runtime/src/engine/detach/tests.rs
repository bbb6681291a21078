use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};

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
    let recovery = Recovery { context: RecoveryContext::default(), deadline: Duration::ZERO };
    let engine = Engine::new(Arc::new(MemoryStore::new()), 1, recovery, Settings::new(PrincipalSource::Shared));
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

const fn block<F: Future<Output: Send> + Send + 'static>(_: &Detached<'_, F>) -> usize {
    size_of::<F>()
}
