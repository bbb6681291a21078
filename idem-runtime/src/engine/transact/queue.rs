//! Those of one process that want one key in transactions go one after the other: a transaction that waits for a row holds a connection.

use std::time::Duration;

use tokio::time::Instant;

use super::{Transacting, Work};
use crate::{
    engine::{Detached, Engine, Operation, Permit, RUNS_HERE, Ran, Refusal, Turn, gate::Pass, span::note_outcome},
    policy::OnConflict,
    store::Transactions,
};

/// How long a duplicate that is not to wait queues behind one of the same process. Behind one of another process it
/// waits for the store's lock time-out, so it is never refused at once.
const QUEUE: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) async fn queue<D, W>(
        &self,
        operation: Operation,
        mut transacting: Transacting<D, W>,
    ) -> Result<Ran<W::Value>, Refusal>
    where
        D: Transactions,
        W: Work,
    {
        let (limit, reject) = match operation.terms.on_conflict {
            OnConflict::Reject => (QUEUE, true),
            OnConflict::Wait(limit) => (limit, false),
        };
        let deadline = Instant::now() + limit;
        let mut waiting = None;
        let mut has_waited = false;
        // Who goes through at once waits for nobody.
        if self.0.gates.is_taken(&operation.key) {
            waiting = Some(self.0.waiters.join(operation.key).ok_or(RUNS_HERE)?);
        }
        loop {
            if let Some(waiting) = &mut waiting {
                waiting.listen();
            }
            let queued = Instant::now();
            let Ok(pass) = tokio::time::timeout_at(deadline, self.0.gates.pass(operation.key)).await else {
                return Err(RUNS_HERE);
            };
            if let Some(kind) = pass.store_was_silent(queued) {
                let refused = Err(Refusal::unavailable(kind));
                note_outcome(&refused);
                return refused;
            }
            let refusal = match self.turn_in_transaction(Some(pass), transacting).await {
                Turn::Over(ran) => {
                    if let Some(waiting) = waiting {
                        waiting.leave();
                    }
                    return ran;
                }
                Turn::Busy(_, refusal) if reject || Instant::now() >= deadline => return Err(refusal),
                Turn::Busy(_, refusal @ Refusal::Overloaded) if !has_waited => return Err(refusal),
                Turn::Busy(given_back, refusal) => {
                    transacting = given_back;
                    refusal
                }
            };
            has_waited = true;
            let mut waits = match waiting.take() {
                Some(waits) => waits,
                None => self.0.waiters.join(operation.key).ok_or(refusal)?,
            };
            waits.pause(deadline).await;
            waiting = Some(waits);
        }
    }

    /// One claim, and the work if it was won. Once it is under way, dropping this future cuts nothing.
    pub(super) async fn turn_in_transaction<D, W>(
        &self,
        pass: Option<Pass>,
        transacting: Transacting<D, W>,
    ) -> Turn<W::Value, Transacting<D, W>>
    where
        D: Transactions,
        W: Work,
    {
        let Some(permit) = Permit::inside(self) else {
            return Turn::Busy(transacting, Refusal::Overloaded);
        };
        let tracked = async move {
            let (_permit, mut pass) = (permit, pass);
            let has_span = transacting.on.operation.is_some();
            let turn = transacting.turn().await;
            if let Turn::Over(ran) = &turn
                && has_span
            {
                note_outcome(ran);
            }
            if let (Turn::Over(Err(Refusal::Unavailable { kind })), Some(pass)) = (&turn, &mut pass) {
                pass.store_is_silent(*kind);
            }
            turn
        };
        Detached::new(tracked, self).await
    }
}
