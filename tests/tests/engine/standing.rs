//! A run that stands, for as long as a test wants.

use std::sync::{Arc, Mutex};

use idem_runtime::{Attempt, Idempotency, Policy};
use tests::{gate::Gate, probe::Runs};
use tokio::task::JoinHandle;

use crate::support::*;

/// A run in the background that stands at a gate, and what it knows of its claim.
pub(crate) struct Standing {
    gate: Gate,
    attempt: Arc<Mutex<Option<Attempt>>>,
    task: JoinHandle<Result>,
}

impl Standing {
    pub(crate) async fn start(
        idempotency: &Idempotency,
        policy: Policy,
        runs: &Runs,
        result: std::result::Result<&'static str, &'static str>,
    ) -> Self {
        let (gate, attempt) = (Gate::new(), Arc::new(Mutex::new(None)));
        let task = tokio::spawn({
            let (idempotency, runs) = (idempotency.clone(), runs.clone());
            let (gate, attempt) = (gate.clone(), attempt.clone());
            let effect = async move |given| {
                *attempt.lock().unwrap() = Some(given);
                gate.pass().await;
                result.map(str::to_owned).map_err(str::to_owned)
            };
            async move { pay_with(&idempotency, policy, &runs, effect).await }
        });
        gate.reached().await;
        Self { gate, attempt, task }
    }

    pub(crate) fn attempt(&self) -> Attempt {
        self.attempt.lock().unwrap().clone().expect("the effect runs")
    }

    /// Nobody ran beside it, and retries get its answer.
    pub(crate) async fn finish_as_the_only_one(self, idempotency: &Idempotency, policy: Policy, runs: &Runs) {
        assert_fresh(&self.finish().await);
        assert_replay(&pay(idempotency, policy, runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
    }

    pub(crate) async fn finish(self) -> Result {
        self.gate.open();
        self.task.await.unwrap()
    }
}
