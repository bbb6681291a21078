//! Operations whose claim, effect and answer are one database transaction.
//!
//! ```text
//! begin ── claim ──┬─ won ──────── effect ──┬─ an answer to keep ─ complete, commit ── value
//!                  │                        ├─ an error to keep ── roll back, record it apart ── value
//!                  │                        └─ nothing to keep ─── roll back ── value
//!                  ├─ completed ── roll back, replay
//!                  └─ anything else ─ roll back, refuse or wait
//! ```
//!
//! No lease and no unknown outcome: whatever breaks off is undone by the database. A transaction that met another one is rolled
//! back and run again. What was abandoned under a lease, outside of transactions, is as there.

mod queue;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    CatchPanic, Closing, Engine, Operation, RUNS_HERE, Ran, Recording, Refusal, Settled, Turn, Won, known,
    span::note_attempt,
    tx::{Leaked, Place},
    unclaimed,
    wait::jittered,
};
use crate::{
    policy::OnAbandoned,
    record::Answer,
    store::{Begun, Claim, Claimed, Complete, Fence, Outcome, Ownership, StoreError, StoreErrorKind, Transactions},
};

/// What is done in the transaction, perhaps more than once.
pub(crate) trait Work: Send + 'static {
    type Value: Send + 'static;

    /// Makes ready for the next run, while no transaction is open. `Err`: it cannot run, and this is the answer.
    fn ready(&mut self) -> impl Future<Output = Result<(), Self::Value>> + Send;

    fn run(&mut self, won: Won) -> impl Future<Output = Ended<Self::Value>> + Send;
}

/// What a run in a transaction came to.
#[derive(Debug)]
pub(crate) struct Ended<T> {
    pub(crate) settled: Settled<T>,
    /// The answer is an error: what the run wrote is undone, whatever is kept of the answer.
    pub(crate) undo: bool,
}

/// How often the work is run while its transaction meets others.
const MAX_RUNS: u32 = 5;

const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// How long it is asked what became of a commit whose reply was lost, beyond the store's own time-out.
pub(super) const SETTLE: Duration = Duration::from_secs(5);

/// How long a transaction that cannot be begun, or in which nothing could be claimed, is tried again.
pub(super) const BEGIN_AGAIN: Duration = Duration::from_millis(250);

/// One operation under way, and its work.
struct Transacting<D: Transactions, W> {
    on: Ground<D>,
    work: W,
    /// The work ran before, and is to be made ready for the next run.
    ran: bool,
}

/// What every run of one operation stands on.
struct Ground<D: Transactions> {
    engine: Engine,
    store: D,
    place: Place<D>,
    /// `None`: there is no key, so nothing is claimed and nothing recorded.
    operation: Option<Operation>,
}

/// An operation that was claimed in a transaction of the caller's own.
pub(crate) struct Joined {
    engine: Engine,
    operation: Operation,
    claim: Claim,
    won: Won,
    _open: Open,
}

/// Tells the `Attempt` of a run that its transaction is open, until it is dropped.
struct Open(Arc<AtomicBool>);

/// Where one run ended.
enum Once<T> {
    Over(Result<Ran<T>, Refusal>),
    /// Somebody else runs.
    Busy(Refusal),
    /// It was rolled back and may run again.
    Again,
}

impl Engine {
    /// Runs `work` in a transaction of `store` unless the operation ran before, else answers with what is known.
    pub(crate) async fn transact<D, W>(
        &self,
        store: D,
        place: Place<D>,
        operation: Option<Operation>,
        work: W,
    ) -> Result<Ran<W::Value>, Refusal>
    where
        D: Transactions,
        W: Work,
    {
        let transacting =
            Transacting { on: Ground { engine: self.clone(), store, place, operation }, work, ran: false };
        let Some(operation) = operation else {
            let ran = match self.turn_in_transaction(None, transacting).await {
                Turn::Over(ran) => ran,
                Turn::Busy(_, refusal) => Err(refusal),
            };
            self.0.counters.answered(&ran);
            return ran;
        };
        let queueing = async {
            let ran = self.queue(operation, transacting).await;
            self.answered(&ran);
            ran
        };
        operation.inside(queueing).await
    }

    /// Claims in a transaction of the caller's own. `Err`: it was not won, and this is known.
    pub(crate) async fn join<D: Transactions, T>(
        &self,
        store: &D,
        connection: &mut D::Connection,
        operation: &Operation,
    ) -> Result<Joined, Result<Ran<T>, Refusal>> {
        let claim = operation.claim();
        let known = match self.known_here(operation, Instant::now()) {
            Some(known) => known,
            None => match store.claim_in(connection, claim).await {
                Ok(claimed) if self.owner_here(&claim.key, claim.token, &claimed).is_some() => Err(RUNS_HERE),
                Ok(Claimed::Won { fence, attempt }) => {
                    let open = Open::new();
                    let won = Won::alone(self, &claim, fence, attempt, open.0.clone());
                    return Ok(Joined { engine: self.clone(), operation: *operation, claim, won, _open: open });
                }
                Ok(claimed) => known(&operation.key, claimed),
                Err(error) => Err(self.failed_in(&error)),
            },
        };
        self.0.counters.answered(&known);
        Err(known)
    }

    fn failed_in(&self, error: &StoreError) -> Refusal {
        if error.kind() == StoreErrorKind::Conflict {
            return Refusal::Contended;
        }
        self.0.counters.store_errors.add();
        tracing::warn!(%error, "a step in the caller's transaction failed");
        Refusal::unavailable(error.kind())
    }
}

impl Joined {
    pub(crate) fn won(&self) -> Won {
        self.won.clone()
    }

    /// Records what the effect came to; the caller commits.
    pub(crate) async fn complete<D: Transactions, T>(
        self,
        store: &D,
        connection: &mut D::Connection,
        settled: Settled<T>,
    ) -> Result<Ran<T>, Refusal> {
        let Settled { value, recording } = settled;
        self.engine.0.counters.executed.add();
        let Closing::Complete(complete) = self.operation.close(self.claim.token, recording) else {
            return Ok(Ran::Fresh(value));
        };
        let refusal = match store.complete_in(connection, &complete).await {
            Ok(Ownership::Held) => return Ok(Ran::Fresh(value)),
            Ok(Ownership::Lost) => {
                tracing::error!(key = %self.claim.key, "the record was changed inside its own transaction");
                Refusal::unavailable(StoreErrorKind::Conflict)
            }
            Err(error) => self.engine.failed_in(&error),
        };
        let refused = Err(refusal);
        self.engine.0.counters.answered(&refused);
        refused
    }
}

impl Open {
    fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<D: Transactions, W: Work> Transacting<D, W> {
    async fn turn(mut self) -> Turn<W::Value, Self> {
        let claim = self.on.operation.map_or_else(unclaimed, |operation| operation.claim());
        let mut pause = FIRST_PAUSE;
        for run in 1.. {
            if self.ran
                && let Err(value) = self.work.ready().await
            {
                return Turn::Over(Ok(Ran::Fresh(value)));
            }
            match self.once(claim).await {
                Once::Over(ran) => {
                    self.on.count(&ran);
                    return Turn::Over(ran);
                }
                Once::Busy(refusal) => return Turn::Busy(self, refusal),
                Once::Again if run == MAX_RUNS => break,
                Once::Again => {}
            }
            self.on.engine.0.counters.reruns.add();
            tokio::time::sleep(jittered(pause)).await;
            pause *= 2;
        }
        tracing::warn!(key = %claim.key, "the transaction met others each time it was run, and is given up");
        Turn::Over(Err(Refusal::Contended))
    }

    /// One transaction. When this returns it is over.
    async fn once(&mut self, claim: Claim) -> Once<W::Value> {
        let (transaction, fence, attempt) = match self.on.claim(claim).await {
            Ok(won) => won,
            Err(not_won) => return not_won,
        };
        if self.on.operation.is_some() {
            note_attempt(attempt);
        }
        self.on.place.open(transaction);
        let open = Open::new();
        let won = Won::alone(&self.on.engine, &claim, fence, attempt, open.0.clone());
        self.ran = true;
        let ended = CatchPanic::call(|| self.work.run(won)).await;
        drop(open);
        let transaction = match self.on.place.close() {
            Ok(transaction) => transaction,
            Err(Leaked) => {
                tracing::error!(
                    key = %claim.key,
                    "the `Tx` of a handler still lives after the handler has returned: nothing is committed. \
                     Do not move it into a task, or wait for the task"
                );
                return Once::Over(Err(if ended.is_err() { Refusal::Panicked } else { Refusal::Leaked }));
            }
        };
        // Whatever the handler made of it, the database has undone what was written.
        if self.on.place.met_conflict() {
            self.on.store.rollback(transaction).await;
            return Once::Again;
        }
        let Ok(Ended { settled: Settled { value, recording }, undo }) = ended else {
            self.on.store.rollback(transaction).await;
            self.on.engine.0.counters.panics.add();
            return Once::Over(Err(Refusal::Panicked));
        };
        let outcome = match recording {
            Recording::Answer(answer) => Outcome::Answer(answer),
            Recording::Tombstone => Outcome::Tombstone,
            Recording::Failed => {
                self.on.store.rollback(transaction).await;
                self.on.count_apart(claim).await;
                return Once::Over(Ok(Ran::Fresh(value)));
            }
            Recording::Parked { note, .. } => {
                self.on.store.rollback(transaction).await;
                return self.on.park_apart(claim, note, value).await;
            }
            Recording::Release | Recording::Broken | Recording::Unknown => {
                if matches!(recording, Recording::Unknown) {
                    tracing::warn!(key = %claim.key, "an outcome in a transaction is never unknown: it is rolled back");
                }
                self.on.store.rollback(transaction).await;
                return Once::Over(Ok(Ran::Fresh(value)));
            }
        };
        let complete = self.on.operation.map(|operation| operation.complete(claim.token, outcome));
        match complete {
            complete if !undo => self.on.finish(transaction, claim, complete, value).await,
            None => {
                self.on.store.rollback(transaction).await;
                Once::Over(Ok(Ran::Fresh(value)))
            }
            Some(complete) => {
                self.on.store.rollback(transaction).await;
                self.on.record_apart(claim, complete, value).await
            }
        }
    }
}

impl<D: Transactions> Ground<D> {
    /// A transaction in which the claim was won.
    async fn claim<T>(&self, claim: Claim) -> Result<(D::Transaction, Fence, u32), Once<T>> {
        let deadline = Instant::now() + BEGIN_AGAIN;
        let mut recovered = false;
        loop {
            if let Some(known) = self.known_here() {
                return Err(known);
            }
            match self.begin(claim).await {
                Ok(Begun::Won { transaction, fence, attempt }) => {
                    let claimed = Claimed::Won { fence, attempt };
                    if self.engine.owner_here(&claim.key, claim.token, &claimed).is_some() {
                        self.store.rollback(transaction).await;
                        return Err(Once::Busy(RUNS_HERE));
                    }
                    return Ok((transaction, fence, attempt));
                }
                Ok(Begun::NotWon(claimed)) => {
                    if self.engine.owner_here(&claim.key, claim.token, &claimed).is_some() {
                        return Err(Once::Busy(RUNS_HERE));
                    }
                    if recovered || !self.recover(&claimed).await.map_err(Once::Busy)? {
                        return Err(not_won(known(&claim.key, claimed)));
                    }
                    recovered = true;
                }
                // Whatever became of a claim without an answer, it went with its transaction.
                Err(error) if has_no_answer(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(jittered(BEGIN_AGAIN / 5)).await;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Asks what became of an operation that was abandoned. Whether the record may be another one now; `Err`: somebody else asks.
    async fn recover(&self, claimed: &Claimed) -> Result<bool, Refusal> {
        let (Some(operation), Claimed::Unknown { fence, attempt }) = (&self.operation, claimed) else {
            return Ok(false);
        };
        let OnAbandoned::Recover(ask) = operation.terms.on_abandoned else { return Ok(false) };
        Box::pin(self.engine.recover(self.store.authority(), operation, ask, *fence, *attempt)).await
    }

    /// What ran or runs under a lease in this process: once that is out, the database would let this run too.
    fn known_here<T>(&self) -> Option<Once<T>> {
        self.engine.known_here(&self.operation?, Instant::now()).map(not_won)
    }

    async fn begin(&self, claim: Claim) -> Result<Begun<D::Transaction>, StoreError> {
        match self.operation {
            // However long the transaction takes: its record goes with it, and has no lease that could be over.
            Some(_) => self.store.begin_and_claim(claim.retention(None)).await,
            None => {
                let transaction = self.store.begin().await?;
                Ok(Begun::Won { transaction, fence: Fence::new(0), attempt: 1 })
            }
        }
    }

    /// Completes, if there is a record, and commits.
    async fn finish<T>(
        &self,
        transaction: D::Transaction,
        claim: Claim,
        complete: Option<Complete>,
        value: T,
    ) -> Once<T> {
        let committed = match &complete {
            Some(complete) => self.store.complete_and_commit(transaction, complete).await,
            None => self.store.commit(transaction).await.map(|()| Ownership::Held),
        };
        match committed {
            Ok(Ownership::Held) => {
                self.engine.0.waiters.wake(&claim.key);
                Once::Over(Ok(Ran::Fresh(value)))
            }
            Ok(Ownership::Lost) => {
                tracing::error!(key = %claim.key, "the record was changed inside its own transaction");
                Once::Over(Err(Refusal::unavailable(StoreErrorKind::Conflict)))
            }
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                self.engine.0.counters.store_errors.add();
                tracing::warn!(key = %claim.key, %error, "the reply to a commit was lost");
                match complete {
                    Some(complete) => self.settle(claim, complete, value).await,
                    None => Once::Over(Err(Refusal::Unconfirmed)),
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// What became of a commit whose reply was lost: claims again, which waits for whoever still works on the record.
    async fn settle<T>(&self, claim: Claim, complete: Complete, value: T) -> Once<T> {
        let (authority, deadline) = (self.store.authority(), Instant::now() + SETTLE);
        loop {
            match self.store.begin_and_claim(claim).await {
                Ok(Begun::Won { transaction, .. }) => {
                    self.store.rollback(transaction).await;
                    return Once::Again;
                }
                // Another run may have come between if ours was undone. What our token completes again, is ours.
                Ok(Begun::NotWon(claimed @ Claimed::Completed { .. })) => match authority.complete(&complete).await {
                    Ok(Ownership::Held) => return Once::Over(Ok(Ran::Fresh(value))),
                    Ok(Ownership::Lost) => return not_won(known(&claim.key, claimed)),
                    Err(_) if Instant::now() < deadline => {}
                    Err(_) => break,
                },
                Ok(Begun::NotWon(Claimed::Busy { .. })) | Err(_) if Instant::now() < deadline => {}
                Ok(Begun::NotWon(Claimed::Busy { .. })) | Err(_) => break,
                Ok(Begun::NotWon(claimed)) => return not_won(known(&claim.key, claimed)),
            }
            tokio::time::sleep(jittered(BEGIN_AGAIN)).await;
        }
        tracing::error!(key = %claim.key, "nobody can tell whether a transaction was committed; the next request will");
        Once::Over(Err(Refusal::Unconfirmed))
    }

    /// The effect is undone, its answer is kept. Between the two somebody else may have run: then that one's answer counts.
    async fn record_apart<T>(&self, claim: Claim, complete: Complete, value: T) -> Once<T> {
        match self.claim(claim).await {
            Ok((transaction, ..)) => self.finish(transaction, claim, Some(complete), value).await,
            // Nothing happened, and a retry runs.
            Err(Once::Over(Err(Refusal::Unavailable { .. }))) => Once::Over(Ok(Ran::Fresh(value))),
            Err(not_won) => not_won,
        }
    }

    /// The effect is undone, its attempt is counted.
    async fn count_apart(&self, claim: Claim) {
        if let Some(operation) = self.operation {
            // If the store has it not, the attempt is one that does not count.
            let _ = self.engine.settle_apart(&self.store, operation, claim, |_| Recording::Failed).await;
        }
    }

    /// The effect is undone, and is not to be tried again before somebody resolves it.
    async fn park_apart<T>(&self, claim: Claim, note: Answer, value: T) -> Once<T> {
        let Some(operation) = self.operation else { return Once::Over(Ok(Ran::Fresh(value))) };
        let recording = |_| Recording::Parked { note, ran: true };
        let settled = self.engine.settle_apart(&self.store, operation, claim, recording).await;
        // Whoever hears that it is parked forgets it: not before the store has it.
        Once::Over(settled.map(|()| Ran::Fresh(value)).map_err(Refusal::unavailable))
    }

    fn failed<T>(&self, error: &StoreError) -> Once<T> {
        if error.kind() == StoreErrorKind::Conflict {
            return Once::Again;
        }
        self.engine.0.counters.store_errors.add();
        tracing::warn!(%error, "the transaction failed and was rolled back");
        Once::Over(Err(Refusal::unavailable(error.kind())))
    }

    fn count<T>(&self, ran: &Result<Ran<T>, Refusal>) {
        if matches!(ran, Ok(Ran::Fresh(_)) | Err(Refusal::Panicked | Refusal::Leaked | Refusal::Unconfirmed)) {
            self.engine.0.counters.executed.add();
        }
    }
}

fn not_won<T>(known: Result<Ran<T>, Refusal>) -> Once<T> {
    match known {
        Err(refusal @ Refusal::InFlight { .. }) => Once::Busy(refusal),
        known => Once::Over(known),
    }
}

fn has_no_answer(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Unreachable | StoreErrorKind::Unavailable)
}
