//! The one task of a process that writes steps: all that wait are taken in one transaction, and share its `fsync`.
//!
//! It takes the write connection for each transaction anew and in turn with the transactions of handlers: the pool of
//! one connection is a fair queue.
//!
//! Once it has the lock, owners go first: what waits behind a long transaction may be a claim of a key whose lease ran out
//! meanwhile, and the renewal or the completion of the operation that still runs under it.

use std::{
    collections::{HashMap, VecDeque},
    iter,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    BEGIN,
    fault::Fault,
    step::{Pending, Step, Take, Timeline},
    table,
    transaction::roll_back,
};
use crate::store::{Fence, Renew, StoreErrorKind, Token};

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

    /// As [`Step::BY_OWNER`].
    fn is_by_owner(&self) -> bool;

    /// A claim that nobody waits for: it would be won for nobody.
    fn is_in_vain(&self) -> bool;

    /// As [`Step::renewal`].
    fn renewal(&self) -> Option<Renew>;

    fn answer(self: Box<Self>, committed: Result<(), Fault>);
}

struct Task {
    connections: SqlitePool,
    timeline: Arc<Timeline>,
    steps: Arc<AtomicU32>,
}

/// What waits for the lock.
struct Queue {
    sent: mpsc::UnboundedReceiver<Jobs>,
    owners: VecDeque<Box<dyn Job>>,
    claims: VecDeque<Jobs>,
    /// Renewals that were refused for want of the lock. Their operations run, and will ask again only later.
    owed: HashMap<Token, Renew>,
}

/// How many steps one transaction takes; those behind them wait for the next, and let a handler's transaction go first.
const STEPS_TOGETHER: usize = 256;

/// After so many steps, or more that were taken together, the writer looks for what is past its time.
const STEPS_PER_DROP: u32 = 32;
/// It drops a few times as much as the steps can have added, of a large batch too: or else the file would grow.
const DROPS_PER_STEP: u32 = 4;
/// How much one transaction drops, so that the transactions of handlers come in between.
const DROPS_TOGETHER: u32 = 4 * STEPS_PER_DROP * DROPS_PER_STEP;

/// How much is dropped when there is no room for a step.
const DROPS_WHEN_FULL: u32 = 1024;

impl Writer {
    /// Spawns the task on this runtime.
    pub(super) fn spawn(connections: SqlitePool, timeline: Arc<Timeline>) -> Self {
        let (sender, jobs) = mpsc::unbounded_channel();
        // The first step looks at once, so that processes that live for few steps leave nothing to each other.
        let steps = Arc::new(AtomicU32::new(STEPS_PER_DROP));
        tokio::spawn(Task { connections, timeline, steps: Arc::clone(&steps) }.run(Queue::new(jobs)));
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
    async fn run(self, mut queue: Queue) {
        while queue.wait().await {
            if !queue.is_empty() {
                self.take_turn(&mut queue).await;
            }
            if self.steps.load(Ordering::Relaxed) >= STEPS_PER_DROP {
                self.drop_after(self.steps.swap(0, Ordering::Relaxed)).await;
            }
        }
    }

    /// Waits for the lock, and takes in one transaction what is there by then; or if a step fails each in its own, so that none
    /// fails for another.
    async fn take_turn(&self, queue: &mut Queue) {
        let transaction = match self.begin().await {
            Ok(transaction) => transaction,
            Err(fault) => return queue.refuse(&fault),
        };
        queue.gather();
        let mut jobs = queue.next();
        self.steps.fetch_add(u32::try_from(jobs.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        let Err(fault) = self.take(transaction, &mut jobs).await else { return answer(jobs, &Ok(())) };
        let made_room = fault.kind == StoreErrorKind::Full && self.drop_past(DROPS_WHEN_FULL).await > 0;
        if jobs.len() == 1 && !made_room {
            return answer(jobs, &Err(fault));
        }
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            match self.begin().await {
                Ok(transaction) => {
                    let mut alone = vec![job];
                    let taken = self.take(transaction, &mut alone).await;
                    answer(alone, &taken);
                }
                // Each of the rest would wait as long for the lock again.
                Err(fault) => iter::once(job).chain(jobs.by_ref()).for_each(|job| queue.refuse_one(job, &fault)),
            }
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Fault> {
        self.connections.begin_with(BEGIN).await.map_err(|error| Fault::of(&error))
    }

    async fn take(&self, mut transaction: Transaction<'static, Sqlite>, jobs: &mut Jobs) -> Result<(), Fault> {
        for job in jobs {
            if let Err(fault) = table::take(&mut transaction, &self.timeline, job.step()).await {
                roll_back(transaction).await;
                return Err(fault);
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Drops what is past its time, in proportion to the steps since the last time.
    async fn drop_after(&self, steps: u32) {
        let mut due = steps.saturating_mul(DROPS_PER_STEP);
        while due > 0 {
            let many = due.min(DROPS_TOGETHER);
            if self.drop_past(many).await < u64::from(many) {
                return;
            }
            due -= many;
        }
    }

    /// How much was dropped. That nothing could be is nobody's failure: the next step tells what is wrong.
    async fn drop_past(&self, many: u32) -> u64 {
        let dropped = async {
            let mut connection = self.connections.acquire().await?;
            let now = self.timeline.at(Fence::new(0)).now;
            table::drop_past(&mut connection, now, many).await
        };
        dropped.await.unwrap_or_else(|fault: Fault| {
            tracing::debug!(%fault, "no record past its time was dropped");
            0
        })
    }
}

impl Queue {
    fn new(sent: mpsc::UnboundedReceiver<Jobs>) -> Self {
        Self { sent, owners: VecDeque::new(), claims: VecDeque::new(), owed: HashMap::new() }
    }

    /// Until something was sent, if nothing waits; `false`: nobody can send anything any more.
    async fn wait(&mut self) -> bool {
        if self.is_empty() {
            let Some(jobs) = self.sent.recv().await else { return false };
            self.push(jobs);
        }
        self.gather();
        true
    }

    fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.claims.is_empty()
    }

    fn gather(&mut self) {
        while let Ok(jobs) = self.sent.try_recv() {
            self.push(jobs);
        }
    }

    fn push(&mut self, jobs: Jobs) {
        match jobs.first() {
            None => {}
            Some(job) if job.is_by_owner() => self.owners.extend(jobs),
            Some(_) => self.claims.push_back(jobs),
        }
    }

    /// What the next transaction takes.
    fn next(&mut self) -> Jobs {
        let owed = self.owed.drain().map(|(_, renew)| wait_for(renew).0);
        let mut together: Jobs = owed.collect();
        while together.len() < STEPS_TOGETHER
            && let Some(job) = self.owners.pop_front()
        {
            together.push(job);
        }
        while together.len() < STEPS_TOGETHER
            && let Some(jobs) = self.claims.pop_front()
        {
            together.extend(jobs.into_iter().filter(|job| !job.is_in_vain()));
        }
        together
    }

    /// Refuses all that waited for the lock.
    fn refuse(&mut self, fault: &Fault) {
        let owners = std::mem::take(&mut self.owners);
        let claims = std::mem::take(&mut self.claims).into_iter().flatten();
        for job in owners.into_iter().chain(claims) {
            self.refuse_one(job, fault);
        }
    }

    fn refuse_one(&mut self, job: Box<dyn Job>, fault: &Fault) {
        self.owed.extend(job.renewal().map(|renew| (renew.token, renew)));
        job.answer(Err(fault.clone()));
    }
}

impl<S: Step> Job for Waiting<S> {
    fn step(&mut self) -> &mut dyn Take {
        &mut self.step
    }

    fn is_by_owner(&self) -> bool {
        S::BY_OWNER
    }

    fn is_in_vain(&self) -> bool {
        !S::BY_OWNER && self.caller.is_closed()
    }

    fn renewal(&self) -> Option<Renew> {
        self.step.renewal()
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

fn answer(jobs: Jobs, committed: &Result<(), Fault>) {
    for job in jobs {
        job.answer(committed.clone());
    }
}
