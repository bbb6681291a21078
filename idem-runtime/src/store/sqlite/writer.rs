//! The one task of a process that writes steps: all that wait are taken in one transaction, and share its `fsync`.
//!
//! It takes the write connection for each transaction anew and in turn with the transactions of handlers: the pool of
//! one connection is a fair queue.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    fault::Fault,
    step::{Pending, Step, Take, Timeline},
    table,
};
use crate::store::{Fence, StoreErrorKind};

/// How the store reaches its writer. The task ends when all of them are gone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<Jobs>,
    /// Steps since the last look for what is past its time, those in transactions of handlers too.
    steps: Arc<AtomicU32>,
}

/// Steps that are taken in one transaction.
type Jobs = Vec<Box<dyn Job>>;

/// A step, and who waits for it.
struct Waiting<S: Step> {
    step: Pending<S>,
    caller: oneshot::Sender<Result<S::Done, Fault>>,
}

trait Job: Send {
    fn step(&mut self) -> &mut dyn Take;
    fn answer(self: Box<Self>, committed: Result<(), Fault>);
}

struct Task {
    connections: SqlitePool,
    timeline: Arc<Timeline>,
    steps: Arc<AtomicU32>,
}

/// Why a transaction of steps was not committed.
enum Failed {
    /// It never began: no step was taken.
    Lock(Fault),
    /// One of the steps, or the commit.
    Step(Fault),
}

/// How many steps one transaction takes; those behind them wait for the next, and let a handler's transaction go first.
const STEPS_TOGETHER: usize = 256;

/// After so many steps the writer looks for what is past its time, and drops a few times as much as they can have added.
const STEPS_PER_DROP: u32 = 32;
const DROPS: u32 = 4 * STEPS_PER_DROP;

/// How much is dropped when there is no room for a step.
const DROPS_WHEN_FULL: u32 = 1024;

impl Writer {
    /// Spawns the task on this runtime.
    pub(super) fn spawn(connections: SqlitePool, timeline: Arc<Timeline>) -> Self {
        let (sender, jobs) = mpsc::unbounded_channel();
        // The first step looks at once, so that processes that live for few steps leave nothing to each other.
        let steps = Arc::new(AtomicU32::new(STEPS_PER_DROP));
        tokio::spawn(Task { connections, timeline, steps: Arc::clone(&steps) }.run(jobs));
        Self { jobs: sender, steps }
    }

    pub(super) async fn take<S: Step>(&self, step: S) -> Result<S::Done, Fault> {
        let (job, reply) = wait_for(step);
        self.send(vec![job]);
        reply.await.unwrap_or_else(|_| Err(Fault::unanswered()))
    }

    /// All in one transaction, in this order.
    pub(super) async fn take_all<S: Step>(&self, steps: impl IntoIterator<Item = S>) -> Vec<Result<S::Done, Fault>> {
        let (jobs, replies): (Vec<_>, Vec<_>) = steps.into_iter().map(wait_for).unzip();
        self.send(jobs);
        let mut done = Vec::with_capacity(replies.len());
        for reply in replies {
            done.push(reply.await.unwrap_or_else(|_| Err(Fault::unanswered())));
        }
        done
    }

    /// A step was taken in somebody else's transaction: what is past its time is dropped after that too.
    pub(super) fn note_step(&self) {
        if self.steps.fetch_add(1, Ordering::Relaxed) >= STEPS_PER_DROP - 1 {
            self.send(Jobs::new());
        }
    }

    /// If the task is gone the jobs are dropped, and whoever waits for them is told.
    fn send(&self, jobs: Jobs) {
        drop(self.jobs.send(jobs));
    }
}

impl Task {
    async fn run(self, mut jobs: mpsc::UnboundedReceiver<Jobs>) {
        while let Some(mut together) = jobs.recv().await {
            while together.len() < STEPS_TOGETHER
                && let Ok(more) = jobs.try_recv()
            {
                together.extend(more);
            }
            self.steps.fetch_add(u32::try_from(together.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
            if !together.is_empty() {
                self.take(together).await;
            }
            if self.steps.load(Ordering::Relaxed) >= STEPS_PER_DROP {
                self.steps.store(0, Ordering::Relaxed);
                self.drop_past(DROPS).await;
            }
        }
    }

    /// Takes the steps in one transaction, or if one fails each in its own, so that none fails for another.
    async fn take(&self, mut jobs: Jobs) {
        let fault = match self.try_take(&mut jobs).await {
            Ok(()) => return answer(jobs, Ok(())),
            Err(Failed::Lock(fault)) => return answer(jobs, Err(fault)),
            Err(Failed::Step(fault)) => fault,
        };
        let made_room = fault.kind == StoreErrorKind::Full && self.drop_past(DROPS_WHEN_FULL).await;
        if jobs.len() == 1 && !made_room {
            return answer(jobs, Err(fault));
        }
        for job in jobs {
            let mut alone = vec![job];
            let taken = self.try_take(&mut alone).await.map_err(Failed::into_fault);
            answer(alone, taken);
        }
    }

    async fn try_take(&self, jobs: &mut Jobs) -> Result<(), Failed> {
        let begun = self.connections.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(|error| Failed::Lock(Fault::of(&error)))?;
        let taken = self.take_in(&mut transaction, jobs).await;
        let committed = match taken {
            Ok(()) => transaction.commit().await.map_err(Fault::from),
            Err(fault) => {
                super::roll_back(transaction).await;
                Err(fault)
            }
        };
        committed.map_err(Failed::Step)
    }

    async fn take_in(&self, transaction: &mut Transaction<'static, Sqlite>, jobs: &mut Jobs) -> Result<(), Fault> {
        for job in jobs {
            table::take(transaction, &self.timeline, job.step()).await?;
        }
        Ok(())
    }

    /// Whether anything was dropped. That it could not be is nobody's failure: the next step tells what is wrong.
    async fn drop_past(&self, many: u32) -> bool {
        let dropped = async {
            let mut connection = self.connections.acquire().await?;
            let now = self.timeline.at(Fence::new(0)).now;
            table::drop_past(&mut connection, now, many).await
        };
        dropped.await.unwrap_or_else(|fault: Fault| {
            tracing::debug!(%fault, "no record past its time was dropped");
            false
        })
    }
}

impl Failed {
    fn into_fault(self) -> Fault {
        let (Self::Lock(fault) | Self::Step(fault)) = self;
        fault
    }
}

impl<S: Step> Job for Waiting<S> {
    fn step(&mut self) -> &mut dyn Take {
        &mut self.step
    }

    fn answer(self: Box<Self>, committed: Result<(), Fault>) {
        let Self { step, caller } = *self;
        // Whoever waited may be gone.
        drop(caller.send(committed.and_then(|()| step.into_done().ok_or_else(Fault::unanswered))));
    }
}

type Reply<S> = oneshot::Receiver<Result<<S as Step>::Done, Fault>>;

fn wait_for<S: Step>(step: S) -> (Box<dyn Job>, Reply<S>) {
    let (caller, reply) = oneshot::channel();
    (Box::new(Waiting { step: Pending::new(step), caller }), reply)
}

fn answer(jobs: Jobs, committed: Result<(), Fault>) {
    for job in jobs {
        job.answer(committed.clone());
    }
}
